"""Scores of stamps, block by block in flat memory: p(candidate), class, spread over the rotations."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rotinv.backend import Array, Kernels
from rotinv.errors import UserError
from rotinv.network import Network
from rotinv.pixels import prepare
from rotinv.splits import Split

_BLOCK = 2000  # stamps read together
T = TypeVar("T")


def blocks(
    split: Split, indices: NDArray[np.int64], side: int | None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The stamps at `indices` as the network reads them (cut to `side`, normalised), a block at a time,
    each with the number of its constant channels."""
    for start in range(0, len(indices), _BLOCK):
        yield prepare(split.raw(indices[start : start + _BLOCK]), split.normalisation, side)


def probabilities(
    k: Kernels,
    network: Network,
    params: Array,
    split: Split,
    indices: NDArray[np.int64],
    side: int | None,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.floating]:
    """p(candidate) of each stamp at `indices`; params on the device. `progress` is told of every block."""
    parts = []
    for stamps, _ in blocks(split, indices, side):
        parts.append(probability(k, network, params, stamps))
        if progress:
            progress(len(stamps))
    return np.concatenate(parts) if parts else np.zeros(0)


def probability(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """p(candidate) of stamps (n, h, w, c) that are cut and normalised already.

    Raises UserError if any is not a number: the weights are not those of a network that learned.
    """

    def forward(batch: NDArray[np.float32]) -> NDArray:
        return _softmax(k, network.forward(k, params, k.asarray(batch)))

    return _finite(np.concatenate(list(_batches(stamps, k.batch, forward))))


def with_rotation_std(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]
) -> tuple[NDArray, NDArray]:
    """p(candidate), and the std (ddof 0) over the four rotations of each one's own logit margin z_1 - z_0.

    The std (n,) tells how far the network would disagree with itself if the stamp were turned. Raises
    UserError as `probability` does, whose bits these are.
    """
    each, spread = [np.zeros(0, k.dtype)], [np.zeros(0, k.dtype)]

    def forward(batch: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        logits, rotations = network.forward_rotations(k, params, k.asarray(batch))
        return _softmax(k, logits), k.to_host(rotations)

    for p, z in _batches(stamps, k.batch, forward):
        each.append(p)
        spread.append((z[:, :, 1] - z[:, :, 0]).std(axis=0))
    return _finite(np.concatenate(each)), np.concatenate(spread)


def _softmax(k: Kernels, logits: Array) -> NDArray:
    return k.to_host(k.softmax.forward(logits))[:, 1]


def _finite(probability: NDArray) -> NDArray:
    if not np.isfinite(probability).all():
        raise UserError(
            "the network's probabilities are not numbers: the training diverged (try a smaller --rate), "
            "or the weights are damaged"
        )
    return probability


def _batches(stamps: NDArray[np.float32], batch: int, score: Callable[[NDArray], T]) -> Iterator[T]:
    """What `score` gives for each batch. A stamp's score does not depend on those that it is scored with.

    A batch that the device has no memory for is halved, and so are those after it; MemoryError where not
    even one stamp fits.
    """
    start = 0
    while start < len(stamps):
        found = _unless_too_large(score, stamps[start : start + batch])
        if found is None:
            batch = min(batch, len(stamps) - start) // 2
        else:
            yield found
            start += batch


def _unless_too_large(score: Callable[[NDArray], T], stamps: NDArray[np.float32]) -> T | None:
    try:
        return score(stamps)
    except MemoryError:
        if len(stamps) == 1:
            raise
        return None
