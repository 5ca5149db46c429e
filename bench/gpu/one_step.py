"""A few stamps scored in each precision, a training step of each kind, and maps of relevance, for
compute-sanitizer and Nsight Compute.

compute-sanitizer --tool racecheck python3 bench/gpu/one_step.py [STAMPS]
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rotinv.lrp import composites
from rotinv.lrp.relevance import prepared
from rotinv.nn import architectures
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.runs import training
from rotinv.runs.protocol import QUICK, Progress


def main(count: int, kernels: Callable[..., Kernels] = get_kernels) -> None:
    """Score `count` stamps by CAP and Deep-HiTS, train both for a step, in tf32 and in float32, and explain
    the stamps, launch by launch and as a graph."""
    rng = np.random.default_rng(0)
    for arch in ("cap", "deephits"):
        network = architectures.build(arch)
        x, label = np.float32(rng.uniform(size=(count, *network.in_shape))), np.arange(count) % 2
        for precision in ("fp16", "tf32", "fp32"):
            k = kernels("cuda", precision=precision)
            params = k.asarray(np.float32(network.initial("he", 1)))
            scored = network.forward_rotations(k, params, k.asarray(x))
            assert np.isfinite(k.to_host(scored.logits)).all()
            if precision != "fp16":
                grads = k.zeros((network.size,))
                run = training.Run(k, network, QUICK, 1, Path(), params, grads, 0, Progress(1))
                assert np.isfinite(k.to_host(training.step(run, x, label))).all()
        of_block = prepared(k, network, params, composites.named("alpha2beta1"))
        for _ in range(2):
            assert np.isfinite(k.to_host(of_block(k.asarray(x)).relevance[0])).all()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
