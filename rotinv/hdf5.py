"""HDF5 files written whole or not at all, also when the disk fills up.

HDF5 keeps what it could not write and tries again at every close, and crashes when the program ends.
So it writes through a Python file that keeps the first error and from then on swallows what comes:
HDF5 closes in peace, the file is removed, and the error is raised.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from rotinv.files import written_whole


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
