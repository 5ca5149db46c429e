"""HDF5 files written whole or not at all, also when the disk fills up.

HDF5 keeps what it could not write and tries again at every close, and crashes when the program ends.
So it writes through a Python file that keeps the first error and from then on swallows what comes:
HDF5 closes in peace, the file is removed, and the error is raised.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from rotinv.system.errors import UserError
from rotinv.system.files import first_line, written_whole


@contextlib.contextmanager
def create_hdf5(path: str | Path, *, overwrite: bool = False) -> Iterator[h5py.File]:
    """A new HDF5 file, open for writing; it appears at `path` when the block ends well.

    Raises UserError as written_whole does, and if the disk is full.
    """
    with written_whole(path, overwrite=overwrite) as temporary:
        with _Sink(temporary, "w+") as sink:
            with h5py.File(sink, "w") as file:
                yield file
            if sink.error is not None:
                raise sink.error


class _Sink(io.FileIO):
    """A file whose writes never fail; `error` is the first error that would have been raised."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view) and self.error is None:
                written += super().write(view[written:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises UserError if it is missing, of another kind or damaged, or if another program has it open for
    writing: each says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not an HDF5 file")
    try:
        # "best-effort": a file system that has no locks is no reason not to read.
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise UserError(f"{path}: {_why_not_opened(path, error)} ({first_line(error)})") from error


def _why_not_opened(path: Path, error: OSError) -> str:
    said = str(error)
    if "unable to lock file" in said or "already open" in said:
        return "is open for writing in another program, or was not closed by it; close it there, or wait"
    if not os.access(path, os.R_OK):
        return "cannot be read"
    return "is damaged or is not an HDF5 file"


@contextlib.contextmanager
def reading_hdf5(path: str | Path) -> Iterator[None]:
    """Turn what h5py raises as it reads a file into one line that names the file and the remedy.

    Its exceptions are of many types: a flipped bit makes another type, name, size or address of anything.
    """
    path = Path(path)
    try:
        yield
    except UserError:
        raise
    except _H5PY as error:
        if filters := _missing_filters(path):
            raise UserError(
                f"{path}: needs {filters}, which is not installed here; install it and name its folder in "
                "HDF5_PLUGIN_PATH, or have the file repacked without it: h5repack -f NONE FILE COPY"
            ) from error
        raise UserError(f"{path}: is damaged ({first_line(error)}); copy or make it anew") from error


def _missing_filters(path: Path) -> str:
    """The filters of a file's datasets that this HDF5 library lacks, by number and name."""
    missing: dict[int, str] = {}

    def visit(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            properties = item.id.get_create_plist()
            for i in range(properties.get_nfilters()):
                number, _flags, _values, name = properties.get_filter(i)
                if not h5py.h5z.filter_avail(number):
                    missing[number] = name.decode("utf-8", "replace")

    with contextlib.suppress(*_H5PY), h5py.File(path, "r", locking="best-effort") as file:
        file.visititems(visit)
    return ", ".join(f"HDF5 filter {number} {name}".strip() for number, name in missing.items())


_H5PY = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, SystemError,
         TypeError, ValueError)  # fmt: skip
