"""Libraries that only some programs need: loaded when they are used, with a word on how to get them."""

import importlib
from typing import Any

from rotinv.errors import UserError


def require(library: str, extra: str, what: object) -> Any:
    """The module of that name. Raises UserError, naming the extra that brings it, if it is not installed."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UserError(
            f"{what}: needs {library.partition('.')[0]}, which is not here ({error}): "
            f"pip install 'rotinv[{extra}]'"
        ) from error
