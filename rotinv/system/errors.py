"""The one error that a user's input can cause, and libraries that only some programs need (the extras)."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Bad input: one line that names the file, the value and the remedy.

    Everything public raises it where its input cannot be used; being a ValueError, it is caught as one.
    The programs print it without a traceback and exit with status 2.

    Examples
    --------
    >>> import rotinv
    >>> try:
    ...     rotinv.build("resnet")
    ... except ValueError as error:
    ...     print(str(error).partition(";")[0])
    architecture 'resnet' is not known
    """


def not_known(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not one of those known; it suggests the one that is spelled most like
    it."""
    names = list(known)
    return UserError(
        f"{what} {name!r} is not known{did_you_mean(name, names)}; choose one of {', '.join(names)}"
    )


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The question to put behind an unknown name; empty if none of those known is similar, or if it is not a
    text."""
    close = difflib.get_close_matches(name, list(known), n=1) if isinstance(name, str) else []
    return f" (did you mean {close[0]}?)" if close else ""


class MissingLibrary(UserError):
    """A library of an extra is not installed."""


def require_extra(library: str, extra: str, what: object) -> Any:
    """The module of that name. Raises MissingLibrary, naming the extra that brings it, if it is not there."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingLibrary(
            f"{what}: needs {library.partition('.')[0]}, which is not here ({error}): "
            f"pip install 'rotinv[{extra}]'"
        ) from error
