"""What a page needs to compute a stamp's score and map anew, when a reader changes its pixels (engine.js)."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites
from rotinv.lrp.rules import AlphaBeta, Flat, WSquare, ZBox, ZPlus
from rotinv.lrp.viewer.fragments import Document
from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Dropout, Flatten, Layer, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.runs.model import Model
from rotinv.system.errors import UserError

_TERMS: dict[type[Any], str] = {ZPlus: "no bias", WSquare: "squares", Flat: "ones", ZBox: "box"}
_KINDS: dict[type[Layer], str] = {
    **{ZeroPad: "pad", CyclicSlice: "slice", Flatten: "flatten"},
    **{CyclicMean: "mean", CyclicConcat: "concat"},
}


def weights(model: Model, texts: Sequence[str]) -> Document:
    """The layers of a model, what they go by under each of the rules, and its parameters as 32-bit
    floating-point numbers, of CAP 1.4 MB of text."""
    network = model.network
    layers = [_layer(network, i) for i in range(len(network.layers))]
    return {
        "layers": [one for one in layers if one],
        "rules": [rules(network, text) for text in texts],
        "weights": as_text(model.params),
    }


def as_text(values: NDArray[Any]) -> str:
    """Numbers as base64 of little-endian 32-bit floating-point ones."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def rules(network: Network, text: str) -> list[Document]:
    """A rule or composite as the page computes it: what each layer that `weights` tells of goes by."""
    composite, first = composites.named(text), network.weighted[0]
    found = []
    for i, layer in enumerate(network.layers):
        if not isinstance(layer, Dropout):
            rule = composite.of(network.names[i], network.out_shapes[i], is_first=i == first)
            found.append(_numbers(rule))
    return found


def _numbers(rule: Any) -> Document:
    """A rule's shares, its terms (engine.js), and how it shares a mean."""
    terms, equal = _TERMS.get(type(rule), "own"), rule.mean == "equal"
    if isinstance(rule, AlphaBeta):
        return {**vars(rule), "conserve": rule.one_sided == "conserve", "terms": terms, "equal": equal}
    if isinstance(rule, ZPlus):
        return {"alpha": 1, "beta": 0, "eps": 0, "conserve": False, "terms": terms, "equal": equal}
    return {"gamma": 0, "eps": 0, **vars(rule), "terms": terms, "equal": equal}


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
