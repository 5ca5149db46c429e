"""Scores of stamps, block by block in flat memory: p(candidate), class, spread over the rotations."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rotinv import metrics
from rotinv.backend import Array, Kernels
from rotinv.errors import UserError
from rotinv.network import Network
from rotinv.pixels import prepare
from rotinv.splits import Split

_BLOCK = 2000  # stamps read together


def blocks(
    split: Split, indices: NDArray[np.int64], side: int | None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The stamps at `indices` as the network reads them (cut to `side`, normalised), a block at a time,
    each with the number of its constant channels."""
    for start in range(0, len(indices), _BLOCK):
        yield prepare(split.raw(indices[start : start + _BLOCK]), split.normalisation, side)


def probabilities(
    k: Kernels, network: Network, params: Array, split: Split, indices: NDArray[np.int64], side: int | None
) -> NDArray[np.floating]:
    """p(candidate) of each stamp at `indices`; params on the device."""
    parts = [probability(k, network, params, stamps) for stamps, _ in blocks(split, indices, side)]
    return np.concatenate(parts) if parts else np.zeros(0)


def probability(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """p(candidate) of stamps (n, h, w, c) that are cut and normalised already.

    Raises UserError if any is not a number: the weights are not those of a network that learned.
    """
    found = np.concatenate(
        [
            k.to_host(k.softmax.forward(network.forward(k, params, k.asarray(batch))))[:, 1]
            for batch in _batches(stamps, k.batch)
        ]
    )
    if not np.isfinite(found).all():
        raise UserError(
            "the network's probabilities are not numbers: the training diverged (try a smaller --rate), "
            "or the weights are damaged"
        )
    return found


def rotation_std(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """The std (ddof 0) over the four rotations of each one's own logit margin z_1 - z_0 (n,).

    It tells how far the network would disagree with itself if the stamp were turned.
    """
    parts = []
    for batch in _batches(stamps, k.batch):
        z = k.to_host(network.each_rotation(k, params, k.asarray(batch)))
        parts.append((z[:, :, 1] - z[:, :, 0]).std(axis=0))
    return np.concatenate(parts)


def vote(each: Sequence[NDArray]) -> tuple[NDArray, NDArray[np.uint8]]:
    """The ensemble's probability (the median) and class from each model's probabilities.

    At any threshold the median of an odd number of models is the majority's vote (the paper's CAPE);
    an even number that is split goes by the mean of the two middle ones.
    """
    probability = np.median(np.stack(each), axis=0)
    return probability, metrics.classify(probability)


def _batches(stamps: NDArray[np.float32], batch: int) -> Iterator[NDArray[np.float32]]:
    """A stamp's score does not depend on those that it is scored with."""
    for start in range(0, len(stamps), batch):
        yield stamps[start : start + batch]
