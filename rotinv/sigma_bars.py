"""sigma-bar (Eqs. 5 and 6) of stamps seen by a model, and its groups: what Table III and Fig. 5 show."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv import heatmaps, rotation, rules, seeds, subjects
from rotinv.backend import Kernels
from rotinv.errors import UserError
from rotinv.rotation import Fit
from rotinv.rotation_figures import Panel
from rotinv.rotation_tables import Group
from rotinv.runs import Model
from rotinv.splits import Split

UNITS = {
    "max-abs": "in shares of the stamp's largest |R|",
    "min-max": "in shares of the stamp's range of R",
    "none": "in units of R",
}
_BLOCK = 500  # stamps read together


@dataclass(frozen=True)
class How:
    """How the maps are made, and one of heatmaps.SCALES; a stamp has one scale over all its channels."""

    method: str
    rule: rules.Composite
    seed: seeds.Seed = "predicted"
    scale: str = "max-abs"


def measure(
    k: Kernels,
    model: Model,
    split: Split,
    indices: NDArray[np.int64],
    how: How,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """sigma-bar (n, c) of the stamps at `indices`, and of how many the maps are 0 everywhere.

    `progress` is told how many stamps were done. Raises UserError if the maps are not numbers.
    """
    found, blank = [np.zeros((0, len(model.config.channels)))], 0
    for maps in _maps(k, model, split, indices, how):
        scaled = heatmaps.scaled(maps, how.scale)
        found.append(rotation.sigma_bar(heatmaps.turned_back(scaled), heatmaps.average(scaled)))
        blank += int((~maps.reshape(len(maps), -1).any(axis=1)).sum())
        if progress:
            progress(len(maps))
    return np.concatenate(found), blank


def groups(
    tables: Mapping[str, NDArray], channels: Mapping[str, int], label: NDArray | None
) -> Iterator[Group]:
    """Every model, channel (by its place) and class, with its moments and its fit.

    All stamps are one class, "all", where their labels are unknown.
    """
    for model, table in tables.items():
        for channel, column in channels.items():
            values = table[:, column]
            classes = [("all", values)] if label is None else [
                (name, values[label == number]) for number, name in enumerate(subjects.CLASSES)
            ]  # fmt: skip
            for name, of_class in classes:
                sample, fit = rotation.sample_moments(of_class), rotation.fit(of_class)
                yield Group(model, channel, name, of_class, sample, fit)


def panels(of: Sequence[Group]) -> list[list[Panel]]:
    """A row of Fig. 5's panels for each model, a column for each channel."""
    rows: dict[str, dict[str, list[Group]]] = {}
    for group in of:
        rows.setdefault(group.model, {}).setdefault(group.channel, []).append(group)
    return [
        [
            Panel(
                f"{model}, {channel}",
                {group.name: group.values for group in classes},
                {group.name: group.fit for group in classes if isinstance(group.fit, Fit)},
            )
            for channel, classes in row.items()
        ]
        for model, row in rows.items()
    ]


def _maps(
    k: Kernels, model: Model, split: Split, indices: NDArray[np.int64], how: How
) -> Iterator[NDArray[np.float64]]:
    """The maps (n, 4, h, h, c) of blocks of stamps."""
    params = k.asarray(model.params)
    for start in range(0, len(indices), _BLOCK):
        stamps = subjects.as_read(model, split, indices[start : start + _BLOCK])
        for found in heatmaps.of_rotations(k, model.network, params, stamps, how.method, how.rule, how.seed):
            if not all(np.isfinite(part).all() for part in found):
                raise UserError(
                    f"{model.name}: its logits or maps of {split.path} are not numbers: the training "
                    "diverged (try a smaller --rate), or the weights are damaged"
                )
            yield np.float64(found[1])
