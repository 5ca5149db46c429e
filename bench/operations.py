"""The operations that are timed, by name: how rotinv does each, and how much arithmetic it is.

Names are "ARCH training", "ARCH scoring", "ARCH RULE" (relevance), each for a batch of 50 stamps or of as
many as a third word says, and "FAMILY PASS N SHAPE" for a kernel at a shape of the networks. Arithmetic is
counted as for direct sums, two operations per product. An algorithm that needs fewer, such as Winograd's, may
therefore pass the machine's peak.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from rotinv.lrp import composites
from rotinv.lrp.relevance import Trail, relevance
from rotinv.nn import architectures
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import SCORE, Train
from rotinv.nn.network import Network

BATCH = 50
TRAINING = ("cap training", "deephits training")
SCORING = ("cap scoring", "cap scoring 2000", "deephits scoring")
RELEVANCE = ("cap alpha2beta1",)
DENSE = ("dense forward 200x2304x64", "dense backward_input 200x2304x64", "dense backward_params 200x2304x64")
_SHAPES = ("200x27x27x4 4x4x32 pad 0", "200x24x24x32 3x3x32 pad 1", "200x12x12x64 3x3x64 pad 1")
_PASSES = ("forward", "backward", "backward_params", "contributions", "redistribute")
CONVOLUTIONS = tuple(f"conv2d {name} {shape}" for shape in _SHAPES for name in _PASSES)


class Operation(NamedTuple):
    """A piece of work, and how many floating-point operations it is."""

    run: Callable[[], object]
    flops: float


def operation(k: Kernels, name: str) -> Operation:
    """The operation of that name on a device."""
    family, what, *shape = name.split()
    if family == "conv2d":
        return _convolution(k, what, shape)
    if family == "dense":
        return _dense(k, what, shape[0])
    return _network(k, family, what, int(shape[0]) if shape else BATCH)


def _network(k: Kernels, arch: str, what: str, batch: int) -> Operation:
    network = architectures.build(arch)
    params, grads = k.asarray(network.initial("he", 0)), k.zeros((network.size,))
    stamps = k.asarray(np.random.default_rng(0).uniform(size=(batch, *network.in_shape)))
    label = k.asindex(np.arange(batch) % 2)

    def training() -> None:
        logits, tape = network.record(k, params, stamps, Train(0, 0))
        _, dz = k.softmax.cross_entropy(logits, label, k.asarray([1.0, 1.0]))
        network.backward(k, params, grads, tape, dz)
        k.sgd.update(params, grads, 0.01)

    def scoring() -> None:
        k.softmax.forward(network.forward(k, params, stamps))

    def explaining() -> Trail:
        return relevance(k, network, params, stamps, composites.named(what))

    each = list(_flops(k, network, params, stamps))
    if what == "training":
        return Operation(training, 3 * sum(each) - each[0])  # the stamps need no gradient
    if what == "scoring":
        return Operation(scoring, sum(each))
    return Operation(explaining, 5 * sum(each))  # a forward pass, z+ and z-, and both sides redistributed


def _flops(k: Kernels, network: Network, params: Array, stamps: Array) -> Iterator[float]:
    """The operations of the forward pass of each layer with weights."""
    _, tape = network.record(k, params, stamps, SCORE)
    for layer, shapes, saved in zip(network.layers, network.param_shapes, tape, strict=True):
        if "w" in shapes:
            is_map = hasattr(layer, "map_shape")
            pixels = math.prod(layer.map_shape(saved.a.shape[1:])[:2]) if is_map else 1
            yield 2.0 * len(saved.a) * pixels * math.prod(shapes["w"])


def _convolution(k: Kernels, what: str, shape: list[str]) -> Operation:
    """A convolution with a shape such as "200x24x24x32 3x3x32 pad 1": stamps, taps and outputs, padding."""
    (n, height, width, c), (i, j, o), pad = _numbers(shape[0]), _numbers(shape[1]), int(shape[3])
    rng = np.random.default_rng(0)
    x, w = k.asarray(rng.uniform(size=(n, height, width, c))), k.asarray(rng.normal(size=(i, j, c, o)))
    b, dw, db = k.zeros((o,)), k.zeros(w.shape), k.zeros((o,))
    p, q = height + 2 * pad - i + 1, width + 2 * pad - j + 1
    dz = k.asarray(rng.normal(size=(n, p, q, o)))
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: k.conv2d.forward(x, w, b, pad, 0.0, 1),
        "backward": lambda: k.conv2d.backward(x, w, dz, None, dz, pad, 0.0, dw, db, True),
        "backward_params": lambda: k.conv2d.backward(x, w, dz, None, dz, pad, 0.0, dw, db, False),
        "contributions": lambda: k.conv2d.contributions(x, w, b, pad),
        "redistribute": lambda: k.conv2d.redistribute(x, w, dz, dz, pad),
    }
    sides = 2 if what in ("backward", "contributions", "redistribute") else 1
    return Operation(calls[what], sides * 2.0 * n * p * q * math.prod(w.shape))


def _dense(k: Kernels, what: str, shape: str) -> Operation:
    """A dense layer with a shape such as "200x2304x64": rows, inputs, outputs."""
    n, c, o = _numbers(shape)
    rng = np.random.default_rng(0)
    x, w, dz = (k.asarray(rng.normal(size=size)) for size in ((n, c), (c, o), (n, o)))
    b, dw, db = k.zeros((o,)), k.zeros((c, o)), k.zeros((o,))
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: k.dense.forward(x, w, b, 1.0),
        "backward_input": lambda: k.dense.backward_input(dz, w),
        "backward_params": lambda: k.dense.backward_params(x, dz, dw, db),
    }
    return Operation(calls[what], 2.0 * n * c * o)


def _numbers(shape: str) -> list[int]:
    return [int(number) for number in shape.split("x")]
