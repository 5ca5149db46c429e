"""Maps of what a decision rests on: LRP, and the methods that it is compared with (rotinv/lrp/methods).

"lrp" shares the logit out (rotinv/lrp/rules.py). "gradient", "gradient-x-input", "deconvnet" and "guided" are
one pass of derivatives; "integrated-gradients" sums them along a path; "occlusion" covers parts of the stamp.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import targets
from rotinv.lrp.composites import Composite
from rotinv.lrp.methods import derivatives, integrated_gradients, occlusion
from rotinv.lrp.relevance import Trail, prepared, relevance
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.cyclic import CyclicSlice
from rotinv.nn.network import Network
from rotinv.system.errors import UserError, not_known

OF_LAYERS = ("lrp", *derivatives.METHODS, "integrated-gradients")  # these have a map at every layer
METHODS = (*OF_LAYERS, "occlusion")
SCALES = ("max-abs", "min-max", "none")
BATCH = 50  # stamps explained together; a stamp's maps do not depend on it


def trail(
    k: Kernels,
    network: Network,
    params: Array,
    stamps: Array,
    method: str,
    rules: Composite,
    target: targets.Target = "predicted",
) -> Trail:
    """The logits and the map at each layer's input, then at the logits, by one of METHODS.

    Only "lrp" uses the `rules`. "occlusion" has no map but that of the stamps. Raises UserError for an
    unknown method or target.
    """
    if method not in METHODS:
        raise not_known("method", method, METHODS)
    if method == "lrp":
        return relevance(k, network, params, stamps, rules, target)
    if method == "integrated-gradients":
        return Trail(*integrated_gradients.maps(k, network, params, stamps, target))
    if method == "occlusion":
        return Trail(*occlusion.maps(k, network, params, stamps, target))
    return Trail(*derivatives.maps(k, network, params, stamps, method, target))


def trails(
    k: Kernels,
    network: Network,
    params: Array,
    stamps: NDArray[Any],
    method: str,
    rules: Composite,
    target: targets.Target = "predicted",
) -> Iterator[Trail]:
    """`trail` of each block of BATCH stamps (n, h, w, c), on the host; the next block may overwrite it."""
    again = method == "lrp" and targets.are_on_device(k, target)
    of_block = prepared(k, network, params, rules, target) if again else None
    for start in range(0, len(stamps), BATCH):
        block = slice(start, start + BATCH)
        x, asked = k.asarray(stamps[block]), targets.of_part(target, block)
        yield of_block(x) if of_block else trail(k, network, params, x, method, rules, asked)


def of_rotations(
    k: Kernels,
    network: Network,
    params: Array,
    stamps: NDArray[Any],
    method: str,
    rules: Composite,
    target: targets.Target = "predicted",
) -> Iterator[tuple[NDArray, NDArray]]:
    """The maps of the four rotations, block by block of stamps.

    Parameters
    ----------
    k, network, params : the kernels, the network, and its parameters on their device
    stamps : (n, h, h, c), on the host, scaled as the network reads them
    method : one of OF_LAYERS
    rules : the rules of "lrp"; the other methods do not use them
    target : what is explained (rotinv/lrp/targets.py)

    Yields
    ------
    logits : (m, classes), on the host
    maps : (m, 4, h, h, c), on the host
        Of the stamp turned by 0, 90, 180 and 270 degrees, in the orientation in which the network saw it,
        without the padding.

    Raises
    ------
    UserError
        For an unknown method or target, for one that has no maps of layers, and if the network does not turn
        its stamps.

    Examples
    --------
    >>> from rotinv.lrp import composites
    >>> from rotinv.nn.architectures import build
    >>> from rotinv.nn.devices import get_kernels
    >>> network, k = build("cap-mini", size=13, channels=1), get_kernels("reference")
    >>> params, stamps = network.initial("he", seed=0), np.random.default_rng(0).random((2, 13, 13, 1))
    >>> ((logits, maps),) = of_rotations(k, network, params, stamps, "lrp", composites.named("alpha2beta1"))
    >>> maps.shape, average(maps).shape
    ((2, 4, 13, 13, 1), (2, 13, 13, 1))
    """
    if method not in OF_LAYERS:
        raise not_known("method", method, OF_LAYERS)
    for logits, maps in trails(k, network, params, stamps, method, rules, target):
        yield k.to_host(logits), as_seen(k, network, maps)


def as_seen(k: Kernels, network: Network, maps: Sequence[Array]) -> NDArray:
    """The maps (n, 4, h, h, c) of the four rotations of a trail's stamps, as in of_rotations."""
    seen = k.to_host(maps[first_of_rotations(network)])
    side = network.in_shape[0]
    border = (seen.shape[1] - side) // 2
    inner = slice(border, border + side)
    return by_rotation(seen[:, inner, inner], len(maps[0]))


def by_rotation(maps: NDArray, count: int) -> NDArray:
    """A layer's maps (r n, …) as (n, r, …): a batch holds all stamps at 0 degrees, then all at 90, …"""
    return np.ascontiguousarray(maps.reshape(-1, count, *maps.shape[1:]).swapaxes(0, 1))


def first_of_rotations(network: Network) -> int:
    """The index of the first layer that sees the four rotations. Raises UserError if there is none."""
    for i, layer in enumerate(network.layers):
        if isinstance(layer, CyclicSlice):
            return i + 1
    raise UserError("the network does not turn its stamps: it has no cyclic slice")


def turned_back(maps: NDArray) -> NDArray:
    """Maps (n, 4, h, h, c) of the four rotations, each turned back to the stamp's own orientation."""
    return np.stack([np.rot90(maps[:, turn], -turn, axes=(1, 2)) for turn in range(4)], axis=1)


def average(maps: NDArray) -> NDArray:
    """mu of Eq. 5, (n, h, h, c): the mean of the four maps turned back, as ((0 + 2) + (1 + 3)) / 4."""
    back = turned_back(maps)
    return ((back[:, 0] + back[:, 2]) + (back[:, 1] + back[:, 3])) / 4


def scaled(maps: NDArray, scale: str) -> NDArray:
    """Maps (n, 4, h, h, c), with one scale over a stamp's four maps and all its channels.

    "max-abs" divides by the largest magnitude (the authors' display), "min-max" maps to 0-1 (the paper's
    words), "none" leaves them. A stamp whose maps are constant gives zeros. Raises UserError for another.
    """
    if scale not in SCALES:
        raise not_known("scale", scale, SCALES)
    if scale == "none":
        return maps
    flat = maps.reshape(len(maps), -1)
    low = flat.min(axis=1, initial=np.inf) if scale == "min-max" else np.zeros(len(maps), maps.dtype)
    extent = np.abs(flat - low[:, None]).max(axis=1, initial=0)
    shape = (-1, *[1] * (maps.ndim - 1))
    low, extent = low.reshape(shape), extent.reshape(shape)
    return np.divide(maps - low, extent, out=np.zeros_like(maps), where=extent != 0)
