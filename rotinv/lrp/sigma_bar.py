"""sigma-bar (Eqs. 5 and 6) of stamps seen by a model, from the maps of their four rotations R_r, turned back:

mu = mean_r R_r                       sigma_r = sqrt(mean over pixels of (R_r - mu)²)
sigma-bar = mean_r sigma_r            of each channel
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, composites, heatmaps
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model, check_finite, stamps_as_read
from rotinv.stamps.splits import BLOCK, Split
from rotinv.system.errors import UserError
from rotinv.system.tables import astropy_table

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
    target: str | int = "predicted"
    scale: str = "max-abs"


class SigmaBars(np.ndarray):
    """sigma-bar (n, C) of n stamps, or (networks, n, C), that knows its networks and channels.

    A part of it, and what is computed from it, is an array without these.
    """

    names: tuple[str, ...]
    channels: tuple[str, ...]

    def __new__(cls, values: NDArray, names: Sequence[str], channels: Sequence[str]) -> "SigmaBars":
        """`values` (networks, n, C); of one network its axis is left out."""
        made = np.asarray(values[0] if len(names) == 1 else values, np.float64).view(cls)
        made.names, made.channels = tuple(names), tuple(channels)
        return made

    def __array_finalize__(self, of: NDArray | None) -> None:
        self.names, self.channels = (), ()

    def to_table(self) -> Any:
        """An astropy Table with a row for each network and stamp, and a column for each channel.

        Raises UserError if astropy is not installed (extra `alerts`), and for a part of the array.
        """
        if not self.names:
            raise UserError("to_table: call it on what sigma_bar returned, not on a part or a copy of it")
        each = np.asarray(self).reshape(len(self.names), -1, len(self.channels))
        rows = [
            {"network": name, "stamp": stamp, **dict(zip(self.channels, values.tolist(), strict=True))}
            for name, of_network in zip(self.names, each, strict=True)
            for stamp, values in enumerate(of_network)
        ]
        return astropy_table(rows, {})


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
    params, target = k.asarray(model.params), attribution.of_model(model, how.target)
    for start in range(0, len(indices), BLOCK):
        stamps = stamps_as_read(model, split, indices[start : start + BLOCK])
        for found in heatmaps.of_rotations(k, model.network, params, stamps, how.method, how.rule, target):
            check_finite(model.name, f"logits or maps of {split.path}", *found)
            yield np.asarray(found[1], np.float64)


def sigma_bar(maps: NDArray, mu: NDArray) -> NDArray[np.float64]:
    """sigma-bar (n, c) of maps (n, 4, h, h, c) turned back and their mean mu (n, h, h, c), in their units."""
    squares = (np.asarray(maps, np.float64) - np.asarray(mu, np.float64)[:, None]) ** 2
    each = np.sqrt(squares.mean(axis=(2, 3)))
    return ((each[:, 0] + each[:, 2]) + (each[:, 1] + each[:, 3])) / 4
