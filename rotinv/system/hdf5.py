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
    """A file whose writes never fail: `error` holds the first that did."""

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
    """Open an HDF5 file for reading. Raises UserError if it is missing, truncated or of another kind."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not an HDF5 file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "cannot be read" if not os.access(path, os.R_OK) else "is damaged or is not an HDF5 file"
        raise UserError(f"{path}: {reason} ({first_line(error)})") from error


@contextlib.contextmanager
def reading_hdf5(path: Path) -> Iterator[None]:
    """Turn what h5py raises as it reads a damaged file into one line that names it.

    Its exceptions are of many types: a flipped bit makes another type, name, size or address of anything.
    """
    try:
        yield
    except _H5PY as error:
        raise UserError(f"{path}: is damaged ({first_line(error)}); copy or make it anew") from error


_H5PY = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, SystemError,
         TypeError, ValueError)  # fmt: skip
