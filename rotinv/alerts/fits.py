"""FITS files of cut-outs: image extensions TEMPLATE, SCIENCE, DIFFERENCE of one alert or more, or a table.

Several alerts in one file of images are told apart by EXTVER. A variance of the difference is an extension
VARIANCE, or UNCERT with UTYPE as astropy writes it; or the table's column `variance` or `uncertainty`.
Integers, scaled or blanked, and images compressed in tiles (.fz) are read as the FITS Standard 4.0 says.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rotinv.alerts.fits_images import as_float, variance_of
from rotinv.alerts.packets import UNREADABLE, check_recognised, read_packet, reading_of_rows
from rotinv.alerts.profiles import NoSurvey, Profile
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line

MAGIC = b"SIMPLE  ="
_EXTENSIONS = {
    "template": ("TEMPLATE", "REFERENCE", "REF", "CUTOUTTEMPLATE"),
    "science": ("SCIENCE", "SCI", "NEW", "CUTOUTSCIENCE"),
    "difference": ("DIFFERENCE", "DIFF", "SUB", "CUTOUTDIFFERENCE"),
    "variance": ("VARIANCE", "VAR"),
    "uncertainty": ("UNCERT", "STDDEV", "UNCERTAINTY"),
}
_KEYWORDS = {  # of a header of images; those of more than eight letters stand there as HIERARCH
    "object_id": ("OBJECTID", "OBJECT_ID", "OBJID", "OBJECT"),
    "candidate_id": ("CANDID", "CANDIDAT", "CANDIDATE_ID", "DIASRCID", "DIASOURCEID"),
    "snr": ("SNR", "SCORR"),
    "isdiffpos": ("ISDIFFPO", "ISDIFFPOS"),
    "isnegative": ("ISNEGATI", "ISNEGATIVE", "IS_NEGATIVE", "NEGATIVE"),
    "survey": ("SURVEY",),
}


class FitsFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file cannot be read, or has neither a table nor extensions of cut-outs.
    """

    def __init__(self, path: Path, profiles: Sequence[Profile]) -> None:
        self._fits = require_extra("astropy.io.fits", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        self._mapped = True
        with self._open() as hdus:
            try:
                self._table = _find_table(hdus, profiles)
                self._images = _find_images(hdus) if self._table is None else []
                self._count = len(self._images if self._table is None else hdus[self._table].data)
                self._mapped = self._table is not None
                if self._table is not None:
                    names = hdus[self._table].columns.names
                    self._reading = reading_of_rows(dict.fromkeys(names, ()), profiles)
                    check_recognised(
                        path, self._reading, (self._record(hdus, at) for at in range(self._count))
                    )
            except UserError:
                raise
            except Exception as error:  # astropy's dozen kinds, for a file that is damaged
                raise UserError(f"{path}: is a damaged FITS file ({first_line(error)})") from error
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
                    self.problems.append(f"{where} cannot be read ({first_line(error)})")
                    yield UNREADABLE
                    continue
                table = self._table is not None
                reading = self._reading if table else reading_of_rows(dict.fromkeys(record, ()), ())
                yield read_packet(reading, record, where, self.problems)

    def _record(self, hdus: Any, at: int) -> dict[str, Any]:
        if self._table is None:
            return _from_images(hdus, self._images[at], self.path.stem)
        table = hdus[self._table]
        return {column.name: _cell(table, column, at) for column in table.columns}

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The file's HDUs. Raises UserError if they cannot be read at all.

        A table is mapped into memory; images are not, for astropy maps none that is scaled or blanked.
        """
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")  # of headers that are odd but can be read
            try:
                hdus = stack.enter_context(self._fits.open(self.path, memmap=self._mapped))
                len(hdus)  # reads all headers
            except Exception as error:
                raise UserError(f"{self.path}: is a damaged FITS file ({first_line(error)})") from error
            yield hdus


def _find_table(hdus: Any, profiles: Sequence[Profile]) -> int | None:
    """The number of the first table with columns of cut-outs."""
    for number, hdu in enumerate(hdus):
        columns = getattr(hdu, "columns", None)
        if columns is not None and not hdu.is_image:
            with contextlib.suppress(NoSurvey):
                reading_of_rows(dict.fromkeys(columns.names, ()), profiles)
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
    record = {what: _attempt(_pixels, hdus[number]) for what, number in numbers.items()}
    headers = [hdus[number].header for number in numbers.values()] + [hdus[0].header]
    for what, keys in _KEYWORDS.items():
        values = [header[key] for header in headers for key in keys if key in header]
        record |= {what: values[0]} if values else {}
    record.setdefault("object_id", stem)
    if isinstance(uncertainty := record.pop("uncertainty", None), np.ndarray):
        kind = hdus[numbers["uncertainty"]].header.get("UTYPE")
        record["variance"] = variance_of({"UTYPE": kind, "EXTNAME": "UNCERT"}, uncertainty)
    elif uncertainty is not None:  # why it cannot be read
        record["variance"] = uncertainty
    return record


def _pixels(hdu: Any) -> Any:
    """An image's pixels, and of its axes the last two if the others have one plane; None if it has none."""
    if hdu.data is None:
        return None
    shape = hdu.data.shape
    return as_float(hdu.data.reshape(shape[-2:]) if hdu.data.size == np.prod(shape[-2:]) else hdu.data)


def _cell(table: Any, column: Any, row: int) -> Any:
    """A cell of a table, or why it cannot be read; None where the column's TNULL says that it is null, or the
    0 of a logical column."""
    return _attempt(_read_cell, table, column, row)


def _read_cell(table: Any, column: Any, row: int) -> Any:
    value = table.data[row][column.name]
    stored = table.data.view(np.ndarray)[column.name][row]  # as the file has it: neither scaled nor converted
    if column.format == "L":
        return None if stored == 0 else value
    if column.null is None or np.shape(stored) != np.shape(value):  # lists of any length: stored elsewhere
        return value
    if np.ndim(value):
        return np.where(stored == column.null, np.nan, value)
    return None if stored == column.null else value


def _attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, or why it cannot: a damaged cut-out or text must cost no other.

    Errors are astropy's dozen kinds, and are given as ValueError.
    """
    try:
        return read(*arguments)
    except Exception as error:
        return ValueError(first_line(error))
