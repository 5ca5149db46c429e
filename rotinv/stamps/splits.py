"""Splits: a part of a store, or an array, whose pixels are read in blocks. Finds stamps that no network can
take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.pixels import Stamps, crop, prepare
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import reading_hdf5
from rotinv.system.messages import counted

WHOLE = "stamps"  # the name of a split that is a whole array
CHUNK = 64  # stamps in a chunk of a store's file, which HDF5 reads as a whole
BLOCK = 2000  # stamps that are read or made at a time
_SCAN = 1 << 23  # pixels that a scan of all stamps reads at a time
_FLAT = 2.0**-10  # range / value of a channel: below this, float32 has less than 16,000 steps in the range


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a store, or an array of stamps. Its pixels stay on disk until they are asked for."""

    path: Path
    name: str
    pixels: Any  # (N, S, S, C): an HDF5 dataset, an array or a memory map
    normalisation: str = "none"
    label: NDArray[np.uint8] | None = None  # a store always has it; a scored array may not
    snr: NDArray[np.float32] | None = None
    kind: NDArray[np.uint8] | None = None
    image: NDArray[np.int64] | None = None
    channels: tuple[str, ...] | None = None  # a store names them; an array cannot
    kinds: tuple[str, ...] = ()  # the names of `kind`'s numbers
    flags: NDArray[np.uint32] | None = None  # of alerts: the bits of rotinv/alerts/stamp.py
    alerts: Mapping[str, Any] = field(default_factory=dict)  # ids and more, read as they are asked for
    classes: Classes = TWO  # what the labels mean
    taken: tuple[int, ...] | None = None  # the places of these channels in the file; None: all of them
    side: int | None = None  # of the centre that a network reads; None: it reads whole stamps

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (S, S, C) of a stamp."""
        size, _, channels = self.pixels.shape[1:]
        return size, size, channels if self.taken is None else len(self.taken)

    @property
    def block(self) -> int:
        """How many stamps lie together on disk and are best read together."""
        chunks = getattr(self.pixels, "chunks", None)
        return int(chunks[0]) if chunks else CHUNK

    def raw(self, start: int | ArrayLike, stop: int | None = None) -> Stamps:
        """The stamps from `start` up to `stop`, or those at an array of indices, as the store holds them."""
        with reading_hdf5(self.path):
            if stop is not None:
                found = self._float32(self.pixels[start:stop])
            elif isinstance(self.pixels, h5py.Dataset):
                found = self._gather(np.asarray(start, dtype=np.int64))
            else:
                found = self._float32(self.pixels[np.asarray(start, dtype=np.int64)])
            return found if self.taken is None else found[..., self.taken]

    def with_channels(self, names: Sequence[str]) -> "Split":
        """These stamps with only the channels of these names, in this order.

        Raises UserError if the stamps' channels have no names, or if one of these is missing.
        """
        known = self.channels or ()
        if missing := [name for name in names if name not in known]:
            raise UserError(f"{self.path}: has the channels {', '.join(known)}, and not {missing[0]}")
        if tuple(names) == known:
            return self
        taken = tuple(known.index(name) for name in names)
        return replace(self, channels=tuple(names), taken=taken)

    def _float32(self, pixels: NDArray) -> Stamps:
        """Pixels in float32. If they are raw and wider than float32, small differences on a large background
        are kept."""
        rounded = _float32(pixels)
        if self.normalisation != "none" or np.can_cast(pixels.dtype, np.float32):
            return rounded
        return _without_offset(pixels, rounded)

    def _gather(self, indices: NDArray[np.int64]) -> Stamps:
        """Read each block in which `indices` lie once. HDF5's own lists of indices are far slower."""
        out = np.empty((len(indices), *self.pixels.shape[1:]), dtype=np.float32)
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        ends = np.flatnonzero(np.diff(ordered // self.block)) + 1
        for places in np.split(order, ends) if len(order) else []:
            rows = indices[places]
            low = int(rows[0])
            out[places] = self._float32(self.pixels[low : int(rows[-1]) + 1])[rows - low]
        return out


def find_bad(split: Split, progress: bool = False) -> NDArray[np.int64]:
    """The indices of the stamps with pixels that a network reads and that are not finite in float32."""
    bad = [np.zeros(0, dtype=np.int64)]
    for start, block in _blocks(split, progress):
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        bad.append(start + np.flatnonzero(~finite))
    return np.concatenate(bad)


def check_scaled(split: Split, progress: bool = False) -> None:
    """Raise UserError, naming the first stamp, if a finite pixel of stamps that are said to be scaled is not
    in 0-1."""
    for start, block in _blocks(split, progress):
        flat = block.reshape(len(block), -1)
        outside = np.abs(flat - 0.5) > 0.5 + 1e-6  # a NaN counts as inside
        if outside.any():
            row = int(outside.any(axis=1).argmax())
            value = flat[row][outside[row]][0]
            raise UserError(
                f"{split.path}: stamp {start + row} has a pixel of {value:g}, outside 0-1: the stamps "
                "are not scaled; do not say that they are"
            )


def count_constant(split: Split, progress: bool = False) -> int:
    """How many channels of the stamps, as a network reads them, are constant; these become zeros."""
    return sum(prepare(block, split.normalisation)[1] for _, block in _blocks(split, progress))


def usable(
    split: Split,
    on_bad: str,
    progress: bool = False,
    *,
    may_be_none: bool = False,
    remedy: str = "--on-bad drop leaves them out",
) -> NDArray[np.int64]:
    """The indices of the stamps of which all pixels that a network reads are finite.

    Raises UserError, which says `remedy`, if `on_bad` is 'error' and there are other stamps; and, unless
    there `may_be_none`, if no usable stamp is left.
    """
    bad = find_bad(split, progress)
    where = "" if split.name == WHOLE else f" in '{split.name}'"
    if len(bad) and on_bad == "error":
        raise UserError(
            f"{split.path}: {len(bad):,} of {counted(len(split), 'stamp')}{where} have "
            f"{bad_pixels(split, bad)} (index {first_few(bad)}); {remedy}"
        )
    if len(bad) == len(split) and not may_be_none:
        why = f"for all {len(bad):,} have {bad_pixels(split, bad)}" if len(bad) else "it is empty"
        raise UserError(f"{split.path}: no stamp{where} is left, {why}")
    return np.setdiff1d(np.arange(len(split)), bad, assume_unique=True)


def bad_pixels(split: Split, bad: NDArray[np.int64]) -> str:
    """What is wrong with the pixels of the stamps at the indices `bad`, as the first of them shows."""
    with reading_hdf5(split.path):
        pixels = _centre(split, np.asarray(split.pixels[int(bad[0])])[None])
    pixels = pixels if split.taken is None else pixels[..., split.taken]
    if not np.isfinite(pixels).all():
        return "NaN or infinite pixels"
    first = pixels.flat[np.argmax(~np.isfinite(_float32(pixels)))]
    return f"pixels too large for float32, the first {first:g}"


def _blocks(split: Split, progress: bool) -> Iterator[tuple[int, Stamps]]:
    """What a network reads of all raw stamps, block by block, each block with its first stamp's index."""
    step = max(1, _SCAN // int(np.prod(split.shape)) // split.block) * split.block
    starts = range(0, len(split), step)
    for start in tqdm(starts, desc="checking pixels", disable=not progress, leave=False):
        yield start, _centre(split, split.raw(start, min(start + step, len(split))))


def _centre(split: Split, stamps: NDArray[Any]) -> NDArray[Any]:
    """What a network reads of stamps (n, S, S, C)."""
    return stamps if split.side is None else crop(stamps, split.side)


def _float32(pixels: ArrayLike) -> Stamps:
    """The pixels in float32, in memory. Values too large for float32 become infinite, which find_bad then
    finds."""
    with np.errstate(over="ignore"):
        found = np.asarray(pixels, dtype=np.float32, order="C")
        return found if found.flags.owndata else found.copy()  # not a view of a memory map


def _without_offset(pixels: NDArray, rounded: Stamps) -> Stamps:
    """`rounded`, but the least pixel is subtracted from each channel whose range is small beside its values.

    There most of float32's seven digits would be spent on the background, and the pixels' differences be
    rounded. Scaling to 0-1 subtracts the least pixel anyway.
    """
    wide = pixels.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of NaN and infinite pixels, which stay as they are
        least, most = (f(wide, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        flat = most - least < _FLAT * np.maximum(np.abs(least), np.abs(most))
        return np.where(flat, wide - least, rounded).astype(np.float32) if flat.any() else rounded


def first_few(indices: NDArray[np.int64]) -> str:
    """The first five of some indices, as text."""
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
