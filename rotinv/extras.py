"""Libraries that only some programs need: loaded when they are used, with a word on how to get them."""

import importlib
from typing import Any

from rotinv.errors import UserError


class MissingLibrary(UserError):
    """A library of an extra is not installed."""


def require(library: str, extra: str, what: object) -> Any:
    """The module of that name. Raises MissingLibrary, naming the extra that brings it, if it is not there."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingLibrary(
            f"{what}: needs {library.partition('.')[0]}, which is not here ({error}): "
            f"pip install 'rotinv[{extra}]'"
        ) from error
