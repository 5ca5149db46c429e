"""Making a stamp store of arrays: stamps are divided into train, validate and test, whole images together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.splits import BLOCK, Split
from rotinv.stamps.store import CHANNELS, SPLITS, create_store
from rotinv.system.errors import UserError

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
) -> dict[str, NDArray[np.int64]]:
    """Write the stamps at `kept` with their columns to a new store; gives the indices of each split.

    `columns` are (N,) arrays for all the stamps: `label`, and where known `snr`, `kind` and `image`. The
    stamps of an image go to one split; without `image` each stamp is its own. Raises UserError if a split
    that should have stamps gets none, and if the file exists or cannot be written.
    """
    columns = {"image": np.arange(len(stamps)), **columns}
    parts = dict(zip(SPLITS, _divide(stamps.path, columns["image"][kept], fractions, seed), strict=True))
    attributes = {"source": stamps.path.name, "split": tuple(fractions), "seed": seed}
    with create_store(
        out,
        channels=channels,
        size=stamps.shape[0],
        kinds=kinds,
        normalisation="minmax" if stamps.normalisation == "minmax" else "none",
        attributes=attributes,
    ) as writer:
        for name, part in parts.items():
            for start in range(0, len(part), BLOCK):
                chosen = kept[part[start : start + BLOCK]]
                own = {key: values[chosen] for key, values in columns.items()}
                writer.append(name, stamps.raw(chosen), **own)
    return {name: kept[part] for name, part in parts.items()}


def channel_names(count: int) -> Sequence[str]:
    """What the channels of stamps are called where nobody has named them."""
    return CHANNELS if count == len(CHANNELS) else [f"channel{c}" for c in range(count)]


def _divide(
    path: Path, image: NDArray[Any], fractions: Sequence[float], seed: int
) -> list[NDArray[np.int64]]:
    """The places of the stamps of each split: images in random order, cut where the fractions say.

    An image goes where its middle stamp lies. Raises UserError if a split that should have stamps
    gets none.
    """
    images, owner, sizes = np.unique(image, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(images))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    bounds = np.cumsum(fractions)[:-1] * len(image)
    place = np.empty(len(images), dtype=np.int64)
    place[order] = np.searchsorted(bounds, middle, side="right")
    parts = [np.flatnonzero(place[owner] == number) for number in range(len(SPLITS))]
    for name, fraction, part in zip(SPLITS, fractions, parts, strict=True):
        if fraction and not len(part):
            raise UserError(
                f"{path}: {len(images)} images are too few for --split "
                f"{','.join(f'{f:g}' for f in fractions)}: '{name}' gets no stamps; "
                "give it the fraction 0, or more images"
            )
    return parts
