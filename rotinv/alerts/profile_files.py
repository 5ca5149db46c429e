"""A survey that a user describes: a Profile in a TOML file (docs/alerts.md has one).

Each key is an attribute of Profile by its name. A list may be written as its only item; `sign` and `score`
are tables or lists of them, `mjd` and `jd` are fields, and `bands` is a table.
"""

import dataclasses
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from rotinv.alerts.profiles import Profile, Score, Sign
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import read_errors

_JD = 2400000.5  # of MJD 0
_PLACES = ("middle", "edge", "box", "wcs")
_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("a text", (str,)),
    int | None: ("a whole number", (int,)),
    bool | None: ("true or false", (bool,)),
    float: ("a number", (float, int)),
}
_SAYS = ("positive", "negative", "flux")


def read_profile(path: str | Path) -> Profile:
    """The profile in a file. Raises UserError for what it does not say as a Profile is."""
    found = read_toml(path)
    try:
        return _profile(found)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """What a TOML file says. Raises UserError if it cannot be read or is none."""
    path = Path(path)
    toml = importlib.import_module("tomllib") if sys.version_info >= (3, 11) else _tomli(path)
    with read_errors(path):
        text = path.read_bytes()
    try:
        found: dict[str, Any] = toml.loads(text.decode())
        return found
    except ValueError as error:
        raise UserError(f"{path}: is no TOML file ({error})") from error


def _tomli(path: Path) -> Any:
    """Python 3.10 has no reader of TOML of its own."""
    return require_extra("tomli", "alerts", path)


def _profile(found: dict[str, Any]) -> Profile:
    """The profile of a file's keys. Raises ValueError, or TypeError, for a key or a value that is none."""
    kinds = {field.name: field.type for field in dataclasses.fields(Profile)}
    if unknown := sorted(set(found) - kinds.keys() - {"jd"}):
        raise ValueError(f"{unknown[0]!r} is none of its keys, which are {', '.join(sorted(kinds))}")
    if missing := [key for key in ("survey", "difference") if key not in found]:
        raise ValueError(f"has no {missing[0]!r}")
    times = [(name, 0.0) for name in _texts("mjd", found.pop("mjd", ()))]
    times += [(name, _JD) for name in _texts("jd", found.pop("jd", ()))]
    signs = [Sign(**one) for one in _tables(found.pop("sign", ()))]
    scores = [Score(**one) for one in _tables(found.pop("score", ()))]
    bands = [(str(key), str(value)) for key, value in dict(found.pop("bands", {})).items()]
    values = {key: _value(key, kinds[key], value) for key, value in found.items()}
    values |= {"mjd": tuple(times), "sign": tuple(signs), "score": tuple(scores), "bands": tuple(bands)}
    values.setdefault("fields", (values["difference"],))
    profile = Profile(**{"template": "", "science": "", **values})
    _check(profile)
    return profile


def _check(profile: Profile) -> None:
    if profile.place not in _PLACES:
        raise ValueError(f"place is {profile.place!r}, none of {', '.join(_PLACES)}")
    if wrong := [one.says for one in profile.sign if one.says not in _SAYS]:
        raise ValueError(f"a sign says {wrong[0]!r}, none of {', '.join(_SAYS)}")
    if profile.place == "edge" and not (profile.side and profile.image and profile.x and profile.y):
        raise ValueError("place 'edge' needs side, image, x and y")
    if profile.place == "box" and not (profile.x and profile.y):
        raise ValueError("place 'box' needs x and y")
    try:
        re.compile(profile.object_ids)
    except re.error as error:
        raise ValueError(f"object_ids is {profile.object_ids!r}, no regular expression ({error})") from error


def _value(key: str, kind: Any, value: Any) -> Any:
    """A value as the attribute of Profile, which is of that kind, has it."""
    if kind == tuple[str, ...]:
        return _texts(key, value)
    if kind == tuple[int, int] | None:
        columns, rows = value
        return int(columns), int(rows)
    named, right = _KINDS[kind]
    if not isinstance(value, right) or (bool not in right and isinstance(value, bool)):
        raise TypeError(f"{key} is {value!r}, which should be {named}")
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(one, str) for one in found):
        raise TypeError(f"{key} is {value!r}, which should be a text or a list of texts")
    return found


def _tables(value: Any) -> list[dict[str, str]]:
    return [value] if isinstance(value, dict) else list(value)
