"""The worker that times zennit on PyTorch: relevance of 50 stamps by alpha 2, beta 1, on CAP."""

import importlib
import sys
import types

import torch
from interleave import serve
from torch import nn
from torch.nn import functional as F

BATCH = 50


class Cap(nn.Module):
    """CAP with a module for each layer, as zennit needs it; the cyclic mean is an average pooling of four."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(4, 32, 4, 0), (32, 32, 3, 1), (32, 64, 3, 1), (64, 64, 3, 1), (64, 64, 3, 1)]
        layers: list[nn.Module] = []
        for i, (c, o, size, pad) in enumerate(shapes):
            layers += [nn.Conv2d(c, o, size, padding=pad), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i in (1, 4) else []
        self.rotations = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(2304, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.mean = nn.AvgPool1d(4)
        self.last = nn.Linear(64, 2)

    def forward(self, x):
        n = len(x)
        x = F.pad(x, (3, 3, 3, 3))
        x = torch.cat([torch.rot90(x, turns, (2, 3)) for turns in range(4)])
        x = self.rotations(x.contiguous(memory_format=torch.channels_last))
        x = self.mean(torch.stack(x.split(n), dim=-1)).squeeze(-1)
        return self.last(x)


def relevance(net):
    """The operation: relevance of the stamps for the predicted class's logit."""
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import AlphaBeta, Norm, Pass
    from zennit.types import Activation, AvgPool, Convolution, Linear

    alpha_beta = AlphaBeta(alpha=2, beta=1)
    composite = LayerMapComposite(
        [(Activation, Pass()), (AvgPool, Norm()), (Convolution, alpha_beta), (Linear, alpha_beta)]
    )
    stamps = torch.rand(BATCH, 4, 21, 21).contiguous(memory_format=torch.channels_last)

    def predicted(logits):
        return logits * F.one_hot(logits.argmax(dim=1), logits.shape[1])

    def operation():
        with Gradient(model=net, composite=composite) as attributor:
            attributor(stamps.clone().requires_grad_(), predicted)

    return operation


def import_zennit():
    """zennit's version. It imports torchvision for the names of two classes only, so that where torchvision
    does not fit PyTorch (as happens with CPU builds) empty ones do."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        resnet = types.ModuleType("torchvision.models.resnet")
        resnet.Bottleneck = resnet.BasicBlock = type("Absent", (nn.Module,), {})
        for name in ("torchvision", "torchvision.models"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules[resnet.__name__] = resnet
    importlib.import_module("zennit")
    return importlib.import_module("importlib.metadata").version("zennit")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(0)
    version = import_zennit()
    net = Cap().eval().to(memory_format=torch.channels_last)
    serve(f"zennit {version}, PyTorch {torch.__version__}", relevance(net))
