"""What a survey's record says, read by the survey's profile.

What is wrong with a value costs that value: it is told, and the rest of the record is kept.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rotinv.alerts.cutouts import read_cutouts, variance_with
from rotinv.alerts.fits_images import Image, crpix_of
from rotinv.alerts.profiles import Profile, Record, Score, Sign, first, value_of
from rotinv.alerts.stamp import BIT
from rotinv.alerts.values import number, truth

Found = tuple[dict[str, Any], list[str]]  # a Packet's fields, and what is wrong with the record

CUTOUTS = ("template", "science", "difference")


class Values:
    """The values of a record; what is wrong with one is kept in `wrong`, and the value is none."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.wrong: list[str] = []

    def text(self, paths: Sequence[str]) -> str:
        """The first of these that has a text."""
        try:
            return first(self._record, paths)
        except ValueError as error:
            self.wrong.append(str(error))
            return ""

    def number(self, paths: Sequence[str]) -> float:
        """The first of these that is a number; "a / b" is a ratio, of which the size counts."""
        for path in paths:
            above, _, below = path.partition(" / ")
            value = self._one(above)
            if below:
                error = self._one(below)
                value = abs(value / error) if error else math.nan
            if value == value:
                return value
        return math.nan

    def _one(self, path: str) -> float:
        try:
            return number(path, value_of(self._record, path))
        except ValueError as error:
            self.wrong.append(str(error))
            return math.nan

    def negative(self, signs: Sequence[Sign]) -> bool | None:
        """Whether the source is brighter in the template; None where nothing says so.

        Raises ValueError where a sign is neither yes nor no: no source is scored with a sign that is guessed.
        """
        for sign in signs:
            value = value_of(self._record, sign.field)
            if sign.says == "flux":
                flux = number(sign.field, value)
                known = None if flux == 0 or flux != flux else flux > 0
            else:
                known = truth(sign.field, value)
            if known is not None:
                return known if sign.says == "negative" else not known
        return None

    def sign(self, signs: Sequence[Sign], found: dict[str, Any]) -> list[str]:
        """Put the sign into a Packet's fields; one that cannot be read leaves the packet without pixels.

        Gives what is wrong with it.
        """
        try:
            negative = self.negative(signs)
        except ValueError as error:
            found.update(dict.fromkeys((*CUTOUTS, "variance")))
            return [str(error)]
        unknown = bool(signs) and negative is None
        found.update(negative=bool(negative), flags=BIT["sign_unknown"] if unknown else 0)
        return []

    def score(self, scores: Sequence[Score]) -> tuple[float, str]:
        """The survey's own score, and its name and version. An empty version is that of no score."""
        for score in scores:
            version = value_of(self._record, score.version) if score.version else None
            value = self.number((score.field,))
            if value == value and version != "":
                name = score.field.rpartition(".")[2]
                return value, f"{name} {self.text((score.version,))}".strip() if score.version else name
        return math.nan, ""

    def flags(self, paths: Sequence[str]) -> str:
        """The names of those fields that are true."""
        found = []
        for path in paths:
            value = value_of(self._record, path)
            if value and truth(path, value):  # most are false, or null
                found.append(path.rpartition(".")[2].removeprefix("pixelFlags_"))
        return " ".join(found)


def read_record(profile: Profile, record: Record) -> Found:
    """A survey's record."""
    values = Values(record)
    images, wrong = read_cutouts({what: value_of(record, getattr(profile, what)) for what in CUTOUTS})
    score, version = values.score(profile.score)
    object_id, band = values.text(profile.object_id), values.text(profile.band)
    found = {
        "survey": profile.survey,
        "object_id": "" if object_id == "0" else object_id,  # a broker's null
        "candidate_id": values.text(profile.candidate_id),
        "snr": values.number(profile.snr),
        "flipped": profile.flipped,
        "variance": variance_with(images.get("difference", [])),
        "place": profile.place,
        "side": profile.side,
        "position": _position(profile, values, images),
        "image": profile.image,
        "ra": values.number(profile.ra),
        "dec": values.number(profile.dec),
        "mjd": _mjd(profile, values),
        "band": dict(profile.bands).get(band, band),
        "magnitude": values.number(profile.magnitude),
        "flux": values.number(profile.flux) * profile.nanojansky,
        "survey_score": score,
        "survey_score_version": version,
        "pixel_flags": values.flags(profile.pixel_flags),
        **{what: found[0].pixels for what, found in images.items()},
    }
    wrong += values.sign(profile.sign, found)
    return found, [*wrong, *values.wrong]


def _position(
    profile: Profile, values: Values, images: Mapping[str, list[Image]]
) -> tuple[float, float] | None:
    """Where the source is, x and y as stamp.py reads them for the profile's `place`; None if unknown."""
    if profile.place == "wcs":
        found = crpix_of(images["difference"][0].header) if "difference" in images else None
        x, y = (found[0] - 1, found[1] - 1) if found else (math.nan, math.nan)
    elif profile.x:
        x, y = values.number((profile.x,)), values.number((profile.y,))
    else:
        return None
    return (x, y) if np.isfinite(x) and np.isfinite(y) else None


def _mjd(profile: Profile, values: Values) -> float:
    for path, zero in profile.mjd:
        value = values.number((path,))
        if value == value:
            return value - zero
    return math.nan
