"""Reads tables of scores, CSV, ECSV, Parquet, FITS or HDF5: the columns that an evaluation needs, and what
the metadata say of the classes."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line, read_errors
from rotinv.system.hdf5 import open_hdf5, reading_hdf5

TEXT = "survey_score_version"
_NAMES = ("probability", "label", "label_class", "snr", "class", "survey_score", TEXT)
_CLASSES = {"classes": "CLASSES", "candidate": "CANDID"}  # of more than two: metadata, and keywords of FITS


class Table(NamedTuple):
    """The columns (n,) that an evaluation reads, by name, those of classes (p_NAME) too; and the texts
    `classes` and `candidate` of the metadata, of tables of more than two classes."""

    columns: dict[str, NDArray[Any]]
    about: dict[str, str]


def read_table(path: str | Path) -> Table:
    """The table in a file. Raises UserError if it is missing or damaged, or if columns are not of numbers."""
    path = Path(path)
    if not path.exists() or h5py.is_hdf5(path):
        return _of_hdf5(path)
    reader = {".parquet": _of_parquet, ".fits": _of_fits, ".fit": _of_fits, ".ecsv": _of_ecsv}
    return reader.get(path.suffix.lower(), _of_csv)(path)


def _is_read(name: str) -> bool:
    return name in _NAMES or name.startswith("p_")


def _about(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(found[name]) for name in _CLASSES if name in found}


def _of_hdf5(path: Path) -> Table:
    with open_hdf5(path) as file, reading_hdf5(path):
        names = [name for name, item in file.items() if _is_read(name) and isinstance(item, h5py.Dataset)]
        texts = [name for name in names if h5py.check_string_dtype(file[name].dtype)]
        columns = {name: np.asarray(file[name].asstr() if name in texts else file[name]) for name in names}
        return Table(columns, _about(file.attrs))


def _of_parquet(path: Path) -> Table:
    parquet = require_extra("pyarrow.parquet", "alerts", path)
    try:
        schema = parquet.read_schema(path)
        names = [name for name in schema.names if _is_read(name)]
        table = parquet.read_table(path, columns=names)
        metadata = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
        return Table({name: table[name].to_numpy() for name in names}, _about(metadata))
    except Exception as error:  # Arrow's own kinds, for a file that is cut off or damaged
        raise UserError(f"{path}: is damaged or is no Parquet file ({first_line(error)})") from error


def _of_fits(path: Path) -> Table:
    fits = require_extra("astropy.io.fits", "alerts", path)
    try:
        with fits.open(path) as file:
            table, header = file["SCORES"].data, file["SCORES"].header
            names = [name for name in table.names if _is_read(name)]
            columns = {name: table[name].astype(table[name].dtype.newbyteorder("=")) for name in names}
            return Table(columns, {name: header[key] for name, key in _CLASSES.items() if key in header})
    except Exception as error:  # astropy's dozen kinds, for a file that is damaged
        raise UserError(f"{path}: is damaged, or no FITS table of scores ({first_line(error)})") from error


def _of_ecsv(path: Path) -> Table:
    table = require_extra("astropy.table", "alerts", path).Table
    try:
        found = table.read(path, format="ascii.ecsv")
        return Table({n: np.asarray(found[n]) for n in found.colnames if _is_read(n)}, _about(found.meta))
    except Exception as error:  # astropy's dozen kinds, for a file that is damaged
        raise UserError(f"{path}: is damaged, or is no ECSV ({first_line(error)})") from error


def _of_csv(path: Path) -> Table:
    """A CSV; its metadata are in the file beside it that the program score writes."""
    try:
        with read_errors(path), path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason}); save the table as CSV UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV ({error})") from error
    columns = {}
    for name in [name for name in (rows[0] if rows else ()) if name and _is_read(name)]:
        try:
            columns[name] = np.array([row[name] if name == TEXT else float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: its column {name} does not hold numbers only ({error})") from error
    try:
        metadata = json.loads(path.with_name(f"{path.name}-metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metadata = {}
    return Table(columns, _about(metadata if isinstance(metadata, dict) else {}))
