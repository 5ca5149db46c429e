"""Makes the networks that tests/test_graphs.py audits, exported by PyTorch, and what PyTorch and zennit make
of them.

    python tests/networks/make.py

needs PyTorch and zennit (the extra `bench`). It writes NAME.onnx, with random weights of a fixed seed, and
NAME.npz: `stamps`, PyTorch's `logits`, and zennit's map of the predicted class by each rule. All is float64,
so that nothing but the equations can differ.

Where zennit differs from the equations, that is undone here: it stabilises every division (here by 1e-300),
leaves the bias in z+ and w² (`zero_params`), does not see functions such as a sum of branches or a mean,
which are modules here, and in 0.5.1 forgets the eps of the batch normalisations that it merges into
convolutions: PyTorch's own merging is used. In w² and flat it shares means and sums of branches in
proportion to their inputs, not equally as these rules' equations say: only `plain`, which has neither, is
compared by them.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

HERE = Path(__file__).resolve().parent
SMALLEST = 1e-300
SLOPE = 2.0**-7  # ONNX keeps it in single precision: 0.01 would be rounded


class Sum(nn.Module):
    """The sum of branches that are stacked along the last axis."""

    def forward(self, x):
        return x.sum(dim=-1)


class Block(nn.Module):
    """A residual block of ResNet."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.one = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.normal_one = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.two = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.normal_two = nn.BatchNorm2d(out)
        self.short, self.normal_short = None, None
        if stride > 1:
            self.short = nn.Conv2d(width, out, 1, stride, bias=False)
            self.normal_short = nn.BatchNorm2d(out)
        self.sum, self.last = Sum(), nn.ReLU()

    def forward(self, x):
        y = self.normal_two(self.two(self.relu(self.normal_one(self.one(x)))))
        short = x if self.short is None else self.normal_short(self.short(x))
        return self.last(self.sum(torch.stack([y, short], dim=-1)))


class Resnet(nn.Module):
    """A small ResNet with batch normalisation: two blocks, the second of half the size."""

    shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.stem, self.normal_stem, self.relu = nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.blocks = nn.Sequential(Block(6, 6, 1), Block(6, 10, 2))
        self.pool, self.flat, self.last = nn.AvgPool2d(8), nn.Flatten(), nn.Linear(10, 4)

    def forward(self, x):
        x = self.blocks(self.relu(self.normal_stem(self.stem(x))))
        return self.last(self.flat(self.pool(x)))


class Cyclic(nn.Module):
    """A small CAP, or a small Deep-HiTS, whose cyclic mean is an average pooling of 4 x 1."""

    shape = (2, 13, 13)

    def __init__(self, mean):
        super().__init__()
        act = nn.ReLU if mean else lambda: nn.LeakyReLU(SLOPE)
        self.rotations = nn.Sequential(
            *(nn.Conv2d(2, 4, 4), act(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), act()),
            *(nn.MaxPool2d(2), nn.Flatten()),
        )
        side = 6 * 4 * 4
        self.dense = nn.Sequential(nn.Linear(side if mean else 4 * side, 8), act(), nn.Dropout(0.5))
        self.mean = nn.AvgPool2d((4, 1)) if mean else None
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        x = F.pad(x, (3, 3, 3, 3))
        x = self.rotations(torch.cat([torch.rot90(x, turns, (2, 3)) for turns in range(4)]))
        if self.mean is None:
            return self.last(self.dense(x.unflatten(0, (4, -1)).transpose(0, 1).flatten(1)))
        x = self.dense(x).unflatten(0, (4, -1)).permute(1, 2, 0)
        return self.last(self.mean(x[..., None]).flatten(1))


def lenet():
    """LeNet-5, with average pooling and max-pooling."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)),
    )


def plain():
    """Strides, dilation, groups, overlapping windows: no mean, and no sum of branches."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        *(nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3)),
    )


NETWORKS = {
    "plain": (plain, (3, 16, 16)),
    "lenet": (lenet, (1, 16, 16)),
    "resnet": (Resnet, Resnet.shape),
    "cap": (lambda: Cyclic(True), Cyclic.shape),
    "deephits": (lambda: Cyclic(False), Cyclic.shape),
}


def network(name):
    """The network of that name and its stamps (2, c, h, w), of a fixed seed."""
    make, shape = NETWORKS[name]
    torch.manual_seed(list(NETWORKS).index(name))
    found = make().double().eval()
    for layer in found.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
            nn.init.normal_(layer.running_mean, 0, 0.2)
    return found, torch.rand(2, *shape, dtype=torch.float64)


def export(name, path, dynamo=True):
    """Write a network by PyTorch's exporter; its older one (`dynamo` False) keeps batch normalisations."""
    found, stamps = network(name)
    if dynamo:
        how = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=2)},), "external_data": False}
    else:
        how = {"dynamic_axes": {"stamps": {0: "batch"}}, "do_constant_folding": False}
        how["training"] = torch.onnx.TrainingMode.PRESERVE
    names = {"input_names": ["stamps"], "output_names": ["logits"]}
    torch.onnx.export(found, (stamps,), path, dynamo=dynamo, verbose=False, **names, **how)


def rules():
    """zennit's rules by the names of rotinv's composites."""
    from zennit import rules as z

    free = {"stabilizer": SMALLEST}
    return {
        "alpha2beta1": z.AlphaBeta(2, 1, **free),
        "alpha1beta0": z.AlphaBeta(1, 0, **free),
        "epsilon": z.Epsilon(1e-6),
        "epsilon:eps=0.01": z.Epsilon(0.01),
        "gamma": z.Gamma(0.25, **free),
        "zplus": z.ZPlus(**free, zero_params="bias"),
        "wsquare": z.WSquare(**free, zero_params="bias"),
        "flat": z.Flat(**free),
    }


def maps(name, rule):
    """zennit's maps (2, c, h, w) of the predicted classes."""
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import Norm, Pass
    from zennit.types import Activation, AvgPool, Convolution, Linear

    found, stamps = network(name)
    merge_batch_norms(found)
    norm = Norm(SMALLEST)
    layers = [(Activation, Pass()), (AvgPool, norm), (Sum, norm), (Convolution, rule), (Linear, rule)]

    def predicted(logits):
        return logits * F.one_hot(logits.argmax(dim=1), logits.shape[1])

    with Gradient(model=found, composite=LayerMapComposite(layers)) as attributor:
        return attributor(stamps.requires_grad_(), predicted)[1].numpy()


def merge_batch_norms(found):
    """Multiply each batch normalisation into the convolution that it is named after."""
    for module in list(found.modules()):
        for name, child in list(module.named_children()):
            if name.startswith("normal_") and child is not None:
                of = name.removeprefix("normal_")
                setattr(module, of, fuse_conv_bn_eval(getattr(module, of), child))
                setattr(module, name, nn.Identity())


def expected(name):
    """What NAME.npz holds."""
    found, stamps = network(name)
    with torch.no_grad():
        kept = {"stamps": stamps.numpy(), "logits": found(stamps).numpy()}
    for rule, own in rules().items():
        if name == "plain" or rule not in ("wsquare", "flat"):
            kept[rule] = maps(name, own)
    return kept


def main():
    """Write all files."""
    for name in NETWORKS:
        export(name, HERE / f"{name}.onnx")
    export("resnet", HERE / "resnet_normalised.onnx", dynamo=False)
    sys.path[:0] = [str(HERE.parents[1] / "bench"), str(HERE.parents[1] / "bench" / "peers")]
    from zennit_lrp import import_zennit

    print(f"PyTorch {torch.__version__}, zennit {import_zennit()}")
    for name in NETWORKS:
        np.savez_compressed(HERE / f"{name}.npz", **expected(name))


if __name__ == "__main__":
    main()
