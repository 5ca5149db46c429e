"""Which layer of a file is which layer of a network: by shape, and where shapes are alike by order."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.deploy.layer_weights import CHW, Found, Layer
from rotinv.nn.cyclic import CyclicConcat
from rotinv.nn.layers import Flatten
from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.system.errors import UserError


class Match(NamedTuple):
    """A layer of the network, the file's layer that it is, and what told so."""

    ours: str
    theirs: Layer
    by: str

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.theirs.w.shape))
        return f"{self.ours:<8} <- {self.theirs.name}  ({shape}, by {self.by})"


def match(path: object, network: Network, found: Found, chosen: Mapping[str, str]) -> list[Match]:
    """The file's layer for each layer of the network that has weights; `chosen` names some, ours by theirs.

    Raises UserError if there are more or fewer layers of a shape than the network has, or if nothing tells
    layers of one shape apart.
    """
    wanted = {names["w"].partition("/")[0]: shapes["w"] for names, shapes in _weighted(network)}
    by_name = {layer.name: layer for layer in found.layers}
    for ours, theirs in chosen.items():
        if ours not in wanted or theirs not in by_name:
            raise UserError(
                f"--map {ours}={theirs}: the network has {', '.join(wanted)}; {path} has {', '.join(by_name)}"
            )
    matches = {ours: Match(ours, by_name[theirs], "--map") for ours, theirs in chosen.items()}
    of_shape: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, shape in wanted.items():
        if name not in chosen:
            of_shape[shape].append(name)
    left = [layer for layer in found.layers if layer.name not in chosen.values()]
    for shape, names in of_shape.items():
        fitting = [layer for layer in left if layer.w.shape == shape]
        if len(fitting) != len(names):
            raise UserError(_counted(path, shape, names, fitting, left))
        ordered, by = _in_order(path, names, fitting, found.ordered)
        matches |= {ours: Match(ours, layer, by) for ours, layer in zip(names, ordered, strict=True)}
    if extra := [layer.name for layer in left if layer not in [one.theirs for one in matches.values()]]:
        raise UserError(f"{path}: {extra[0]} belongs to no layer of the network")
    return [matches[name] for name in wanted]


def parameters(path: object, network: Network, found: Found, matches: Sequence[Match]) -> NDArray[np.float64]:
    """The network's flat parameters. Raises UserError for biases of another length, and for NaN."""
    arrays: dict[str, NDArray[Any]] = {}
    for one in matches:
        w = one.theirs.w
        if found.flatten == CHW and one.ours == "dense1":
            w = _from_channels_first(network, w)
        arrays |= {f"{one.ours}/w": w, f"{one.ours}/b": one.theirs.b}
    return checkpoints.from_named(network, arrays, str(path))


def _weighted(network: Network) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """The names and shapes of the arrays of each layer that has some."""
    pairs = zip(checkpoints.names(network), network.param_shapes, strict=True)
    return [(names, shapes) for names, shapes in pairs if shapes]


def _counted(path: object, shape: Any, names: list[str], fitting: list[Layer], left: list[Layer]) -> str:
    size = " x ".join(map(str, shape))
    have = ", ".join(f"{one.name} ({' x '.join(map(str, one.w.shape))})" for one in left)
    return (
        f"{path}: the network's {' and '.join(names)}: the shape is {size}, and the file has "
        f"{len(fitting)} such "
        f"layers; it has {have or 'no others'}: give --arch, --size or --channels"
    )


def _in_order(path: object, names: list[str], layers: list[Layer], in_file: bool) -> tuple[list[Layer], str]:
    """Layers of one shape in the network's order, and what told it."""
    if len(layers) == 1:
        return layers, "shape"
    kinds = {re.sub(r"_?\d+", "", layer.name) for layer in layers}
    numbers = [tuple(map(int, re.findall(r"\d+", layer.name))) for layer in layers]
    numbered = len(kinds) == 1 and len(set(numbers)) == len(layers)
    by_number = sorted(layers, key=lambda layer: numbers[layers.index(layer)])
    if numbered and in_file and by_number != layers:
        problem = "their order in the file is not that of their numbers"
    elif in_file:
        return layers, "shape and order in the file"
    elif numbered:
        return by_number, "shape and number"
    else:
        problem = "nothing tells them apart"
    theirs = ", ".join(layer.name for layer in layers)
    raise UserError(
        f"{path}: {' and '.join(names)} have one shape, and so have {theirs}: {problem}; say which is "
        "which, as "
        f"by --map {names[0]}={layers[0].name}"
    )


def _from_channels_first(network: Network, w: NDArray[Any]) -> NDArray[Any]:
    """The weights of the first dense layer, for maps that are flattened as (h, w, c) instead of (c, h, w).

    Where rotations are joined before it (Deep-HiTS), each has its own part.
    """
    place = next(i for i, layer in enumerate(network.layers) if isinstance(layer, Flatten))
    rows, columns, channels = network.out_shapes[place - 1]
    parts = 4 if any(isinstance(layer, CyclicConcat) for layer in network.layers) else 1
    each = w.reshape(parts, channels, rows, columns, -1)
    return np.transpose(each, (0, 2, 3, 1, 4)).reshape(w.shape)
