"""sigma-bar (Eqs. 5 and 6) of stamps seen by a model, from the maps of their four rotations R_r, turned back:

mu = mean_r R_r                       sigma_r = sqrt(mean over pixels of (R_r - mu)²)
sigma-bar = mean_r sigma_r            of each channel
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites, heatmaps, targets
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model, check_finite, stamps_as_read
from rotinv.stamps.splits import BLOCK, Split

UNITS = {
    "max-abs": "in shares of the stamp's largest |R|",
    "min-max": "in shares of the stamp's range of R",
    "none": "in units of R",
}


@dataclass(frozen=True)
class How:
    """How the maps are made, and one of heatmaps.SCALES; a stamp has one scale over all its channels."""

    method: str
    rule: composites.Composite
    target: targets.Target = "predicted"
    scale: str = "max-abs"


def measure(
    k: Kernels,
    model: Model,
    split: Split,
    indices: NDArray[np.int64],
    how: How,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """sigma-bar (n, c) of the stamps at `indices`, and the number of stamps whose maps are 0 everywhere.

    `progress` is called with the number of stamps done.

    Raises UserError if the maps are not numbers.
    """
    found, blank = [np.zeros((0, len(model.config.channels)))], 0
    for maps in _maps(k, model, split, indices, how):
        scaled = heatmaps.scaled(maps, how.scale)
        found.append(sigma_bar(heatmaps.turned_back(scaled), heatmaps.average(scaled)))
        blank += int((~maps.reshape(len(maps), -1).any(axis=1)).sum())
        if progress:
            progress(len(maps))
    return np.concatenate(found), blank


def _maps(
    k: Kernels, model: Model, split: Split, indices: NDArray[np.int64], how: How
) -> Iterator[NDArray[np.float64]]:
    """The maps (n, 4, h, h, c) of blocks of stamps."""
    params = k.asarray(model.params)
    for start in range(0, len(indices), BLOCK):
        stamps = stamps_as_read(model, split, indices[start : start + BLOCK])
        for found in heatmaps.of_rotations(
            k, model.network, params, stamps, how.method, how.rule, how.target
        ):
            check_finite(model.name, f"logits or maps of {split.path}", *found)
            yield np.float64(found[1])


def sigma_bar(maps: NDArray, mu: NDArray) -> NDArray[np.float64]:
    """sigma-bar (n, c) of maps (n, 4, h, h, c) turned back and their mean mu (n, h, h, c), in their units."""
    squares = (np.float64(maps) - np.float64(mu)[:, None]) ** 2
    each = np.sqrt(squares.mean(axis=(2, 3)))
    return ((each[:, 0] + each[:, 2]) + (each[:, 1] + each[:, 3])) / 4
