"""Values of alerts as surveys, brokers and tables write them: texts, numbers, and truths, also as text."""

import math
from typing import Any

_YES, _NO = ("t", "true", "y", "yes"), ("f", "false", "n", "no")  # what else than a number says so


def text(name: str, value: Any) -> str:
    """A value as text, without the blanks and zeros that fill a fixed width; "" where it is null.

    Raises ValueError if its bytes are no UTF-8 text, or if it is the reason why it could not be read.
    """
    if type(value) is str:
        found = value
    elif value is None:
        return ""
    elif isinstance(value, ValueError):
        raise ValueError(f"its {name} cannot be read ({value})")
    elif isinstance(value, bytes):
        found = value.decode("utf-8", "replace")
    else:
        return str(value)
    if "\ufffd" in found:
        raise ValueError(f"its {name} is {found!r}, which has bytes that are no UTF-8 text")
    return found.strip().replace("\0", "")


def number(name: str, value: Any) -> float:
    """A number, also one that is written as text; NaN where it is null. Raises ValueError if it is none."""
    if type(value) is float:
        return value
    if value is None:
        return math.nan
    found = text(name, value)
    try:
        return float(found) if found else math.nan
    except ValueError:
        raise ValueError(f"its {name} is {found!r}, no number") from None


def truth(name: str, value: Any) -> bool | None:
    """A truth: t or f, true or false, 1 and 0 or -1, also as text; None where it is null or NaN.

    Raises ValueError for what says neither: a source must not change its sign by a guess.
    """
    if value is True or value is False:
        return bool(value)
    found = text(name, value).lower()
    if found in _YES or found in _NO:
        return found in _YES
    try:
        known = float(found) if found else math.nan
    except ValueError:
        raise ValueError(f"its {name} is {found!r}, neither true nor false") from None
    return None if math.isnan(known) else known > 0


def is_null(value: Any) -> bool:
    """Whether a value is null, NaN or an empty text."""
    return value is None or value == "" or value != value
