"""What a page needs to compute a stamp's score and map anew, when a reader changes its pixels (engine.js)."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites
from rotinv.lrp.rules import AlphaBeta, Epsilon, Gamma
from rotinv.lrp.viewer.fragments import Document
from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Dropout, Flatten, Layer, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.runs.model import Model
from rotinv.system.errors import UserError

RULES = "alpha-beta (as alpha2beta1), epsilon, zero or gamma, one for all layers"
_KINDS: dict[type[Layer], str] = {
    **{ZeroPad: "pad", CyclicSlice: "slice", Flatten: "flatten"},
    **{CyclicMean: "mean", CyclicConcat: "concat"},
}


def weights(model: Model) -> Document:
    """The layers of a model, and its parameters as 32-bit floating-point numbers, of CAP 1.4 MB of text."""
    network = model.network
    layers = [_layer(network, i) for i in range(len(network.layers))]
    return {"layers": [one for one in layers if one], "weights": as_text(model.params)}


def as_text(values: NDArray[Any]) -> str:
    """Numbers as base64 of little-endian 32-bit floating-point ones."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def rule_numbers(text: str) -> Document:
    """A rule as the page computes it. Raises UserError for one that it cannot."""
    composite = composites.named(text)
    rule = composite.first
    if composite == composites.Composite.everywhere(rule):
        if isinstance(rule, AlphaBeta):
            return {**vars(rule), "conserve": rule.one_sided == "conserve"}
        if isinstance(rule, Epsilon):
            return {"gamma": 0, "eps": rule.eps}
        if isinstance(rule, Gamma):
            return vars(rule)
    raise UserError(f"--editable: the page cannot compute the rule {text!r}; take {RULES}")


def _layer(network: Network, i: int) -> Document:
    """A layer as engine.js reads it; dropout, which does nothing here, is left out."""
    layer: Any = network.layers[i]
    if isinstance(layer, Dropout):
        return {}
    if isinstance(layer, Conv2d | Dense):
        *window, filters = network.param_shapes[i]["w"]
        kind = {"kind": "weighted", "inputs": int(np.prod(window)), "filters": filters, "slope": layer.slope}
        if isinstance(layer, Dense):
            return {**kind, "size": 1, "pad": 0, "pool": 1}
        return {**kind, "size": layer.size, "pad": layer.pad, "pool": layer.pool}
    if type(layer) not in _KINDS:
        raise UserError(f"--editable: the page cannot compute the layer {network.names[i]!r}")
    return {"kind": _KINDS[type(layer)], "pad": getattr(layer, "pad", 0)}
