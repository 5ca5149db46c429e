"""The worker that times PyTorch on a GPU: eager, captured as one graph, or compiled with graphs, whichever is
fastest.

tf32 is allowed if the second argument is tf32; with fp16 the network and the stamps are in halves. "ceiling
…" are the card's own limits, measured with PyTorch.
"""

import sys
import time

import torch
from interleave import serve
from pytorch import Net
from torch.nn import functional as F

BATCH, SCORED, REPEATS, SIDE = 50, 2000, 20, 8192


def operation(net, forward, what, memory_format, dtype):
    count = BATCH if what == "training" else SCORED
    host = torch.rand(count, 4, 21, 21).to(dtype).contiguous(memory_format=memory_format)
    stamps, label = host.cuda(), (torch.arange(count) % 2).cuda()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)

    def training():
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(forward(stamps), label).backward()
        optimiser.step()

    @torch.inference_mode()
    def scoring():
        F.softmax(forward(stamps), dim=1)

    @torch.inference_mode()
    def uploaded():
        F.softmax(forward(host.pin_memory().cuda(non_blocking=True)), dim=1)

    net.train(what == "training")
    return {"training": training, "scoring": scoring, "scoring uploaded": uploaded}[what]


def several(run):
    def repeated():
        for _ in range(REPEATS):
            run()
        torch.cuda.synchronize()

    return repeated


def graphed(run):
    """The operation captured as one graph: forward, backward and update."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def fastest(arch, what, dtype):
    """(name, operation) of the fastest way, found by a short trial of each.

    Only channels-last is compiled, since a compilation takes up to a minute.
    """
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = Net(arch).cuda().to(dtype).to(memory_format=layout)
        ways = {"eager": lambda run: run}
        if what in ("training", "scoring"):  # an upload is of new stamps each time
            ways["one graph"] = graphed
        if layout == torch.channels_last:
            ways["compile, graphs"] = lambda run: run
        for name, way in ways.items():
            forward = torch.compile(net, mode="reduce-overhead") if name.startswith("compile") else net
            try:
                run = several(way(operation(net, forward, what, layout, dtype)))
                times = []
                for _ in range(5):
                    started = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - started)
                found.append((min(times), f"{name}{', NHWC' * (layout == torch.channels_last)}", run))
            except Exception as error:  # torch.compile may fail in many ways
                print(f"PyTorch {name} left out: {error}", file=sys.stderr)
    _, name, run = min(found, key=lambda entry: entry[0])
    return name, run


def ceiling(what):
    """(operation, how much it does): a product of large matrices, or a copy (bytes read and written)."""
    a, b = (torch.rand(SIDE, SIDE, device="cuda") for _ in range(2))
    if what == "memory":
        return several(lambda: b.copy_(a)), 2.0 * 4 * SIDE**2
    return several(lambda: torch.matmul(a, b)), 2.0 * SIDE**3


if __name__ == "__main__":
    first, what, precision = *sys.argv[1].split(" ", 1), sys.argv[2]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    version = f"PyTorch {torch.__version__}"
    if first == "ceiling":
        serve(version, *ceiling(what), REPEATS)
    else:
        name, run = fastest(first, what, torch.float16 if precision == "fp16" else torch.float32)
        serve(f"{version} {name}", run, 0, REPEATS)
