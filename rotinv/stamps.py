"""The stamp store: HDF5 with the groups train, validate and test, checked whole when it is opened.

Each group holds `stamps` (N, S, S, C) float32 and `label` (1 candidate, 0 artifact), and may hold
`snr`, `kind` (an index into the attribute `kinds`) and `image` (whose stamps stay in one split).
The root's attributes are `format`, `channels`, `normalisation` ('none' or 'minmax') and `kinds`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from rotinv.errors import UserError
from rotinv.files import open_hdf5, written_whole
from rotinv.pixels import NORMALISATIONS, Stamps, crop, normalise, prepare

__all__ = [
    "SPLITS",
    "Split",
    "StampStore",
    "Writer",
    "create_store",
    "crop",
    "find_bad",
    "normalise",
    "prepare",
    "usable",
]

FORMAT = "rotinv-stamps-1"
SPLITS = ("train", "validate", "test")
BLOCK = 64  # stamps in a block of the file
_SCAN = 1 << 23  # pixels looked at together by find_bad
_COLUMNS = {"snr": np.float32, "kind": np.uint8, "image": np.int64}


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a store, or an array of stamps: its pixels stay on disk until they are asked for."""

    path: Path
    name: str
    pixels: Any  # (N, S, S, C): an HDF5 dataset, an array or a memory map
    normalisation: str = "none"
    label: NDArray[np.uint8] | None = None  # a store always has it; a scored array may not
    snr: NDArray[np.float32] | None = None
    kind: NDArray[np.uint8] | None = None
    image: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def size(self) -> int:
        """The number of stamps."""
        return len(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (S, S, C) of a stamp."""
        return tuple(self.pixels.shape[1:])

    @property
    def block(self) -> int:
        """How many stamps lie together on disk and are best read together."""
        chunks = getattr(self.pixels, "chunks", None)
        return int(chunks[0]) if chunks else BLOCK

    def raw(self, start: int | ArrayLike, stop: int | None = None) -> Stamps:
        """The stamps from `start` up to `stop`, or those of an array of indices, as the store holds them."""
        try:
            if stop is not None:
                return np.array(self.pixels[start:stop], dtype=np.float32, order="C")
            indices = np.asarray(start, dtype=np.int64)
            if isinstance(self.pixels, h5py.Dataset):
                return self._gather(indices)
            return np.array(self.pixels[indices], dtype=np.float32, order="C")
        except OSError as error:
            raise UserError(f"{self.path}: stamps of split '{self.name}' cannot be read; "
                            "the file is damaged: copy or make it anew") from error

    def _gather(self, indices: NDArray[np.int64]) -> Stamps:
        """Read the blocks in which `indices` lie, each once (HDF5's own index lists are far slower)."""
        out = np.empty((len(indices), *self.shape), dtype=np.float32)
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        ends = np.flatnonzero(np.diff(ordered // self.block)) + 1
        for places in np.split(order, ends) if len(order) else []:
            rows = indices[places]
            low = int(rows[0])
            out[places] = self.pixels[low : int(rows[-1]) + 1][rows - low]
        return out


class StampStore:
    """An open store. Raises UserError for anything in the file that is not as the format says."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_hdf5(self.path)
        try:
            self._read()
        except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
            self.close()
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path}: is damaged ({reason}); copy or make it anew") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "StampStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; its splits can then read no more pixels."""
        self._file.close()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of stamps of each split; a split that the file lacks is empty."""
        return {name: len(self._splits[name]) if name in self._splits else 0 for name in SPLITS}

    def split(self, name: str) -> Split:
        """The split of that name. Raises UserError if there is none, or if it is empty."""
        if not self.sizes.get(name):
            what = "is empty" if name in SPLITS else "does not exist"
            full = ", ".join(f"{key} ({size})" for key, size in self.sizes.items() if size) or "none"
            raise UserError(f"{self.path}: split '{name}' {what}; splits with stamps: {full}")
        return self._splits[name]

    def _read(self) -> None:
        path, root = self.path, self._file
        if _texts(root.attrs.get("format")) != [FORMAT]:
            raise UserError(f"{path}: is not a stamp store (its attribute 'format' is not '{FORMAT}'); "
                            "make one with rotinv pack")
        self.channels = _texts(root.attrs.get("channels"))
        self.kinds = _texts(root.attrs.get("kinds"))
        self.normalisation = "".join(_texts(root.attrs.get("normalisation")))
        if self.normalisation not in NORMALISATIONS:
            raise UserError(f"{path}: normalisation '{self.normalisation}' is unknown; "
                            f"the attribute must be one of {', '.join(NORMALISATIONS)}")
        self._splits = {name: self._read_split(name) for name in SPLITS if name in root}
        shapes = {split.shape for split in self._splits.values()}
        if len(shapes) != 1:
            found = ", ".join(f"{name} {split.shape}" for name, split in self._splits.items()) or "no split"
            raise UserError(f"{path}: stamps of all splits must have one shape; found {found}")
        self.size, _, channels = shapes.pop()
        if len(self.channels) != channels:
            raise UserError(f"{path}: stamps have {channels} channels, but the attribute 'channels' names "
                            f"{len(self.channels)}; name each")

    def _read_split(self, name: str) -> Split:
        group, where = self._file[name], f"{self.path}: {name}"
        if not isinstance(group, h5py.Group):
            raise UserError(f"{where} is not a group; make the store with rotinv pack")
        stamps = _dataset(where, group, "stamps", "fiu")
        if stamps.ndim != 4 or stamps.shape[1] != stamps.shape[2] or 0 in stamps.shape[1:]:
            raise UserError(f"{where}/stamps has the shape {stamps.shape}; it must be (N, S, S, C)")
        label = check_labels(f"{where}/label", _column(where, group, "label", "iub", len(stamps)))
        columns: dict[str, Any] = {}
        for key, dtype in _COLUMNS.items():
            if key in group:
                columns[key] = _column(where, group, key, "fiu" if key == "snr" else "iu", len(stamps))
                if key == "kind":
                    _check_kinds(f"{where}/kind", columns[key], len(self.kinds))
                columns[key] = columns[key].astype(dtype)
        return Split(self.path, name, stamps, self.normalisation, label, **columns)


class Writer:
    """Appends stamps to a store that is being made (see create_store)."""

    def __init__(self, file: h5py.File, size: int, channels: int) -> None:
        self._file = file
        self._shape = (size, size, channels)
        self._written = 0

    def append(self, split: str, stamps: ArrayLike, label: ArrayLike, snr: ArrayLike | None = None,
               kind: ArrayLike | None = None, image: ArrayLike | None = None) -> None:
        """Add stamps (n, S, S, C) with their labels (n,) to a split.

        Missing `snr` is NaN, missing `kind` 0, and without `image` each stamp is an image of its own.
        """
        pixels = np.asarray(stamps, dtype=np.float32)
        count = len(pixels)
        if pixels.shape != (count, *self._shape):
            raise ValueError(f"stamps of shape {pixels.shape} in a store of {self._shape}")
        columns = {
            "label": check_labels("label", np.asarray(label)),
            "snr": np.full(count, np.nan) if snr is None else np.asarray(snr),
            "kind": np.zeros(count) if kind is None else np.asarray(kind),
            "image": np.arange(self._written, self._written + count) if image is None else np.asarray(image),
        }
        for name, values in columns.items():
            if values.shape != (count,):
                raise ValueError(f"{name} of shape {values.shape} for {count} stamps")
        group = self._file[split]
        for name, values in {"stamps": pixels, **columns}.items():
            dataset = group[name]
            start = len(dataset)
            dataset.resize(start + count, axis=0)
            dataset[start:] = values
        self._written += count


@contextlib.contextmanager
def create_store(path: str | Path, *, channels: Sequence[str], size: int,
                 normalisation: Literal["none", "minmax"] = "none", kinds: Sequence[str] = (),
                 attributes: Mapping[str, Any] | None = None, overwrite: bool = False) -> Iterator[Writer]:
    """Make a store of stamps (size, size, len(channels)); the file appears whole, or not at all."""
    with written_whole(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["normalisation"] = normalisation
        for name, texts in (("channels", channels), ("kinds", kinds)):
            file.attrs.create(name, np.array(list(texts), dtype=object), dtype=h5py.string_dtype())
        file.attrs.update(attributes or {})
        for split in SPLITS:
            _create_split(file.create_group(split), size, len(channels))
        yield Writer(file, size, len(channels))


def find_bad(split: Split, progress: bool = False) -> NDArray[np.int64]:
    """The indices of the stamps with NaN or infinite pixels, found block by block."""
    step = max(1, _SCAN // int(np.prod(split.shape)) // split.block) * split.block
    bad = [np.zeros(0, dtype=np.int64)]
    for start in tqdm(range(0, len(split), step), desc="checking pixels", disable=not progress, leave=False):
        block = split.raw(start, min(start + step, len(split)))
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        bad.append(start + np.flatnonzero(~finite))
    return np.concatenate(bad)


def usable(split: Split, on_bad: str, progress: bool = False) -> NDArray[np.int64]:
    """The indices of the stamps whose pixels are all finite.

    Raises UserError if there are others and `on_bad` is 'error', or if none is left.
    """
    bad = find_bad(split, progress)
    if len(bad) and on_bad == "error":
        raise UserError(f"{split.path}: {len(bad)} of {len(split)} stamps of split '{split.name}' have NaN "
                        f"or infinite pixels (index {_first_few(bad)}); --on-bad drop leaves them out")
    if len(bad) == len(split):
        raise UserError(f"{split.path}: split '{split.name}' has no stamp with finite pixels only "
                        f"({len(bad)} of {len(split)} are bad)")
    return np.setdiff1d(np.arange(len(split)), bad, assume_unique=True)


def check_labels(where: str, label: NDArray[Any]) -> NDArray[np.uint8]:
    """The labels as uint8. Raises UserError, naming the first, if any is not 0 or 1."""
    wrong = np.flatnonzero(~np.isin(label, (0, 1)))
    if len(wrong):
        raise UserError(f"{where}: {len(wrong)} of {len(label)} labels are not 0 or 1 "
                        f"(the first is {label[wrong[0]]!s} at index {wrong[0]}); 1 is candidate, 0 artifact")
    return label.astype(np.uint8)


def _check_kinds(where: str, kind: NDArray[Any], count: int) -> None:
    wrong = np.flatnonzero((kind < 0) | (kind >= max(count, 1)))
    if len(wrong):
        raise UserError(f"{where}: {kind[wrong[0]]} at index {wrong[0]} is no index into the {count} names "
                        "of the attribute 'kinds'; name every kind there")


def _create_split(group: h5py.Group, size: int, channels: int) -> None:
    shape = (size, size, channels)
    block = max(1, min(BLOCK, (1 << 20) // (4 * int(np.prod(shape)))))  # a block fits HDF5's cache
    group.create_dataset("stamps", (0, *shape), np.float32, maxshape=(None, *shape), chunks=(block, *shape))
    for name, dtype in {"label": np.uint8, **_COLUMNS}.items():
        group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(8192,))


def _dataset(where: str, group: h5py.Group, name: str, types: str) -> h5py.Dataset:
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{where} has no dataset '{name}'; make the store with rotinv pack")
    if found.dtype.kind not in types:
        raise UserError(f"{where}/{name} holds {found.dtype}, not numbers; make the store with rotinv pack")
    return found


def _column(where: str, group: h5py.Group, name: str, types: str, count: int) -> NDArray[Any]:
    found = _dataset(where, group, name, types)
    if found.shape != (count,):
        raise UserError(f"{where}/{name} has the shape {found.shape}, but there are {count} stamps")
    return np.asarray(found[()])


def _texts(value: Any) -> list[str]:
    """A text attribute as a list of texts: h5py gives one or an array, text or bytes."""
    if value is None or isinstance(value, h5py.Empty):
        return []
    items = np.ravel(np.asarray(value, dtype=object))
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]


def _first_few(indices: NDArray[np.int64]) -> str:
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
