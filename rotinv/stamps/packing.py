"""Making a stamp store from arrays: stamps are divided into train, validate and test, whole images
together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.alert_columns import ALERT_COLUMNS
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.splits import BLOCK, Split
from rotinv.stamps.store import CHANNELS, SPLITS, create_store
from rotinv.system.errors import UserError
from rotinv.system.messages import counted

FRACTIONS = (0.8, 0.1, 0.1)  # of the stamps, in the order of SPLITS


def pack(
    out: str | Path,
    stamps: Split,
    kept: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    *,
    channels: Sequence[str],
    kinds: Sequence[str] = (),
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    group: NDArray[Any] | None = None,
    together: str = "image",
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, NDArray[np.int64]]:
    """Write the stamps at `kept` with their columns to a new store; returns the indices of each split.

    `columns` are (N,) arrays for all the stamps: `label` (of stamps.classes), and where known `snr`, `kind`,
    `image`, and of alerts `flags` and ALERT_COLUMNS. The stamps of a group, by default those of an image, go
    to one split; without `image` each stamp is its own. `together` is what messages call a group, and
    `attributes` are further ones of the store.

    Raises UserError if a split that should have stamps gets none, and if the file exists, but for
    `overwrite`, or cannot be written.
    """
    group = columns.get("image", np.arange(len(stamps))) if group is None else group
    columns = {"image": group, **columns}
    places = _divide(stamps.path, group[kept], columns["label"][kept], fractions, seed, together)
    parts = dict(zip(SPLITS, places, strict=True))
    about = {"source": stamps.path.name, "split": tuple(fractions), "seed": seed, **(attributes or {})}
    with create_store(
        out,
        channels=channels,
        size=stamps.shape[0],
        kinds=kinds,
        classes=stamps.classes,
        normalisation="minmax" if stamps.normalisation == "minmax" else "none",
        attributes=about,
        alerts=not set(ALERT_COLUMNS).isdisjoint(columns),
        overwrite=overwrite,
    ) as writer:
        for name, part in parts.items():
            for start in range(0, len(part), BLOCK):
                chosen = kept[part[start : start + BLOCK]]
                own = {key: values[chosen] for key, values in columns.items()}
                writer.append(name, stamps.raw(chosen), **own)
    return {name: kept[part] for name, part in parts.items()}


def groups_of(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """The number of each stamp's group: stamps that agree in any of the columns (n,) are in one.

    So no image and no object is in two splits. An empty text agrees with nothing.
    """
    owners, count = [], len(columns[0])
    for column in columns:
        values, owner = np.unique(column, return_inverse=True)
        if column.dtype.kind == "U":
            owner = np.where(column == "", len(values) + np.arange(count), owner)
        owners.append(owner)
    group, before = np.arange(count), None
    while before is None or not np.array_equal(
        group, before
    ):  # each stamp takes the least of its neighbours'
        before = group
        for owner in owners:
            least = np.full(owner.max() + 1, count)
            np.minimum.at(least, owner, group)
            group = least[owner]
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def channel_names(count: int) -> Sequence[str]:
    """Names for channels that nobody has named."""
    return CHANNELS if count == len(CHANNELS) else [f"channel{c}" for c in range(count)]


def lines(
    parts: Mapping[str, NDArray[np.int64]],
    label: NDArray[np.uint8],
    group: NDArray[Any],
    together: str,
    classes: Classes = TWO,
) -> list[str]:
    """What a user is told of the splits: how many stamps of each class and groups each has."""
    return [
        f"{name}: {counted(len(chosen), 'stamp')} ({', '.join(classes.counts_in_words(label[chosen]))}) of "
        f"{counted(len(np.unique(group[chosen])), together)}"
        for name, chosen in parts.items()
    ]


def _divide(
    path: Path,
    group: NDArray[Any],
    label: NDArray[np.uint8],
    fractions: Sequence[float],
    seed: int,
    together: str,
) -> list[NDArray[np.int64]]:
    """The places of the stamps of each split: groups in random order, cut where the fractions say.

    The groups of each class are spread evenly among the others, so that each split gets its share of every
    class; a group is of the highest class that it has. A group goes where its middle stamp lies. Raises
    UserError if a split that should have stamps gets none.
    """
    groups, owner, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    highest = np.zeros(len(groups), np.int64)
    np.maximum.at(highest, owner, label)
    order = order[np.argsort(_spread(highest[order]), kind="stable")]
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    bounds = np.cumsum(fractions)[:-1] * len(group)
    place = np.empty(len(groups), dtype=np.int64)
    place[order] = np.searchsorted(bounds, middle, side="right")
    parts = [np.flatnonzero(place[owner] == number) for number in range(len(SPLITS))]
    for name, fraction, part in zip(SPLITS, fractions, parts, strict=True):
        if fraction and not len(part):
            few = f"{counted(len(groups), together)} {'is' if len(groups) == 1 else 'are'} too few"
            split = ",".join(f"{f:g}" for f in fractions)
            raise UserError(
                f"{path}: {few} for --split {split}: '{name}' gets no stamps; "
                f"give it the fraction 0, or more {together}s"
            )
    return parts


def _spread(of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where each item comes, from 0 to 1, such that the items of each class are spread evenly."""
    at = np.empty(len(of))
    for number in np.unique(of):
        part = of == number
        at[part] = (np.arange(part.sum()) + 0.5) / part.sum()
    return at
