"""The worker that times this engine: a training step, a scoring pass or relevance of a network, batch 50."""

import sys

import numpy as np
from interleave import serve

from rotinv import architectures, rules
from rotinv.backend import get_kernels
from rotinv.layers import Train

BATCH = 50


def operation(name: str, threads: int):
    arch, what = name.split()
    k, network = get_kernels("cpu", threads), architectures.build(arch)
    params, grads = k.asarray(network.initial("he", 0)), k.zeros((network.size,))
    stamps = k.asarray(np.random.default_rng(0).uniform(size=(BATCH, *network.in_shape)))
    label = k.asindex(np.arange(BATCH) % 2)

    def training():
        logits, tape = network.record(k, params, stamps, Train(0, 0))
        _, dz = k.softmax.cross_entropy(logits, label)
        network.backward(k, params, grads, tape, dz)
        k.sgd.update(params, grads, 0.01)

    def scoring():
        k.softmax.forward(network.forward(k, params, stamps))

    def relevance():
        network.relevance(k, params, stamps, rules.named(what))

    return {"training": training, "scoring": scoring}.get(what, relevance)


if __name__ == "__main__":
    name, threads = sys.argv[1], int(sys.argv[2])
    serve("rotinv", operation(name, threads))
