"""Files that are whole or absent: each is written under another name, flushed to disk, then renamed.

A process that is killed leaves its temporary file, `.NAME.PROCESS.xxxx.part`. While it writes, a process
holds a lock on its temporary file, so that the next process can tell which of these files are abandoned, and
removes them.

The lock is the operating system's (flock), which ends with its process, however that ends. Windows and some
file systems have no such locks: there two processes are not kept apart, and abandoned files may stay.
"""

import contextlib
import errno
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rotinv.system import messages
from rotinv.system.errors import UserError

if sys.platform == "win32":
    _ALONE = _SHARED = 0
else:
    import fcntl

    _ALONE, _SHARED = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH

# The errors of a file system that does not know a call.
_NOT_SUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.ENOTTY}

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def written_whole(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder, and rename it to `path` when the block ends without an error.

    The file is flushed to disk before the rename, and removed if the block raises, so that `path` never holds
    half a file. What killed processes left of earlier tries is removed.

    Raises UserError if `overwrite` is False and `path` exists or another process is writing it, and if its
    folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    refuse_existing(path, overwrite)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path, overwrite)
        handle, temporary = _create_temporary(path)
    try:
        with disk_errors(path):
            yield temporary
            _flush(temporary)
            with contextlib.suppress(PermissionError):  # some file systems do not store modes
                temporary.chmod(0o666 & ~_umask())
            refuse_existing(path, overwrite)
            temporary.replace(path)
            _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def is_temporary(path: str | Path) -> bool:
    """Whether a path is a temporary file's: one that is being written, or that a killed process left."""
    path = Path(path)
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_abandoned(folder: str | Path) -> None:
    """Remove from a folder, and from those in it, the temporary files whose processes were killed."""
    folder = Path(folder)
    for path in folder.rglob(".*.part"):
        _unlink_abandoned(path)


def check_ours(folder: str | Path, ours: re.Pattern[str]) -> None:
    """Check that a folder, if it exists, holds only this program's files.

    `ours` matches their names. Raises UserError if there is another file in it, or if it is not a folder.
    """
    folder = Path(folder)
    with disk_errors(folder):
        paths = sorted(folder.iterdir()) if folder.exists() else []
    for path in paths:
        if not ours.fullmatch(path.name) and not is_temporary(path):
            raise UserError(
                f"{folder}: holds {path.name}, which is not of this program; move it, or the folder"
            )


def remove_ours(folder: str | Path, ours: re.Pattern[str]) -> None:
    """Remove the files whose names `ours` matches, in reverse order of name, and then an empty folder."""
    folder = Path(folder)
    with disk_errors(folder):
        for path in sorted(folder.iterdir(), reverse=True):
            if ours.fullmatch(path.name) or is_temporary(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another's files are there
            folder.rmdir()


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file; one that is there is replaced."""
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def refuse_existing(path: str | Path, overwrite: bool = False) -> None:
    """Raise UserError if `path` exists and may not be overwritten."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(
            f"{path}: exists already; name another file, or replace it (--overwrite, in Python "
            "overwrite=True)"
        )


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an error of the disk (full, read-only, no such folder) into a UserError that names the path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"{path}: cannot be written ({reason})") from error
    except RuntimeError as error:  # h5py reports a failed flush or close of a full disk so
        if "file" in str(error).lower() or "write" in str(error).lower():
            raise UserError(f"{path}: cannot be written ({first_line(error)})") from error
        raise


@contextlib.contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn an error of reading a file (missing, not permitted, the disk's) into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error


def _create_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked as long as the descriptor is open."""
    while True:
        prefix = f".{path.name}.{os.getpid()}."
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        # Between its making and its locking, another process may have removed it as abandoned.
        if take_lock(handle) and os.path.exists(name):
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(path: Path, shared: bool) -> None:
    """Remove the temporary files of `path` that no process writes any more.

    Raises UserError if a process is writing one, unless `shared`.
    """
    for temporary in path.parent.iterdir():
        if not (is_temporary(temporary) and temporary.name.startswith(f".{path.name}.")):
            continue
        if _unlink_abandoned(temporary) or shared:
            continue
        number = temporary.name.removeprefix(f".{path.name}.").partition(".")[0]
        raise UserError(f"{path}: process {number} is writing it; wait for it, or stop it")


def _unlink_abandoned(temporary: Path) -> bool:
    """Remove a temporary file that no process writes; returns whether none is known to write it.

    Where the file system has no locks the file stays, since a process may be writing it.
    """
    try:
        handle = os.open(temporary, os.O_RDWR)
    except OSError:  # gone, or another user's
        return True
    try:
        taken = _flock(handle, _ALONE)
        if taken:
            temporary.unlink(missing_ok=True)
        return taken is not False
    finally:
        os.close(handle)


def _flush(file: Path) -> None:
    """Bring a file's bytes to the disk."""
    _sync(os.open(file, os.O_RDONLY), "cannot flush a file to the disk")


def _flush_folder(folder: Path) -> None:
    """Bring a folder's entries, such as a file's new name, to the disk.

    CIFS, VirtualBox's and some FUSE file systems cannot do that, and a folder may be one that we may write to
    but not read. The file is there nevertheless.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    _sync(descriptor, "cannot flush a folder to the disk")


def _sync(descriptor: int, problem: str) -> None:
    """Flush an open file or folder to the disk, and close it; warn of `problem` if the file system cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _unless_unsupported(error, problem)
    finally:
        os.close(descriptor)


def _unless_unsupported(error: OSError, what: str) -> None:
    """Raise an error of the disk, but warn once and go on if the file system merely does not know the
    call."""
    if error.errno not in _NOT_SUPPORTED:
        raise error
    messages.once(
        _log,
        f"the file system {what} ({error.strerror}); rotinv goes on, but a power cut could lose what it has "
        "just written",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def take_lock(file: int | IO[str]) -> bool:
    """Take a file's lock; False if another process has it. Where there are no locks, this always succeeds."""
    return _flock(file, _ALONE) is not False


def share_lock(file: int | IO[str]) -> None:
    """Share a file's lock with all others that share it; waits for a process that has it alone."""
    _flock(file, _SHARED)


def _flock(file: int | IO[str], operation: int) -> bool | None:
    """Ask for a lock. Returns whether it was given, or None where there are no locks, of which it warns once.

    Lustre without the mount option `flock` has none, nor have some NFS and FUSE file systems.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        messages.once(
            _log,
            f"the file system has no locks ({error.strerror}): rotinv goes on without them, so see to it "
            "that no two processes write the same file or folder",
        )
        return None
    return True
