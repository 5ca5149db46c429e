"""What a record of a survey says: ZTF's and Rubin's alert packets, and rows of tables, each as a Packet.

ZTF: schema of ztf-avro-alert 1.8 to 4.01. Rubin: lsst.alert.packet 3.0 to 11, whose cut-outs are CCDData
(astropy) written as FITS: the image, then its uncertainty in UNCERT, of the kind that UTYPE names.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.fits_images import Image, read_images
from rotinv.alerts.stamp import BIT, Packet

Record = Mapping[str, Any]
Found = tuple[dict[str, Any], str]  # a Packet's fields, and why some cut-out of it was refused
Reader = Callable[[Record], Found]

_ZTF_SIDE, _ZTF_IMAGE = 63, (3072, 3080)  # pixels of a whole cut-out; columns and rows of a readout channel
_YES, _NO = ("t", "true", "y", "yes"), ("f", "false", "n", "no")  # what else than a number says so
_CUTOUTS = {"template": "cutoutTemplate", "science": "cutoutScience", "difference": "cutoutDifference"}
_ROW = {  # what the columns of a table may be called, in lower case
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
}
WANTED: dict[
    str, tuple[str, ...]
] = {  # the fields of packets that are read at all, and those of records in them
    "objectId": (),
    "candid": (),
    "candidate": ("isdiffpos", "xpos", "ypos", "scorr"),
    "diaSourceId": (),
    "diaSource": ("diaSourceId", "diaObjectId", "ssObjectId", "isNegative", "snr"),
    "diaObject": (),
    **dict.fromkeys(_CUTOUTS.values(), ()),
}


def reader_for(fields: Iterable[str]) -> Reader | None:
    """How to read records that have these fields; None if they are no alerts."""
    fields = set(fields)
    if {"candid", "candidate"} <= fields:
        return _ztf
    if "diaSource" in fields:
        return _rubin
    known = columns_of(fields)
    if {"template", "science", "difference"} & set(known):
        return lambda record: _row(record, known)
    return None


def columns_of(fields: Iterable[str]) -> dict[str, str]:
    """Which of a table's columns has what: the first of each, by the names in _ROW."""
    lower = {field.lower(): field for field in fields}
    found = {what: [lower[name] for name in names if name in lower] for what, names in _ROW.items()}
    return {what: names[0] for what, names in found.items() if names}


UNREADABLE = Packet("", "", "", flags=BIT["unreadable"])


def read_packet(reader: Reader, record: Record, where: str, problems: list[str]) -> Packet:
    """A record as a Packet; one that is refused is flagged so, with what is known of it, and told."""
    try:
        found, refused = reader(record)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problems.append(f"{where} cannot be read ({type(error).__name__}: {error})")
        return UNREADABLE
    if refused:
        problems.append(f"{where} ({found['candidate_id'] or 'no id'}): {refused}")
    return Packet(**found, flags=BIT["unreadable"] if refused else 0)


def _ztf(record: Record) -> Found:
    candidate = record["candidate"] or {}
    images, refused = _images({what: record.get(name) for what, name in _CUTOUTS.items()})
    found = {
        "survey": "ztf",
        "object_id": _text(record.get("objectId")),
        "candidate_id": _text(record.get("candid")),
        "snr": _number(candidate.get("scorr")),
        "negative": _truth("isdiffpos", candidate.get("isdiffpos"), True) is False,
        "flipped": True,
        "side": _ZTF_SIDE,
        "position": _position(candidate.get("xpos"), candidate.get("ypos")),
        "image": _ZTF_IMAGE,
        **{what: images[what][0].pixels for what in images},
    }
    return found, refused


def _rubin(record: Record) -> Found:
    source, thing = record["diaSource"] or {}, record.get("diaObject") or {}
    images, refused = _images({what: record.get(name) for what, name in _CUTOUTS.items()})
    ids = (thing.get("diaObjectId"), source.get("diaObjectId"), source.get("ssObjectId"))
    found = {
        "survey": "lsst",
        "object_id": _text(next((one for one in ids if one), None)),
        "candidate_id": _text(source.get("diaSourceId", record.get("diaSourceId"))),
        "snr": _number(source.get("snr")),
        "negative": bool(source.get("isNegative")),
        "variance": _variance(images.get("difference", [])),
        **{what: images[what][0].pixels for what in images},
    }
    return found, refused


def _row(record: Record, columns: Mapping[str, str]) -> Found:
    def value(what: str) -> Any:
        return record[columns[what]] if what in columns else None

    images, refused = _images({what: value(what) for what in (*_CUTOUTS, "variance", "uncertainty")})
    pixels = {what: images[what][0].pixels for what in images}
    variance = pixels.pop("variance", None)
    uncertainty = pixels.pop("uncertainty", None)
    if variance is None:
        variance = None if uncertainty is None else np.square(uncertainty, dtype=np.float64)
        variance = _variance(images.get("difference", [])) if variance is None else variance
    positive = _truth("isdiffpos", value("isdiffpos"), None)
    found = {
        "survey": _text(value("survey")),
        "object_id": _text(value("object_id")),
        "candidate_id": _text(value("candidate_id")),
        "snr": _number(value("snr")),
        "negative": bool(_truth("isnegative", value("isnegative"), False))
        if positive is None
        else not positive,
        "flipped": positive is not None,
        "variance": variance,
        **pixels,
    }
    return found, refused


def _images(cutouts: Mapping[str, Any]) -> tuple[dict[str, list[Image]], str]:
    """The images of those cut-outs that are there, and what is wrong with the others."""
    found, refused = {}, ""
    for what, value in cutouts.items():
        try:
            if value is not None and (images := _as_images(value)):
                found[what] = images
        except (ValueError, TypeError) as error:
            refused = f"its {what} cut-out: {error}"
    return found, refused


def _as_images(value: Any) -> list[Image]:
    """A cut-out: FITS bytes, a record around them, or pixels (rows, columns) or in one row of a square."""
    if isinstance(value, Mapping):
        value = value.get("stampData")
    if isinstance(value, ValueError):  # found by the reader of the table
        raise value
    if value is None or len(value) == 0:
        return []
    if isinstance(value, bytes):
        return read_images(value)
    pixels = np.asarray(value)
    if pixels.dtype.kind not in "fiu":
        raise ValueError(f"it holds {pixels.dtype}, not numbers")
    side = round(pixels.size**0.5)
    if pixels.ndim == 1 and side * side == pixels.size:
        pixels = pixels.reshape(side, side)
    if pixels.ndim != 2:
        raise ValueError(f"its shape is {pixels.shape}, not (rows, columns)")
    return [Image({}, pixels)]


def _variance(images: list[Image]) -> NDArray[np.floating] | None:
    """The variance that comes with an image, from whichever kind of uncertainty is written."""
    for image in images[1:]:
        kind = str(image.header.get("UTYPE", image.header.get("EXTNAME", "")))
        if kind.lower() in ("varianceuncertainty", "variance"):
            return image.pixels
        if kind.lower() == "stddevuncertainty":
            return image.pixels**2
        if kind.lower() == "inversevariance":
            with np.errstate(divide="ignore"):
                return 1 / image.pixels
    return None


def _position(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _truth(name: str, value: Any, unknown: bool | None) -> bool | None:
    """A flag as surveys, brokers and tables write it: t or f, true or false, 1 and 0 or -1, also as text.

    Raises ValueError for what says neither; a source must not change its sign by a guess.
    """
    text = _text(value).lower()
    if text in _YES or text in _NO:
        return text in _YES
    try:
        number = float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"its {name} is {text!r}, neither true nor false") from None
    return unknown if math.isnan(number) else number > 0


def _text(value: Any) -> str:
    """An id as text, without the blanks and zeros that fill a fixed width."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None else str(value).strip().replace("\0", "")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
