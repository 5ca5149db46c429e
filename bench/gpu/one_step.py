"""A few stamps scored in each precision, and a training step, for compute-sanitizer and Nsight Compute.

compute-sanitizer --tool racecheck python3 bench/gpu/one_step.py [STAMPS]
"""

import sys

import numpy as np

from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train


def main(count: int) -> None:
    """Score `count` stamps by CAP and Deep-HiTS, and train CAP for a step."""
    rng = np.random.default_rng(0)
    for arch in ("cap", "deephits"):
        network = architectures.build(arch)
        params = np.float32(network.initial("he", 1))
        x = np.float32(rng.uniform(size=(count, *network.in_shape)))
        for precision in ("fp16", "tf32"):
            k = get_kernels("cuda", precision=precision)
            there, stamps = k.asarray(params), k.asarray(x)
            assert np.isfinite(k.to_host(network.forward_rotations(k, there, stamps).logits)).all()
        if arch == "cap":
            logits, tape = network.record(k, there, stamps, Train(1, 1))
            label = k.asindex(np.arange(count) % logits.shape[1])
            loss, dz = k.softmax.cross_entropy(logits, label, k.asarray(np.ones(logits.shape[1])))
            network.backward(k, there, k.zeros((network.size,)), tape, dz)
            assert np.isfinite(k.to_host(loss)).all()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
