"""The arithmetic of training steps: kernels only, so that a GPU can capture it as a graph."""

from collections.abc import Callable

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import Train
from rotinv.nn.network import Network


def one(
    k: Kernels,
    network: Network,
    params: Array,
    grads: Array,
    weight: Array,
    frozen: int,
    stamps: Array,
    label: Array,
    seed: int,
    step: int,
    rate: float,
) -> Array:
    """A step of SGD on a batch; gives each stamp's cross-entropy.

    `weight` has the weight of each class in the loss; the first `frozen` layers with weights keep them.
    """
    if k.step is not None and not frozen and network.form is not None and k.step.takes(network.form):
        weights = [(p["w"], p["b"]) for p in network.views(params) if p]
        return k.step.take(network.form, params, weights, stamps, label, weight, seed, step, rate)
    logits, tape = network.record(k, params, stamps, Train(seed, step))
    loss, dz = k.softmax.cross_entropy(logits, label, weight)
    network.backward(k, params, grads, tape, dz, frozen=frozen)
    _, start = network.first_trained(frozen)
    k.sgd.update(params[start:], grads[start:], rate)
    return loss


def several(
    k: Kernels,
    network: Network,
    params: Array,
    grads: Array,
    weight: Array,
    frozen: int,
    take: Callable[[Array], Array],
    stamps: Array,
    label: Array,
    seed: int,
    steps: Array,
    rates: Array,
) -> list[Array]:
    """Steps on batches one after another; `steps` and `rates` are arrays on the device, and `take` brings a
    batch's stamps there."""
    parts = k, network, params, grads, weight, frozen
    each = [slice(i, i + 1) for i in range(len(label))]
    return [one(*parts, take(stamps[i]), label[i], seed, steps[at], rates[at]) for i, at in enumerate(each)]
