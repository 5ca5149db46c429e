"""A folder for caches where the user has none: no home, or one that cannot be written.

Numba's cache holds pickled code, which is run when it is read. So the folder has a name that nobody can guess
(tempfile.mkdtemp), only this user may enter it, and it is removed when the process ends.
"""

import atexit
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rotinv.system import messages

T = TypeVar("T")

_log = logging.getLogger(__name__)


@functools.cache
def folder() -> Path:
    """This process's folder, made at the first call."""
    path = Path(tempfile.mkdtemp(prefix="rotinv-"))
    atexit.register(_remove, path, os.getpid())
    return path


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:  # a forked child shares the folder, and leaves it to its parent
        shutil.rmtree(path, ignore_errors=True)


def has_home() -> bool:
    """Whether the user has a home folder: in a container, a foreign user id may have none."""
    return os.path.expanduser("~") != "~"


def njit(**options: Any) -> Callable[[Callable], Any]:
    """numba.njit with a cache on disk, in a temporary folder where there is no other."""
    import numba

    return lambda function: with_numba_cache(lambda: numba.njit(cache=True, **options)(function))


def with_numba_cache(declare: Callable[[], T]) -> T:
    """Call `declare`, which declares functions that Numba caches. If Numba finds no folder for them, try in
    `folder`.

    Numba looks in NUMBA_CACHE_DIR, in the package's own __pycache__ and in the user's cache folder.
    """
    if not has_home() and not os.access(Path(__file__).parent, os.W_OK):
        _use_temporary()  # Numba would make a folder that is called "~" in the current one
    try:
        return declare()
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        _use_temporary()
        return declare()


def tell_of_numba_cache() -> None:
    """Warn once that compiled functions will be lost. Called where computing begins, so that --help does not
    warn."""
    if "numba" in _made:
        messages.once(
            _log,
            "no folder for Numba's cache can be written: kernels are compiled anew each time, for up to a "
            "minute; to keep them, name a folder of yours in NUMBA_CACHE_DIR",
        )


def prepare_matplotlib() -> None:
    """Give matplotlib a temporary folder for its settings and fonts where it has no other.

    To be called before matplotlib is imported.
    """
    named = os.environ.get("MPLCONFIGDIR")
    usual = {"XDG_CONFIG_HOME": "~/.config", "XDG_CACHE_HOME": "~/.cache"}
    places = [named] if named else [os.environ.get(name) or usual[name] for name in usual]
    if not all(writable(place) for place in places):
        os.environ["MPLCONFIGDIR"] = str(_subfolder("matplotlib"))
        messages.once(
            _log,
            "matplotlib has no folder that can be written, so it looks for the fonts anew each time; to keep "
            "what it finds, name a folder of yours in MPLCONFIGDIR",
        )


def writable(place: str | Path) -> bool:
    """Whether files can be made in a folder, or in the nearest existing folder above it."""
    path = Path(os.path.expanduser(place))
    if not path.is_absolute():  # "~" stands for no home
        return False
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


_made: set[str] = set()


def _subfolder(name: str) -> Path:
    path = folder() / name
    path.mkdir(exist_ok=True)
    _made.add(name)
    return path


def _use_temporary() -> None:
    """Point Numba, here and in processes that are started later, to the temporary folder."""
    import numba

    path = str(_subfolder("numba"))
    os.environ["NUMBA_CACHE_DIR"] = path
    numba.config.CACHE_DIR = path  # type: ignore[attr-defined]  # made at run time
