"""One process at a time at a folder's files: a lock of the operating system (flock.py).

The lock is on a file that names who holds it. A process that is killed leaves the file, which holds nobody
up.
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
    """Hold the lock of a folder that exists; another process may have it for `patience` seconds more.

    `about` is what is told of in its place. Processes that this one starts may `join`. Raises UserError,
    naming the process at work, if there is one, or if the folder cannot be written.
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
        files.share_lock(file)  # with those that join: they may outlive this process by a moment
        yield


def join(folder: str | Path) -> None:
    """Hold a folder's lock as well, until this process ends; the process that started it holds it."""
    folder = Path(folder)
    _joined.append((folder / NAME).open("a+", encoding="utf-8"))
    files.share_lock(_joined[-1])


_joined: list[IO[str]] = []  # open files, lest their locks end


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
