"""Maps by derivatives d of what is explained: one pass of the layers' own backward.

"gradient" is d itself (saliency, Simonyan et al. 2014), "gradient-x-input" a d. "deconvnet" (Zeiler and
Fergus 2014) puts act(d) in place of d act'(z) at each rectifier, and "guided" (Springenberg et al. 2015)
act(d) act'(z). For leaky rectifiers act is the leaky one.

Activations and winners are those that LRP sees (relevance.py): gradient times input is its rule 0.
"""

import dataclasses
from typing import Any, NamedTuple

from rotinv.lrp import targets
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import SCORE
from rotinv.nn.network import Network

METHODS = ("gradient", "gradient-x-input", "deconvnet", "guided")


class Recorded(NamedTuple):
    """A forward pass: what each layer reads, then the logits; and what each layer saved."""

    inputs: list[Array]
    tape: list[Any]


def maps(
    k: Kernels, network: Network, params: Array, x: Array, method: str, target: targets.Target
) -> tuple[Array, list[Array]]:
    """The logits that are explained, and the map at each layer's input, then at the logits, by one of
    METHODS."""
    logits = network.forward(k, params, x)
    recorded = record(k, network, params, x, exact_z=True)
    d = descend(k, network, params, recorded.tape, targets.gradient(k, logits, target), method)
    if method == "gradient-x-input":
        d = [a * one for a, one in zip([*recorded.inputs[:-1], logits], d, strict=True)]
    return logits, d


def record(k: Kernels, network: Network, params: Array, x: Array, *, exact_z: bool) -> Recorded:
    """The forward pass of scoring, or, slower, one whose sums z are exact: winners and signs then do not
    depend on rounding."""
    inputs, tape = [x], []
    for layer, p in zip(network.layers, network.views(params), strict=True):
        x, saved = layer.forward_signed(k, p, x, True) if exact_z else layer.forward(k, p, x, SCORE)
        inputs.append(x)
        tape.append(saved)
    return Recorded(inputs, tape)


def descend(
    k: Kernels, network: Network, params: Array, tape: list[Any], d: Array, method: str = "gradient"
) -> list[Array]:
    """The derivatives at each layer's input, then `d`, the one at the logits (n, classes)."""
    views, unused = network.views(params), network.views(k.zeros((network.size,)))
    found = [d]
    for i in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[i]
        slope = getattr(layer, "slope", 1.0)
        if method in ("deconvnet", "guided"):
            d = k.activation.forward(d, slope)
        if method == "deconvnet" and slope != 1:
            layer = dataclasses.replace(layer, slope=1.0)  # type: ignore[type-var]
        d = layer.backward(k, views[i], unused[i], tape[i], d, True)
        found.append(d)
    return found[::-1]
