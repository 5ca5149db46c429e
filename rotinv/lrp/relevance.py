"""Layer-wise relevance propagation through a network, from the logits down to the stamp.

    sum_i R_i = sum_j R_j                                                                        (Eq. 1)

holds from each layer to the one below it, but for what ledger.py accounts for. Class and winners of the
pooling are those of the scoring pass. The activations are summed anew as z+ + z-, without Winograd's
rounding: where z is nearly 0, R_j / z_j must be taken of an a_j that agrees with z_j.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from rotinv.lrp import targets
from rotinv.lrp.rules import Composite
from rotinv.lrp.targets import Target
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import SCORE, Layer, Params, Rule
from rotinv.nn.network import Network


class Trail(NamedTuple):
    """The logits (n, classes) that are explained, and R at each layer's input, then at the logits."""

    logits: Array
    relevance: list[Array]


class Step(NamedTuple):
    """One layer's part of a relevance pass: what it got and what it passed on."""

    name: str
    layer: Layer
    rule: Rule
    p: Params
    saved: Any
    received: Array
    passed: Array


def relevance(
    k: Kernels, network: Network, params: Array, x: Array, composite: Composite, target: Target = "predicted"
) -> Trail:
    """The relevance of stamps at every layer.

    Parameters
    ----------
    k : the kernels of a device
    network, params : the network and its flat array of parameters, on the device
    x : (n, h, w, c), stamps as the network reads them, on the device
    composite : the rule of each layer (rotinv/lrp/rules.py)
    target : what is shared out (rotinv/lrp/targets.py); the logit of the predicted class by default

    Raises
    ------
    UserError
        For a target that the logits do not have, or a layer without a relevance pass.

    Examples
    --------
    >>> import numpy as np
    >>> from rotinv.lrp import rules
    >>> from rotinv.nn.architectures import build
    >>> from rotinv.nn.devices import get_kernels
    >>> network, k = build("cap-mini", size=13, channels=1), get_kernels("reference")
    >>> params, stamps = network.initial("he", seed=0), np.random.default_rng(0).random((2, 13, 13, 1))
    >>> trail = relevance(k, network, params, stamps, rules.named("alpha2beta1"))
    >>> trail.relevance[0].shape
    (2, 13, 13, 1)
    """
    logits, steps = descend(k, network, params, x, composite, target)
    trail = []
    for step in steps:
        trail.append(step.received)
    return Trail(logits, [step.passed, *trail[::-1]])


def descend(
    k: Kernels, network: Network, params: Array, x: Array, composite: Composite, target: Target = "predicted"
) -> tuple[Array, Iterator[Step]]:
    """The logits, and the steps of the relevance pass from the last layer to the first (see `relevance`)."""
    logits, tape = network.record(k, params, x, SCORE)
    signed, p = network.record_signed(k, params, x, tape), network.views(params)
    r = targets.relevance(k, logits, target)
    first = next(i for i, shapes in enumerate(network.param_shapes) if shapes)

    def steps(r: Array) -> Iterator[Step]:
        for i in range(len(network.layers) - 1, -1, -1):
            layer = network.layers[i]
            rule = composite.first if i == first else composite.of(layer.name)
            received, r = r, layer.relevance(k, p[i], signed[i], r, rule)
            yield Step(network.names[i], layer, rule, p[i], signed[i], received, r)

    return logits, steps(r)
