"""A lock on a folder, so that one process at a time works on its files.

The lock is the operating system's (files.take_lock), on a file called `lock` that names the process which
holds it. When that process ends, however it ends, the lock is free; the file itself stays and keeps nobody
out.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rotinv.system import files
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors

NAME = "lock"


@contextlib.contextmanager
def held(folder: str | Path, patience: float = 0.0, about: str | Path | None = None) -> Iterator[None]:
    """Hold the lock of an existing folder.

    If another process holds it, wait up to `patience` seconds for it. Processes started by this one may
    `join`. Errors name `about` in place of the folder, if it is given. Raises UserError, naming the other
    process, if it still holds the lock, or if the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / NAME
    with disk_errors(path):
        file = path.open("a+", encoding="utf-8")
    with file:
        until = time.monotonic() + patience
        while not files.take_lock(file):
            if time.monotonic() > until:
                raise UserError(
                    f"{about or folder}: {_holder(path)} is at work in it; wait for it, or stop it"
                )
            time.sleep(0.1)
        with disk_errors(path):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        files.share_lock(file)  # processes that join may outlive this one by a moment
        yield


def join(folder: str | Path) -> None:
    """Share a folder's lock with the process that started this one and holds it, until this process ends."""
    folder = Path(folder)
    _joined.append((folder / NAME).open("a+", encoding="utf-8"))
    files.share_lock(_joined[-1])


_joined: list[IO[str]] = []  # kept open, since a lock ends when its file is closed


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
