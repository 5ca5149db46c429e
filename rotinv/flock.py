"""The operating system's lock of an open file, which ends with the process that has it, however that ends.

Windows has no such lock: there AVAILABLE is False, and nothing is kept out.
"""

import sys
from typing import IO

if sys.platform != "win32":
    import fcntl

AVAILABLE = sys.platform != "win32"


def take(file: int | IO[str]) -> bool:
    """Take a file's lock; False if somebody has it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def share(file: int | IO[str]) -> None:
    """Have a file's lock together with all others that share it; waits for who has it alone."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_SH)
