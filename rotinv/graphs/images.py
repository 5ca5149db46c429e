"""Images for a network from elsewhere: arrays or stores, whose pixels are taken as they are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.nn.layers import Shape
from rotinv.stamps.arrays import read_arrays
from rotinv.stamps.opening import has_splits, open_stamps
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError

Wanted = tuple[int | None, ...]  # (c, h, w) that a network reads; None is any extent
ARRAY = Path("the array")  # what messages call images that are in no file


def open_images(path: str | Path, split: str | None, wanted: Wanted) -> Split:
    """The images of a stamp store, or of an .npy or .npz file with `stamps` and, if known, `label`.

    Raises UserError for a file that cannot be read, and for images that a network does not read.
    """
    path = Path(path)
    if has_splits(path):
        store = open_stamps(path, split)
        check_fits(path, (store.shape[2], *store.shape[:2]), wanted, store.pixels.shape)
        return store
    if split is not None:
        raise UserError(f"{path}: is an array, which has no splits; leave --split {split} out")
    arrays = read_arrays(path, keep=("label",))
    pixels = channels_last(path, arrays["stamps"], wanted)
    if not len(pixels):
        raise UserError(f"{path}: has no stamps at all")
    return Split(path, "stamps", pixels, label=_labels(path, arrays.get("label")))


def images_of(stamps: ArrayLike, wanted: Wanted) -> Split:
    """An array of images, or one image, as a Split. Raises UserError as open_images does."""
    try:
        pixels = np.asarray(stamps)
    except (ValueError, TypeError) as error:
        raise UserError(f"{ARRAY}: is no array of numbers ({error})") from error
    if pixels.dtype.kind not in "fiu":
        raise UserError(f"{ARRAY}: holds {pixels.dtype}, not numbers")
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or not len(pixels):
        raise UserError(f"{ARRAY}: has the shape {pixels.shape}; wanted is {_text(wanted)}")
    return Split(ARRAY, "stamps", channels_last(ARRAY, pixels, wanted))


def channels_last(path: str | Path, pixels: NDArray[Any], wanted: Wanted) -> NDArray[Any]:
    """View images (n, c, h, w) or (n, h, w, c) as (n, h, w, c); where they could be both, they are the first.

    Raises UserError if they are neither.
    """
    first = pixels.shape[1:]
    if _fits(first, wanted):
        return np.moveaxis(pixels, 1, 3)
    check_fits(path, (first[2], *first[:2]), wanted, pixels.shape)
    return pixels


def check_fits(path: str | Path, shape: Shape, wanted: Wanted, found: Shape) -> None:
    """Raise UserError, with the shape `found`, unless an image (c, h, w) is what a network reads."""
    if not _fits(shape, wanted):
        raise UserError(f"{path}: stamps have the shape {tuple(found)}; wanted is {_text(wanted)}")


def _fits(shape: Shape, wanted: Wanted) -> bool:
    return 0 not in shape and all(want in (None, have) for have, want in zip(shape, wanted, strict=True))


def _text(wanted: Wanted) -> str:
    c, h, w = (letter if extent is None else extent for letter, extent in zip("CHW", wanted, strict=True))
    return f"(N, {c}, {h}, {w}) or (N, {h}, {w}, {c})"


def _labels(path: Path, label: NDArray[Any] | None) -> NDArray[np.uint8] | None:
    """Numbers of classes. Raises UserError for others."""
    if label is None:
        return None
    if label.dtype.kind in "US" or not np.isin(label, np.arange(256)).all():
        raise UserError(f"{path}: label holds other than numbers of classes, from 0 on")
    return label.astype(np.uint8)


def check_labels(split: Split, classes: int) -> None:
    """Raise UserError if a label is none of so many classes."""
    label = None if split.label is None else split.label[:]
    if label is not None and label.max(initial=0) >= classes:
        raise UserError(f"{split.path}: has the label {label.max()}; the network has {classes} classes")
