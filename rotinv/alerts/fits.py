"""FITS files of cut-outs: image extensions TEMPLATE, SCIENCE, DIFFERENCE of one alert or more, or a table.

Several alerts in one file of images are told apart by EXTVER. A variance of the difference is an extension
VARIANCE, or UNCERT with UTYPE as astropy writes it; or the table's column `variance` or `uncertainty`.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rotinv.alerts.packets import UNREADABLE, read_packet, reader_for
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import UserError, require_extra

MAGIC = b"SIMPLE  ="
_EXTENSIONS = {
    "template": ("TEMPLATE", "REFERENCE", "REF", "CUTOUTTEMPLATE"),
    "science": ("SCIENCE", "SCI", "NEW", "CUTOUTSCIENCE"),
    "difference": ("DIFFERENCE", "DIFF", "SUB", "CUTOUTDIFFERENCE"),
    "variance": ("VARIANCE", "VAR"),
    "uncertainty": ("UNCERT", "STDDEV", "UNCERTAINTY"),
}
_KEYWORDS = {  # of a header of images
    "object_id": ("OBJECTID", "OBJECT_ID", "OBJID", "OBJECT"),
    "candidate_id": ("CANDID", "CANDIDAT", "DIASRCID"),
    "snr": ("SNR", "SCORR"),
    "isdiffpos": ("ISDIFFPO",),
    "isnegative": ("ISNEGATI", "NEGATIVE"),
    "survey": ("SURVEY",),
}


class FitsFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file cannot be read, or has neither a table nor extensions of cut-outs.
    """

    def __init__(self, path: Path) -> None:
        self._fits = require_extra("astropy.io.fits", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        with self._open() as hdus:
            try:
                self._table = _find_table(hdus)
                self._images = _find_images(hdus) if self._table is None else []
                self._count = len(self._images if self._table is None else hdus[self._table].data)
            except Exception as error:  # astropy's dozen kinds, for a file that is damaged
                raise UserError(f"{path}: is a damaged FITS file ({_first_line(error)})") from error
        if self._table is None and not self._images:
            raise UserError(
                f"{path}: has no cut-outs: neither image extensions TEMPLATE, SCIENCE, DIFFERENCE nor a "
                "table with columns template, science, difference"
            )

    def __len__(self) -> int:
        return self._count

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""
        with self._open() as hdus:
            for at in range(start, min(stop, len(self))):
                where = f"{self.path}: alert {at}"
                try:
                    record = self._record(hdus, at)
                except Exception as error:  # astropy's dozen kinds, for a file that is damaged
                    self.problems.append(f"{where} cannot be read ({_first_line(error)})")
                    yield UNREADABLE
                    continue
                reader = reader_for(record)
                assert reader is not None
                yield read_packet(reader, record, where, self.problems)

    def _record(self, hdus: Any, at: int) -> dict[str, Any]:
        if self._table is not None:
            row = hdus[self._table].data[at]
            return {name: row[name] for name in hdus[self._table].columns.names}
        return _from_images(hdus, self._images[at], self.path.stem)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The file's HDUs. Raises UserError if they cannot be read at all."""
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")  # of headers that are odd but can be read
            try:
                hdus = stack.enter_context(self._fits.open(self.path, memmap=True))
                len(hdus)  # reads all headers
            except Exception as error:
                raise UserError(f"{self.path}: is a damaged FITS file ({_first_line(error)})") from error
            yield hdus


def _find_table(hdus: Any) -> int | None:
    """The number of the first table with columns of cut-outs."""
    for number, hdu in enumerate(hdus):
        columns = getattr(hdu, "columns", None)
        if columns is not None and reader_for(columns.names):
            return number
    return None


def _find_images(hdus: Any) -> list[dict[str, int]]:
    """For each alert, the numbers of its cut-outs' HDUs by what they show."""
    kinds = {name: what for what, names in _EXTENSIONS.items() for name in names}
    found: dict[int, dict[str, int]] = {}
    for number, hdu in enumerate(hdus):
        what = kinds.get(hdu.name.upper())
        if what is not None and hdu.is_image:
            found.setdefault(hdu.ver, {})[what] = number
    wanted = {"template", "science", "difference"}
    return [numbers for _, numbers in sorted(found.items()) if wanted & set(numbers)]


def _from_images(hdus: Any, numbers: Mapping[str, int], stem: str) -> dict[str, Any]:
    """The record of one alert: its cut-outs, and what the headers say of it."""
    record: dict[str, Any] = {what: np.asarray(hdus[number].data) for what, number in numbers.items()}
    headers = [hdus[number].header for number in numbers.values()] + [hdus[0].header]
    for what, keys in _KEYWORDS.items():
        values = [header[key] for header in headers for key in keys if key in header]
        record |= {what: values[0]} if values else {}
    record.setdefault("object_id", stem)
    if "uncertainty" in record:
        kind = hdus[numbers["uncertainty"]].header.get("UTYPE", "StdDevUncertainty")
        if kind.lower() == "varianceuncertainty":
            record["variance"] = record.pop("uncertainty")
        elif kind.lower() == "inversevariance":
            record["uncertainty"] = record["uncertainty"] ** -0.5
    return record


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
