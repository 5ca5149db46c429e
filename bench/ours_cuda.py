"""The worker that times rotinv on a GPU; its second argument is the precision."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import operations
from interleave import serve

from rotinv.lrp import composites
from rotinv.lrp.relevance import prepared
from rotinv.nn import architectures
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.runs.protocol import QUICK, Progress
from rotinv.runs.training import Run

REPEATS = 20  # between two waits for the GPU
SCORED = 2000  # stamps


def training(k: Kernels, arch: str) -> operations.Operation:
    """A training step as training.py runs it, as one graph; the batch is on the GPU."""
    network = architectures.build(arch)
    params, grads = k.asarray(network.initial("he", 0)), k.zeros((network.size,))
    stamps = k.asarray(np.random.default_rng(0).uniform(size=(operations.BATCH, *network.in_shape)))
    label = k.asindex(np.arange(operations.BATCH) % 2)
    run = Run(k, network, QUICK, 0, Path(), params, grads, 0, Progress(1))
    flops = operations.operation(k, f"{arch} training").flops
    return operations.Operation(lambda: run.arithmetic(stamps, label, 0, 1, 0.01), flops)


def scoring(k: Kernels, arch: str, upload: bool) -> operations.Operation:
    """Scoring of SCORED stamps at once, which are on the GPU already or in the host's memory."""
    network = architectures.build(arch)
    params = k.asarray(network.initial("he", 0))
    host = np.random.default_rng(0).uniform(size=(SCORED, *network.in_shape)).astype(np.float32)
    there = k.asarray(host)
    flops = operations.operation(k, f"{arch} scoring").flops * SCORED / operations.BATCH
    run = lambda: k.softmax.forward(network.forward(k, params, k.asarray(host) if upload else there))  # noqa: E731
    return operations.Operation(run, flops)


def explaining(k: Kernels, arch: str, rule: str) -> operations.Operation:
    """Relevance of a block of stamps, as one graph where the rule allows it; the stamps are on the GPU."""
    network = architectures.build(arch)
    params = k.asarray(network.initial("he", 0))
    stamps = k.asarray(np.random.default_rng(0).uniform(size=(operations.BATCH, *network.in_shape)))
    of_block = prepared(k, network, params, composites.named(rule))
    of_block(stamps)  # the next one makes the graph
    return operations.Operation(lambda: of_block(stamps), operations.operation(k, f"{arch} {rule}").flops)


def operation(k: Kernels, name: str) -> operations.Operation:
    """The operation of that name."""
    arch, what, *more = name.split()
    if what == "training":
        return training(k, arch)
    if what == "scoring":
        return scoring(k, arch, more == ["uploaded"])
    return operations.operation(k, name) if arch in ("conv2d", "dense") else explaining(k, arch, what)


def several(run: Callable[[], object]) -> Callable[[], None]:
    """REPEATS calls of it, and a wait for the last."""
    import cupy

    def repeated() -> None:
        for _ in range(REPEATS):
            run()
        cupy.cuda.get_current_stream().synchronize()

    return repeated


if __name__ == "__main__":
    name, precision = sys.argv[1:]
    found = operation(get_kernels("cuda", precision=precision), name)
    serve(f"rotinv {precision}", several(found.run), found.flops, REPEATS)
