"""The original files of the HiTS survey: folders of chunks, and what a chunk holds.

A chunk is a pickled dict of temp_images, sci_images, diff_images and SNR_images (each N x 441, row-major
21 x 21, floats), labels (N) and SNRs (N). The authors' smaller set is one pickle of images (N, 21, 21, 4)
and labels (N).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.classes import check_labels
from rotinv.stamps.splits import BLOCK
from rotinv.stamps.store import CHANNELS
from rotinv.stamps.unpickling import read_dict
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

SIDE = 21
SKIPPED = {  # by the attribute of the file that counts them: what the user is told
    "wrong_length": "rows without 441 pixels",
    "pixels_not_finite": "rows with NaN or infinite pixels",
    "snr_not_finite": "rows with a NaN or infinite SNR",
    "label_not_finite": "rows with a NaN or infinite label",
    "unreadable_files": "files that cannot be read",
    "rotated_copies": "files that are rotated copies",
    "other_files": "files that are no chunk by name",
    "other_sizes": "chunks of another size",
}
_IMAGES = ("temp_images", "sci_images", "diff_images", "SNR_images")  # in the order of CHANNELS
_CHUNK = re.compile(r"chunk_\d+_(\d+)\.pkl")
_ROTATED = re.compile(r"(90|180|270)_chunk_\d+_\d+\.pkl")
_PIXELS = SIDE * SIDE


class Block(NamedTuple):
    """Good rows of a chunk, in order."""

    rows: NDArray[np.int64]  # (n,) which rows of the chunk they are
    stamps: NDArray[np.float32]  # (n, 21, 21, 4)
    label: NDArray[np.uint8]
    snr: NDArray[np.float32]
    constant: int  # channels of stamps that became NaN, for they are constant


@dataclass(frozen=True, eq=False)
class Chunk:
    """The rows of a file; their pixels stay there until a block of them is asked for."""

    channels: Sequence[Any]  # four of (N, ...) floats, or lists of N rows
    label: NDArray[np.uint8]  # (N,)
    snr: NDArray[np.float32]  # (N,), NaN where the file has none
    rows: NDArray[np.int64]  # those whose length, label and SNR are good
    skipped: Counter[str]

    def __len__(self) -> int:
        return len(self.label)

    def blocks(self, faithful: bool) -> Iterator[Block]:
        """The good rows in order; `skipped` is complete after the last block.

        `faithful` scales each channel as the original did (see scale_faithfully).
        """
        for start in range(0, len(self.rows), BLOCK):
            rows = self.rows[start : start + BLOCK]
            stamps = np.empty((len(rows), _PIXELS, len(self.channels)), dtype=np.float32)
            good = np.ones(len(rows), dtype=bool)
            for c, channel in enumerate(self.channels):
                pixels = _take(channel, rows)
                with np.errstate(all="ignore"):  # what float32 cannot hold becomes infinite
                    stamps[..., c] = scale_faithfully(pixels) if faithful else pixels
                good &= np.isfinite(pixels if faithful else stamps[..., c]).all(axis=1)
            self.skipped["pixels_not_finite"] += int((~good).sum())
            rows, stamps = rows[good], stamps[good]
            constant = int(np.isnan(stamps).any(axis=1).sum()) if faithful else 0
            shaped = stamps.reshape(-1, SIDE, SIDE, len(self.channels))
            yield Block(rows, shaped, self.label[rows], self.snr[rows], constant)


def scale_faithfully(pixels: NDArray[Any]) -> NDArray[Any]:
    """(x - min x) / (max x - min x) for each row of pixels (n, 441), in their own dtype.

    As in the original there is no guard: a constant row becomes 0/0 = NaN.
    """
    low = pixels.min(axis=1, keepdims=True)
    return (pixels - low) / (pixels.max(axis=1, keepdims=True) - low)


def list_chunks(folder: str | Path, size: int | None, skipped: Counter[str]) -> list[Path]:
    """The chunks of a folder in lexicographic order: those of `size` stamps, or all if `size` is 0.

    Other files are counted in `skipped`. Raises UserError if there is no chunk, or if `size` is None and
    there are chunks of several sizes, which may hold the same stamps twice.
    """
    folder = Path(folder)
    with read_errors(folder):
        names = sorted(path.name for path in folder.iterdir())
    found = {name: int(match[1]) for name in names if (match := _CHUNK.fullmatch(name))}
    sizes = sorted(set(found.values()))
    if not found or (size and size not in sizes):
        wanted = "chunk" if not found else f"chunk of {size}"
        raise UserError(
            f"{folder}: has no {wanted} (chunk_<i>_5000.pkl or chunk_<i>_50000.pkl); "
            f"{_few(names)}; name the folder that has them, or the folder of "
            "chunks_train, chunks_validate and chunks_test"
        )
    if size is None and len(sizes) > 1:
        raise UserError(
            f"{folder}: has chunks of {' and of '.join(map(str, sizes))}, which may be the same stamps "
            f"twice; choose with --chunk-size {sizes[-1]}, or take all with --chunk-size all"
        )
    rotated = sum(bool(_ROTATED.fullmatch(name)) for name in names)
    chosen = [name for name, its_size in found.items() if size in (None, 0, its_size)]
    skipped["rotated_copies"] += rotated
    skipped["other_files"] += len(names) - rotated - len(found)
    skipped["other_sizes"] += len(found) - len(chosen)
    return [folder / name for name in chosen]


def read_chunk(path: str | Path) -> Chunk:
    """A chunk, or the authors' one pickle of images and labels.

    Raises UserError if the file cannot be read, lacks an array, or has one of another shape or type.
    """
    path = Path(path)
    contents = read_dict(path)
    if "images" in contents and "temp_images" not in contents:
        images = _floats(path, "images", contents["images"])
        if images.shape[1:] != (SIDE, SIDE, len(CHANNELS)):
            raise UserError(f"{path}: images has the shape {images.shape}; wanted is (N, 21, 21, 4)")
        columns: list[Any] = [images[..., c] for c in range(len(CHANNELS))]
        names: tuple[str, ...] = ("images", "labels")
    else:
        names = (*_IMAGES, "labels", "SNRs")
        columns = []
    if missing := [name for name in names if name not in contents]:
        raise UserError(f"{path}: has no {', '.join(missing)}; {_few([*contents])}")
    label = _numbers(path, "labels", contents["labels"])
    snr = _numbers(path, "SNRs", contents["SNRs"]) if "SNRs" in contents else None
    columns = columns or [_rows(path, name, contents[name]) for name in _IMAGES]
    counts = sorted({len(column) for column in [*columns, label, *([] if snr is None else [snr])]})
    if len(counts) > 1:
        raise UserError(
            f"{path}: its arrays have {' and '.join(map(str, counts))} rows, not one number of them"
        )
    return _check_rows(path, columns, label, snr)


def _check_rows(path: Path, columns: Sequence[Any], label: NDArray[Any], snr: NDArray[Any] | None) -> Chunk:
    """The chunk, with the rows whose length, label and SNR are good."""
    count = len(label)
    with np.errstate(over="ignore"):
        ratio = np.full(count, np.nan, np.float32) if snr is None else snr.astype(np.float32)
    bad = {
        "wrong_length": ~np.logical_and.reduce([_whole(column) for column in columns]),
        "label_not_finite": ~np.isfinite(label),
        "snr_not_finite": np.zeros(count, dtype=bool) if snr is None else ~np.isfinite(ratio),
    }
    known = np.where(bad["label_not_finite"], 0, label)
    good, skipped = np.ones(count, dtype=bool), Counter[str]()
    for reason, rows in bad.items():  # a row counts once, for its first reason
        skipped[reason] = int((good & rows).sum())
        good &= ~rows
    return Chunk(columns, check_labels(f"{path}: labels", known), ratio, np.flatnonzero(good), skipped)


def _whole(column: Any) -> NDArray[np.bool_]:
    """Which rows have all their pixels."""
    if isinstance(column, list):
        return np.array([row.shape == (_PIXELS,) for row in column], dtype=bool)
    return np.ones(len(column), dtype=bool)


def _take(column: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The pixels (n, 441) of some rows of a column."""
    if isinstance(column, list):
        return np.stack([column[row] for row in rows])
    low, high = int(rows[0]), int(rows[-1]) + 1
    return column[low:high][rows - low].reshape(-1, _PIXELS)


def _rows(path: Path, name: str, column: Any) -> Any:
    """A column of pixels: an array (N, 441) of floats, or a list of N arrays, which may be incomplete."""
    if not isinstance(column, list):
        array = _floats(path, name, column)
        if array.ndim != 2 or array.shape[1] != _PIXELS:
            raise UserError(f"{path}: {name} has the shape {array.shape}; wanted is (N, 441)")
        return array
    rows = [_floats(path, f"a row of {name}", row) for row in column]
    types = {str(row.dtype) for row in rows}
    if len(types) > 1:
        raise UserError(f"{path}: the rows of {name} are of several types ({', '.join(sorted(types))})")
    if sum(row.nbytes for row in rows) > path.stat().st_size:
        raise UserError(f"{path}: {name} is larger than its file, which is damaged; copy it anew")
    return rows


def _floats(path: Path, name: str, values: Any) -> NDArray[Any]:
    if not isinstance(values, np.ndarray):
        raise UserError(
            f"{path}: {name} is not an array but {type(values).__name__}; save an array of floats"
        )
    if values.dtype.kind != "f" or not values.ndim:
        raise UserError(f"{path}: {name} holds {values.dtype}, of shape {values.shape}; wanted are floats")
    return values


def _numbers(path: Path, name: str, values: Any) -> NDArray[Any]:
    """A column (N,) of numbers."""
    if isinstance(values, list) and all(isinstance(value, (int, float, np.generic)) for value in values):
        values = np.array([float(value) for value in values])
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path}: {name} is not an array of numbers but {type(values).__name__}")
    if values.ndim != 1:
        raise UserError(f"{path}: {name} has the shape {values.shape}; wanted is (N,)")
    return values


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(ascii, names[:8])) + (", ..." if len(names) > 8 else "")
    return f"it has {shown}" if shown else "it is empty"
