"""Files that are whole or not there: written beside their place, flushed to disk, then renamed.

A process that is killed leaves its temporary file, `.NAME.PROCESS.xxxx.part`. Whoever writes a file holds a
lock on his, so that the next to write the same file knows what nobody writes any more, and removes it.

The lock is the operating system's (flock): it ends with the process that has it, however that ends. Windows
has none: there LOCKS_AVAILABLE is False, and nothing is kept out.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rotinv.system.errors import UserError


@contextlib.contextmanager
def written_whole(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; rename it to `path` when the block ends well.

    The file is flushed to disk before the rename, and removed if the block raises, so that `path`
    never holds half a file. What killed processes left of earlier tries is removed.

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
            temporary.chmod(0o666 & ~_umask())
            refuse_existing(path, overwrite)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def is_temporary(path: Path) -> bool:
    """Whether a name is that of a file which is being written, or was when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_abandoned(folder: Path) -> None:
    """Remove from a folder, and from those in it, the temporary files whose processes were killed."""
    if LOCKS_AVAILABLE:
        for path in folder.rglob(".*.part"):
            _unlink_abandoned(path)


def check_ours(folder: Path, ours: re.Pattern[str]) -> None:
    """Raise UserError if a folder that is there is none, or holds a file whose name is none of ours."""
    with disk_errors(folder):
        found = sorted(folder.iterdir()) if folder.exists() else []
    for path in found:
        if not ours.fullmatch(path.name) and not is_temporary(path):
            raise UserError(
                f"{folder}: holds {path.name}, which is not of this program; move it, or the folder"
            )


def remove_ours(folder: Path, ours: re.Pattern[str]) -> None:
    """Remove our files from a folder, the last by name first, and the folder if nothing is left in it."""
    with disk_errors(folder):
        for path in sorted(folder.iterdir(), reverse=True):
            if ours.fullmatch(path.name) or is_temporary(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another's files are there
            folder.rmdir()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file in place of the last one."""
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """Raise UserError if `path` exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; name another file, or remove it")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk says (full, read-only, no such folder) into one line that names the file."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"{path}: cannot be written ({reason})") from error
    except RuntimeError as error:  # h5py reports a failed flush or close of a full disk so
        if "file" in str(error).lower() or "write" in str(error).lower():
            raise UserError(f"{path}: cannot be written ({first_line(error)})") from error
        raise


def _create_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked as long as the descriptor is open."""
    while True:
        prefix = f".{path.name}.{os.getpid()}."
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        if take_lock(handle) and os.path.exists(name):  # else another process took it for an abandoned one
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(path: Path, shared: bool) -> None:
    """Remove the temporary files of `path` that nobody writes: their processes were killed.

    Raises UserError if somebody is writing one, unless `shared`.
    """
    if not LOCKS_AVAILABLE:
        return
    for found in path.parent.iterdir():
        if not (is_temporary(found) and found.name.startswith(f".{path.name}.")):
            continue
        if _unlink_abandoned(found) or shared:
            continue
        number = found.name.removeprefix(f".{path.name}.").partition(".")[0]
        raise UserError(f"{path}: process {number} is writing it; wait for it, or stop it")


def _unlink_abandoned(temporary: Path) -> bool:
    """Remove a temporary file that nobody writes; says whether nobody does."""
    try:
        handle = os.open(temporary, os.O_RDWR)
    except OSError:  # gone, or another user's
        return True
    try:
        if found := take_lock(handle):
            temporary.unlink(missing_ok=True)
        return found
    finally:
        os.close(handle)


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


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if sys.platform != "win32":
    import fcntl

LOCKS_AVAILABLE = sys.platform != "win32"


def take_lock(file: int | IO[str]) -> bool:
    """Take a file's lock; False if somebody has it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def share_lock(file: int | IO[str]) -> None:
    """Have a file's lock together with all others that share it; waits for who has it alone."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_SH)
