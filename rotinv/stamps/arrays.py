"""Stamps in NumPy's own files (.npy, .npz), read without unpickling anything."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.labels import labels_of
from rotinv.stamps.splits import WHOLE, Split
from rotinv.system.errors import UserError

_NAMES = "iuUS"  # no floats: they round ids of 64 bits
_TYPES = {
    **{"stamps": "fiu", "label": "fiubUS", "snr": "fiu"},
    **dict.fromkeys(("kind", "image", "object_id", "candidate_id"), _NAMES),
}
_WANTED = {"fiu": "numbers", "fiubUS": "numbers or words", _NAMES: "whole numbers or texts"}


def read_arrays(path: str | Path, keep: Sequence[str] = tuple(_TYPES)) -> dict[str, NDArray[Any]]:
    """The array `stamps` of a file, with 4 axes, and those of the columns in `keep` that the file has.

    A .npy file is memory-mapped. In an .npz file the stamps are the array 'stamps', or the only one with 4
    axes. Raises UserError if the file is missing or damaged, if an array holds anything other than numbers,
    or if a column's length is not the number of stamps.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    if h5py.is_hdf5(path):
        raise UserError(f"{path}: is an HDF5 file, not .npy or .npz; a stamp store needs no packing")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                arrays = _from_npz(path, found, keep)
        else:
            arrays = {"stamps": found}
    except UserError:
        raise
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path}: {_reason(error)}") from error
    return _checked(path, arrays)


def split_of_arrays(
    path: str | Path,
    arrays: Mapping[str, NDArray[Any]],
    channels: int | None,
    size: int | None,
    normalisation: str = "none",
    classes: Classes = TWO,
) -> Split:
    """The array `stamps`, (N, S, S, C) or (N, C, S, S), as a Split, with its `label` and `snr` if there are
    any.

    `path` names the arrays in messages. Raises UserError if the stamps have not `channels` channels and
    `size` pixels a side (None takes any number), if there are none, or for labels that are neither numbers
    of the classes nor their words (labels.labels_of).
    """
    path = Path(path)
    stamps = channels_last(path, arrays["stamps"], channels, size)
    if not len(stamps):
        raise UserError(f"{path}: has no stamps at all")
    label, snr = arrays.get("label"), arrays.get("snr")
    return Split(
        path,
        WHOLE,
        stamps,
        normalisation,
        label=None if label is None else labels_of(f"{path}: label", label, classes=classes),
        snr=None if snr is None else snr.astype(np.float32),
        classes=classes,
    )


def arrays_in_memory(
    name: str,
    stamps: ArrayLike,
    channels: int | None = None,
    classes: Classes = TWO,
    **columns: ArrayLike | None,
) -> dict[str, NDArray[Any]]:
    """Arrays from a caller, checked as those of a file are: `stamps`, one (S, S, C) or several, and columns.

    Several stamps of one channel, where `channels` is 1, may be (N, S, S).

    Masked pixels become NaN, and labels in words numbers. Raises UserError if something is no array of
    numbers (or of words, where it may be), or not one for each stamp.
    """
    if isinstance(stamps, str | Path):
        raise UserError(f"{stamps}: is a file's name, not an array; rotinv.open_stamps opens it")
    pixels = _array(name, "stamps", stamps)
    if pixels.ndim == 3:
        several = channels == 1 and pixels.shape[1] == pixels.shape[2] > 1
        pixels = pixels[..., None] if several else pixels[None]
    arrays = {"stamps": pixels}
    for what, column in columns.items():
        if column is not None:
            arrays[what] = _array(name, what, column)
    checked = _checked(Path(name), arrays)
    if checked.get("label", pixels).dtype.kind in "US":
        checked["label"] = labels_of(f"{name}: label", checked["label"], classes=classes)
    return checked


def _array(name: str, what: str, values: ArrayLike) -> NDArray[Any]:
    try:
        if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "fiu":
            return np.ma.filled(values.astype(np.float64), np.nan)
        found = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {what} is no array of numbers ({error})") from error
    if found.dtype == object and found.size and all(isinstance(one, str) for one in found.flat):
        return found.astype(str)  # so pandas holds words
    return found


def channels_last(
    path: str | Path, stamps: NDArray[Any], channels: int | None, size: int | None = None
) -> NDArray[Any]:
    """View stamps (N, S, S, C) or (N, C, S, S) as (N, S, S, C); the number of `channels` tells which of the
    two it is.

    Raises UserError, with the shape found and the one wanted, if it is neither.
    """
    first, last = stamps.shape[1], stamps.shape[3]
    turned = np.moveaxis(stamps, 1, 3)
    fits_last = stamps.shape[1] == stamps.shape[2] and channels in (None, last)
    fits_first = turned.shape[1] == turned.shape[2] and channels in (None, first)
    if fits_first and not fits_last:
        check_shape(path, turned.shape, channels, size, stamps.shape)
        return turned
    check_shape(path, stamps.shape, channels, size)
    return stamps


def check_shape(
    path: str | Path,
    shape: Sequence[int],
    channels: int | None,
    size: int | None,
    found: Sequence[int] | None = None,
) -> None:
    """Raise UserError if the `shape` (N, S, S, C) is not square, or not of `size` and `channels`."""
    square = shape[1] == shape[2] and 0 not in shape[1:]
    if not square or channels not in (None, shape[3]) or size not in (None, shape[1]):
        side, count = size or "S", channels or "C"
        raise UserError(
            f"{path}: stamps have the shape {tuple(found or shape)}; wanted is "
            f"(N, {side}, {side}, {count}) or (N, {count}, {side}, {side})"
        )


def _from_npz(path: Path, found: Any, keep: Sequence[str]) -> dict[str, NDArray[Any]]:
    arrays = {name: np.asarray(found[name]) for name in keep if name in found.files}
    if "stamps" in found.files:
        arrays["stamps"] = np.asarray(found["stamps"])
        return arrays
    four = [name for name in found.files if name not in keep and np.ndim(found[name]) == 4]
    if len(four) != 1:
        names = ", ".join(found.files) or "nothing"
        raise UserError(f"{path}: has no array 'stamps' and not just one of 4 axes; found: {names}")
    arrays["stamps"] = np.asarray(found[four[0]])
    return arrays


def _checked(path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays, with numbers in place of the images' names.

    Raises UserError for a type or a shape that is not what an array of that name may have.
    """
    count = len(arrays["stamps"]) if arrays["stamps"].ndim else 0
    for name, array in arrays.items():
        if array.dtype.kind not in _TYPES[name]:
            kind = _WANTED[_TYPES[name]]
            raise UserError(
                f"{path}: {name} holds {array.dtype}, not {kind}; make it a plain array of {kind}"
            )
        wanted = "(N, S, S, C) or (N, C, S, S)" if name == "stamps" else f"({count},), one for each stamp"
        if array.ndim != 4 if name == "stamps" else array.shape != (count,):
            raise UserError(f"{path}: {name} has the shape {array.shape}; wanted is {wanted}")
    if "image" in arrays and arrays["image"].dtype.kind in "US":
        arrays["image"] = np.unique(arrays["image"], return_inverse=True)[1]
    return arrays


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if "pickle" in text.lower() or "object" in text.lower():
        return "holds objects (a pickle), which are never read; save plain arrays of numbers"
    return f"is damaged or is not a NumPy file ({text})"
