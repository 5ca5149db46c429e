"""The weights of a network that was trained elsewhere: what a file says of each of its layers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError

HWC, CHW = "hwc", "chw"  # the order in which maps (height, width, channels) were flattened

# Values that training kept beside the weights: optimizers' moments, and averages of weights.
_KEPT_BY_TRAINING = re.compile(
    r"(.*/)?(Adam|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|ExponentialMovingAverage)(_\d+)?"
    r"|optimi[sz]er.*|.*OPTIMIZER_SLOT.*|save_counter.*|_CHECKPOINTABLE.*"
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution's or a dense layer's weights as rotinv has them.

    Attributes
    ----------
    name : str
        What the file calls the layer.
    w : array (height, width, in, out), or (in, out)
    b : array (out,)
    """

    name: str
    w: NDArray[Any]
    b: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Found:
    """The layers of a file.

    Attributes
    ----------
    layers : list of Layer
    ordered : bool
        Whether they come in the order of the network.
    flatten : str
        HWC or CHW: how the network flattened its maps.
    about : mapping of str to str
        What the file says besides, as an export of rotinv does.
    """

    layers: list[Layer]
    ordered: bool
    flatten: str
    about: Mapping[str, str]


def layers_of(
    path: object, arrays: Mapping[str, NDArray[Any]], layout: str | None, flatten: str | None, ordered: bool
) -> Found:
    """The layers of named arrays: those of one stem, as `fc1/kernel` and `fc1/bias`, are a layer.

    `layout` says whether weights have their channels first, (out, in, height, width) and (out, in), or last,
    (height, width, in, out) and (in, out); None: their biases tell. Networks whose channels come first
    flatten maps as CHW, unless `flatten` says otherwise. Raises UserError if the biases do not tell, for
    weights without a bias, and for arrays of layers that rotinv's networks do not have.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        if not _KEPT_BY_TRAINING.fullmatch(name):
            groups.setdefault(_stem(name), {})[name] = array
    pairs = {stem: pair for stem, group in groups.items() if (pair := _pair(path, group))}
    if not pairs:
        raise UserError(f"{path}: holds no weights of convolutions or dense layers")
    for stem in groups.keys() - pairs.keys():
        _refuse_other_layer(path, groups[stem])
    first = _channels_first(path, pairs) if layout is None else layout == "first"
    layers = [Layer(stem, _last(w) if first else w, b) for stem, (w, b) in pairs.items()]
    return Found(layers, ordered, flatten or (CHW if first else HWC), {})


def _stem(name: str) -> str:
    """The name of the layer that an array belongs to."""
    return re.split(r"[./](?=[^./]*$)", name)[0]


def _pair(path: object, group: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The weights and the bias of a layer, if it has weights."""
    weights = [name for name, array in group.items() if array.ndim in (2, 4)]
    biases = [array for array in group.values() if array.ndim == 1]
    if not weights:
        return None
    if len(weights) > 1 or len(biases) != 1:
        raise UserError(
            f"{path}: {weights[0]} has {len(biases)} biases beside it; rotinv's layers have weights and one "
            "bias"
        )
    return group[weights[0]], biases[0]


def _refuse_other_layer(path: object, group: Mapping[str, NDArray[Any]]) -> None:
    """Raise UserError for numbers of a layer without weights, as a batch normalisation; single ones, as a
    count of steps, are of no layer."""
    for name, array in group.items():
        if array.dtype.kind == "f" and array.size > 1:
            shape = " x ".join(map(str, array.shape))
            raise UserError(
                f"{path}: {name} ({shape}) is of a layer that rotinv's networks do not have, as a batch "
                "normalisation; they have convolutions and dense layers, with biases"
            )


def _channels_first(path: object, pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> bool:
    """Whether all weights have as many rows, or first channels, as their bias has values."""
    fits = {
        first: all(w.shape[0 if first else -1] == len(b) for w, b in pairs.values())
        for first in (True, False)
    }
    if fits[True] == fits[False]:
        how = "both" if fits[True] else "neither"
        raise UserError(f"{path}: its channels come first or last, {how} would do; say which by --layout")
    return fits[True]


def _last(w: NDArray[Any]) -> NDArray[Any]:
    """Weights (out, in, h, w) as (h, w, in, out), and (out, in) as (in, out)."""
    return np.transpose(w, (2, 3, 1, 0)) if w.ndim == 4 else w.T
