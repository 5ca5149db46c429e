"""Occlusion (Zeiler and Fergus 2014): how far the answer falls when a patch of the stamp is covered.

R at a pixel of a channel is f(x) - f(x with a patch about that pixel black), f being what is explained. The
patch covers PATCH x PATCH pixels of that one channel; what of it lies over the stamp's edge covers nothing.
No derivative is used, and nothing is conserved: the map's sum is no share of the answer.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import targets
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network

PATCH = 3  # pixels; odd, so that the patch has a middle, and the map of a turned stamp is the turned map
_TOGETHER = 512  # covered stamps that are scored together


def maps(
    k: Kernels, network: Network, params: Array, x: Array, target: targets.Target
) -> tuple[Array, list[Array]]:
    """The logits that are explained, and the map (n, h, h, c), in a list: there is one of the stamps only."""
    logits = network.forward(k, params, x)
    fixed = targets.of_same_classes(k, logits, target)
    whole = targets.values(k, logits, fixed)
    stamps = k.to_host(x)
    found = [whole[i] - _covered(k, network, params, stamps, i, fixed) for i in range(len(stamps))]
    return logits, [k.asarray(np.reshape(found, stamps.shape))]


def _covered(
    k: Kernels, network: Network, params: Array, stamps: NDArray, i: int, target: targets.Target
) -> NDArray[np.float64]:
    """f (h, h, c) of the i-th of stamps (n, h, h, c), covered about each of its pixels in turn."""
    found = []
    for block in _blocks(stamps[i]):
        logits = network.forward(k, params, k.asarray(block))
        found.append(targets.values(k, logits, targets.repeated(target, i, len(block))))
    return np.concatenate(found).reshape(stamps[i].shape)


def _blocks(stamp: NDArray) -> Iterator[NDArray]:
    """The covered stamps, row by row, then column by column, then channel by channel, _TOGETHER at a time."""
    places = list(np.ndindex(*stamp.shape))
    for start in range(0, len(places), _TOGETHER):
        block = np.stack([stamp] * len(places[start : start + _TOGETHER]))
        for covered, (row, column, channel) in zip(block, places[start:], strict=False):
            rows, columns = (slice(max(0, at - PATCH // 2), at + PATCH // 2 + 1) for at in (row, column))
            covered[rows, columns, channel] = 0
        yield block
