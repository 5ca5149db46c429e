"""What a survey's alerts are like, as one description, and which description a file's alerts fit.

A field is named by its path: `candidate.drb` is the field `drb` of the record `candidate`. Where several
are named, the first that has a value is taken. The surveys that are known are in rotinv/alerts/surveys.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from typing import Any

from rotinv.alerts.values import text

Record = Mapping[str, Any]
Fields = Mapping[str, Sequence[str]]  # of a file's records: each field, and those of a record within it

# Schemas that do not tell whose they are: Spark names all so, and a table has none.
_NAMELESS = ("", "alert", "record", "schema", "spark_schema", "topLevelRecord", "topLevelRecord.value")


@dataclass(frozen=True)
class Sign:
    """A field that tells whether a source is brighter in the science image or in the template.

    It `says` "positive" (true: science), "negative" (true: template) or "flux" (below 0: template).
    """

    field: str
    says: str


@dataclass(frozen=True)
class Score:
    """A survey's own score of how likely an alert is real, and the field of its version."""

    field: str
    version: str = ""


@dataclass(frozen=True)
class Profile:
    """A survey's alerts: how they are recognised, and what each of their fields is called.

    Attributes
    ----------
    survey
        The name that the catalogue's column `survey` has.
    schemas, publishers, object_ids, fields
        How alerts are recognised: the full name of the Avro schema, and the record's `publisher` (both with *
        for any signs); the form of the object's id, a regular expression; fields that must be there. The
        name of the schema suffices; where it does not tell, the publisher or the id does, and the fields
        alone where neither is given.
    sign, flipped
        What tells the sign, and whether the difference of a negative source is template - science already;
        None is not known, and such a difference is not read.
    place, side, x, y, image
        Where the source is in a cut-out. "middle": at n // 2 of n pixels. "edge": the same, but a cut-out at
        an edge of the `image` (columns, rows) lacks pixels there. "box": n pixels about (x, y), rounded as
        Rubin's are. "wcs": at CRPIX1, CRPIX2 of the difference. `side` is that of a whole cut-out. x and y
        count from 1 for "edge" and from 0 for "box".
    mjd
        Pairs of a field and what is to be taken from it (of a JD 2400000.5).
    bands
        Pairs of a number or name that the survey writes, and the band's name.
    nanojansky
        How many a unit of the flux is.
    pixel_flags
        Fields that are true, or above 0, where pixels of the source are flagged.
    """

    survey: str
    schemas: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    object_ids: str = ""
    fields: tuple[str, ...] = ()
    template: str = "cutoutTemplate"
    science: str = "cutoutScience"
    difference: str = "cutoutDifference"
    object_id: tuple[str, ...] = ()
    candidate_id: tuple[str, ...] = ()
    snr: tuple[str, ...] = ()  # a ratio of two fields is written "a / b"
    sign: tuple[Sign, ...] = ()
    flipped: bool | None = None
    place: str = "middle"
    side: int | None = None
    x: str = ""
    y: str = ""
    image: tuple[int, int] | None = None
    ra: tuple[str, ...] = ()
    dec: tuple[str, ...] = ()
    mjd: tuple[tuple[str, float], ...] = ()
    band: tuple[str, ...] = ()
    bands: tuple[tuple[str, str], ...] = ()
    magnitude: tuple[str, ...] = ()
    flux: tuple[str, ...] = ()
    nanojansky: float = 1.0
    score: tuple[Score, ...] = ()
    pixel_flags: tuple[str, ...] = ()

    @cached_property
    def wanted(self) -> dict[str, tuple[str, ...]]:
        """The fields that are read: of a record the inner fields that are used; others are read whole."""
        found: dict[str, dict[str, None]] = {}
        for path in filter(None, self._paths()):
            outer, _, inner = path.partition(".")
            found.setdefault(outer, {}).update({inner: None} if inner else {})
        return {outer: tuple(inner) for outer, inner in found.items()}

    def _paths(self) -> Iterable[str]:
        yield from (self.template, self.science, self.difference, "publisher")
        yield from (*self.object_id, *self.candidate_id, *self.ra, *self.dec, *self.band)
        yield from (*self.magnitude, *self.flux, *self.pixel_flags)
        yield from (path for ratio in self.snr for path in ratio.split(" / "))
        yield from (one.field for one in self.sign)
        yield from (path for path, _ in self.mjd)
        yield from (path for one in self.score for path in (one.field, one.version) if path)
        yield from (path for path in (self.x, self.y) if path)

    @property
    def alone(self) -> bool:
        """Whether the fields of a file suffice to recognise its alerts."""
        return not self.publishers and not self.object_ids

    def fits(self, record: Record) -> bool:
        """Whether a record's publisher or the id of its object is of this survey."""
        if self.alone:
            return True
        publisher = str(record.get("publisher") or "")
        if any(fnmatchcase(publisher, pattern) for pattern in self.publishers):
            return True
        try:
            return bool(self.object_ids and re.fullmatch(self.object_ids, first(record, self.object_id)))
        except (ValueError, AttributeError):  # the id cannot be read
            return False


class NoSurvey(Exception):
    """The alerts are of no survey that is known; the text says what they are."""


_split = cache(lambda path: path.partition("."))  # the same few paths for each of a night's alerts


def value_of(record: Record, path: str) -> Any:
    """The value at a path; None where a record on the way is null. Raises ValueError if it is unreadable."""
    outer, _, inner = _split(path)
    value = record.get(outer)
    if not inner or value is None:
        return value
    if isinstance(value, ValueError):
        raise ValueError(f"its {outer} cannot be read ({value})")
    return value.get(inner)


def first(record: Record, paths: Sequence[str]) -> str:
    """The text of the first of these fields that has one; a 0, brokers' null, only where none has another."""
    found = ""
    for path in paths:
        found = text(path, value_of(record, path)) or found
        if found not in ("", "0"):
            return found
    return found


def fitting(profiles: Sequence[Profile], schema: str, fields: Fields) -> tuple[tuple[Profile, ...], bool]:
    """The profiles that the records of a file may have, by the name of its schema and by its fields, and
    whether it is the first for sure.

    Raises NoSurvey if there is none.
    """
    for profile in profiles:
        if any(fnmatchcase(schema, pattern) for pattern in profile.schemas):
            return (profile,), True
    found = tuple(one for one in profiles if one.fields and all(_has(fields, path) for path in one.fields))
    if schema not in _NAMELESS or not found:
        named = f"its schema is {schema!r}, with" if schema else "it has"
        raise NoSurvey(f"{named} records of {', '.join(list(fields)[:12])}")
    return found, found[0].alone


def _has(fields: Fields, path: str) -> bool:
    outer, _, inner = path.partition(".")
    return outer in fields and (not inner or inner in fields[outer])
