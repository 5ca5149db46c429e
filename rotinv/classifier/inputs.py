"""Checks the arrays or opened files that a caller gives, for scoring or as a store to train on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.runs.model import Model, fit_split, whole_size
from rotinv.stamps.arrays import arrays_in_memory, check_shape, split_of_arrays
from rotinv.stamps.classes import Classes
from rotinv.stamps.packing import channel_names, pack
from rotinv.stamps.splits import Split, check_scaled, usable
from rotinv.system.errors import UserError

ARRAY = "the array"  # what messages call stamps that are in no file
_REMEDY = "leave them out, or see on_bad"


def check_on_bad(on_bad: str, other: str) -> None:
    """Raise UserError unless `on_bad` is "error" or the other choice that a method has."""
    if on_bad not in ("error", other):
        raise UserError(f"on_bad {on_bad!r} is not known here; choose one of error, {other}")


def usable_stamps(
    model: Model, stamps: ArrayLike | Split, normalised: bool, on_bad: str, label: ArrayLike | None = None
) -> tuple[Split, NDArray[np.int64]]:
    """Stamps for a network, and the indices of those whose pixels are all finite.

    Raises UserError if they are not what the network reads, and, if `on_bad` is "error", for pixels that are
    not finite.
    """
    split = _as_split(model, stamps, normalised, label)
    return split, usable(split, on_bad, may_be_none=True, remedy=_REMEDY)


def store_of_arrays(
    folder: str | Path,
    arrays: dict[str, NDArray[Any]],
    *,
    channels: Sequence[str] | None,
    normalised: bool,
    crop: int | None,
    on_bad: str,
    seed: int,
    classes: Classes,
) -> Path:
    """Pack arrays that arrays_in_memory has checked into a store in a run's folder; gives its path.

    A network that cuts out the centre of `crop` pixels is trained on stamps that are bad outside it, too.
    """
    count = None if channels is None else len(channels)
    split = _raw_or_scaled(arrays, count, None, normalised, classes)
    columns = {name: array for name, array in arrays.items() if name != "stamps"}
    names = channels or channel_names(split.shape[2])
    path = Path(folder) / "stamps.h5"
    kept = usable(replace(split, side=crop), on_bad, remedy=_REMEDY)
    pack(path, split, kept, columns, channels=names, seed=seed)
    return path


def _as_split(model: Model, stamps: ArrayLike | Split, normalised: bool, label: ArrayLike | None) -> Split:
    count, size = len(model.config.channels), whole_size(model)
    if not isinstance(stamps, Split):
        classes = model.config.classes
        arrays = arrays_in_memory(ARRAY, stamps, label=label, channels=count, classes=classes)
        return fit_split(model, _raw_or_scaled(arrays, count, size, normalised, classes))
    if normalised or label is not None:
        raise UserError(f"{stamps.path}: has its own labels and normalisation; leave these out")
    check_shape(stamps.path, stamps.pixels.shape, count if stamps.channels is None else None, size)
    return fit_split(model, stamps)


def _raw_or_scaled(
    arrays: dict[str, NDArray[Any]],
    channels: int | None,
    size: int | None,
    normalised: bool,
    classes: Classes,
) -> Split:
    """Arrays as a Split. Raises UserError if they are said to be scaled, and a pixel is not within 0-1."""
    scaling = "minmax" if normalised else "none"
    split = split_of_arrays(Path(ARRAY), arrays, channels, size, scaling, classes)
    if normalised:
        check_scaled(split)
    return split
