"""The worker that times PyTorch on the same networks: channels-last, eager or compiled, whichever is
faster."""

import sys
import time

import torch
from interleave import serve
from torch import nn
from torch.nn import functional as F

BATCH, SIZES = 50, (50, 250)  # stamps of a training step; batches that are tried in scoring


class Net(nn.Module):
    """Deep-HiTS or CAP as a PyTorch user would write it."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.cap = arch == "cap"
        shapes = [(4, 32, 4, 0), (32, 32, 3, 1), (32, 64, 3, 1), (64, 64, 3, 1), (64, 64, 3, 1)]
        self.convolutions = nn.ModuleList(nn.Conv2d(c, o, s, padding=p) for c, o, s, p in shapes)
        self.dense = nn.ModuleList(
            [nn.Linear(2304 if self.cap else 9216, 64), nn.Linear(64, 64), nn.Linear(64, 2)]
        )
        self.slope = 0.01 if arch == "deephits" else 0.0

    def forward(self, x):
        x = F.pad(x, (3, 3, 3, 3))
        x = torch.cat([torch.rot90(x, turns, (2, 3)) for turns in range(4)])
        x = x.contiguous(memory_format=torch.channels_last)
        for i, convolution in enumerate(self.convolutions):
            x = F.leaky_relu(convolution(x), self.slope) if self.slope else F.relu(convolution(x))
            if i in (1, 4):
                x = F.max_pool2d(x, 2)
        x = x.flatten(1)
        if not self.cap:
            x = x.unflatten(0, (4, -1)).transpose(0, 1).flatten(1)
        for dense in self.dense[:2]:
            x = F.leaky_relu(dense(x), self.slope) if self.slope else F.relu(dense(x))
            x = F.dropout(x, 0.5, self.training)
        if self.cap:
            x = x.unflatten(0, (4, -1)).mean(dim=0)
        return self.dense[2](x)


def operation(net, forward, what, count, size):
    """The work on `count` stamps; they are scored in batches of `size`."""
    stamps = torch.rand(count, 4, 21, 21).contiguous(memory_format=torch.channels_last)
    label = torch.arange(count) % 2
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)

    def training():
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(forward(stamps), label).backward()
        optimiser.step()

    @torch.inference_mode()
    def scoring():
        for batch in stamps.split(size):
            F.softmax(forward(batch), dim=1)

    net.train(what == "training")
    return {"training": training, "scoring": scoring}[what]


def fastest(net, what, count):
    """(name, operation) of the faster of eager and torch.compile, with the best batches, by a short trial."""
    found = []
    for name, forward in (("eager", net), ("compile", torch.compile(net, dynamic=False))):
        for size in sorted({count, *(size for size in SIZES if size < count)}):
            try:
                run = operation(net, forward, what, count, size)
                times = []
                for _ in range(6):
                    started = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - started)
                found.append((min(times), f"{name}, batches of {size}", run))
            except Exception as error:  # torch.compile needs a compiler and may fail in many ways
                print(f"PyTorch {name} left out: {error}", file=sys.stderr)
    _, name, run = min(found, key=lambda entry: entry[0])
    return name, run


if __name__ == "__main__":
    (arch, what, *count), threads = sys.argv[1].split(), int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = Net(arch).to(memory_format=torch.channels_last)
    name, run = fastest(net, what, int(count[0]) if count else BATCH)
    serve(f"PyTorch {torch.__version__} {name}", run)
