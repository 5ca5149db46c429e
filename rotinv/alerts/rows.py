"""Rows of plain tables of cut-outs, and images in FITS files: known by their names, sources in the middle."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rotinv.alerts.cutouts import read_cutouts, variance_with
from rotinv.alerts.profiles import Record, Sign
from rotinv.alerts.records import CUTOUTS, Found, Values
from rotinv.alerts.values import is_null

_ROW = {  # what the columns of a plain table may be called, in lower case
    "template": ("template", "cutouttemplate", "reference"),
    "science": ("science", "cutoutscience"),
    "difference": ("difference", "cutoutdifference"),
    "variance": ("difference_variance", "variance"),
    "uncertainty": ("difference_uncertainty", "uncertainty"),
    "object_id": ("object_id", "objectid", "diaobjectid"),
    "candidate_id": ("candidate_id", "candid", "diasourceid"),
    "snr": ("snr", "scorr"),
    "survey": ("survey",),
    "isdiffpos": ("isdiffpos",),
    "isnegative": ("isnegative", "is_negative"),
    "ra": ("ra",),
    "dec": ("dec",),
    "mjd": ("mjd",),
    "band": ("band",),
}
_SIGNS = (("isdiffpos", "positive"), ("isnegative", "negative"))


def columns_of(fields: Iterable[str]) -> dict[str, str]:
    """Which of a table's columns has what: the first of each, by the names in _ROW."""
    lower = {field.lower(): field for field in fields}
    found = {what: [lower[name] for name in names if name in lower] for what, names in _ROW.items()}
    return {what: names[0] for what, names in found.items() if names}


def read_row(record: Record, columns: Mapping[str, str]) -> Found:
    """A row of a plain table of cut-outs, whose source is in the middle."""
    values = Values(record)

    def value(what: str) -> Any:
        return record.get(columns[what]) if what in columns else None

    def path(what: str) -> tuple[str, ...]:
        return (columns[what],) if what in columns else ()

    images, wrong = read_cutouts({what: value(what) for what in (*CUTOUTS, "variance", "uncertainty")})
    pixels = {what: found[0].pixels for what, found in images.items()}
    variance, uncertainty = pixels.pop("variance", None), pixels.pop("uncertainty", None)
    if variance is None and uncertainty is not None:
        variance = np.square(uncertainty, dtype=np.float64)
    elif variance is None:
        variance = variance_with(images.get("difference", []))
    found = {
        "survey": values.text(path("survey")),
        "object_id": values.text(path("object_id")),
        "candidate_id": values.text(path("candidate_id")),
        "snr": values.number(path("snr")),
        "variance": variance,
        "ra": values.number(path("ra")),
        "dec": values.number(path("dec")),
        "mjd": values.number(path("mjd")),
        "band": values.text(path("band")),
        **pixels,
    }
    wrong += values.sign([Sign(columns[what], says) for what, says in _SIGNS if what in columns], found)
    found["flipped"] = "isdiffpos" in columns and not is_null(value("isdiffpos"))
    return found, [*wrong, *values.wrong]
