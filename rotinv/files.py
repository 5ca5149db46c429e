"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from rotinv.errors import UserError


@contextlib.contextmanager
def written_whole(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; rename it to `path` when the block ends well.

    The file is flushed to disk before the rename, and removed if the block raises, so that `path`
    never holds half a file.

    Raises UserError if `path` exists and `overwrite` is False, or if its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    refuse_existing(path, overwrite)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with disk_errors(path):
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            refuse_existing(path, overwrite)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file in place of the last one."""
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Raise UserError if `path` exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; name another file, or remove it")


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
        raise UserError(f"{path}: {reason} ({_first_line(error)})") from error


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk says (full, read-only, no such folder) into one line that names the file."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else _first_line(error)
        raise UserError(f"{path}: cannot be written ({reason})") from error
    except RuntimeError as error:  # h5py reports a failed flush or close of a full disk so
        if "file" in str(error).lower() or "write" in str(error).lower():
            raise UserError(f"{path}: cannot be written ({_first_line(error)})") from error
        raise


def _flush(path: Path) -> None:
    """Bring a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
