"""Catalogues of scores: CSV, ECSV, Parquet, FITS or HDF5 by the file's suffix, written block by block.

Every format has the same columns and the same metadata. Parquet and HDF5 keep the metadata as attributes,
FITS in the table's header, and beside a CSV it is `FILE.csv-metadata.json`, the name of CSV on the Web.
"""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import refuse_existing, written_whole
from rotinv.system.hdf5 import create_hdf5

TEXT = "text"
_ROWS = 50_000  # written at a time
_TEXT_WIDTH = 64  # bytes for a text in a FITS table; a UUID has 36
_FITS_BLOCK = 2880
_ABOUT = ("description", "ucd", "unit")

Rows = Mapping[str, NDArray[Any]]
Write = Callable[[Rows], None]


@dataclass(frozen=True)
class Column:
    """A column: its NumPy type or TEXT, a description, the IVOA's word for it (UCD 1+), and its unit if it
    has one."""

    name: str
    dtype: str
    description: str
    ucd: str
    unit: str = ""  # as FITS and VOTable write it


@dataclass(frozen=True)
class Fact:
    """Something that holds for the whole table: its name, and its keyword in a FITS header."""

    name: str
    keyword: str
    value: str | int | float


def check(path: str | Path | None, overwrite: bool = False) -> None:
    """Raise UserError, before anything is computed, if a catalogue cannot be written to `path`."""
    path = None if path is None else Path(path)
    if path is None:
        return
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{path}: its suffix is none of {', '.join(_FORMATS)}, which say what to write")
    refuse_existing(path, overwrite)
    if not _is_metadata(_beside(path)):  # alone it is left by a process killed between the two
        refuse_existing(_beside(path), overwrite)
    if path.suffix.lower() == ".parquet":
        require_extra("pyarrow", "alerts", path)
    if path.suffix.lower() in (".fits", ".fit", ".ecsv"):
        require_extra("astropy", "alerts", path)


@contextlib.contextmanager
def create(
    path: str | Path | None, columns: Sequence[Column], facts: Sequence[Fact], *, overwrite: bool = False
) -> Iterator[Write]:
    """Gives the function that appends rows to the catalogue at `path`, or to standard output (CSV).

    Rows are (n,) arrays by the columns' names. The file appears whole, when the block ends without an error.
    """
    path = None if path is None else Path(path)
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")  # for the file or program that reads it
        yield _csv_rows(sys.stdout, columns)
        return
    with _FORMATS[path.suffix.lower()](path, columns, facts, overwrite) as write:
        parts: list[Rows] = []

        def append(rows: Rows) -> None:
            parts.append(rows)
            while sum(map(_length, parts)) >= _ROWS:
                joined = _joined(parts, columns)
                write({name: values[:_ROWS] for name, values in joined.items()})
                parts[:] = [{name: values[_ROWS:] for name, values in joined.items()}]

        yield append
        if parts:
            write(_joined(parts, columns))


def _joined(parts: Sequence[Rows], columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    return {column.name: np.concatenate([rows[column.name] for rows in parts]) for column in columns}


def _length(rows: Rows) -> int:
    return len(next(iter(rows.values())))


@contextlib.contextmanager
def _csv(path: Path, columns: Sequence[Column], facts: Sequence[Fact], overwrite: bool) -> Iterator[Write]:
    with written_whole(path, overwrite=overwrite) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield _csv_rows(file, columns)
        about = {"columns": [asdict(column) for column in columns]}
        with written_whole(_beside(path), overwrite=True) as beside:
            text = json.dumps({**{fact.name: fact.value for fact in facts}, **about}, indent=2) + "\n"
            beside.write_text(text, encoding="utf-8")


def _csv_rows(file: TextIO, columns: Sequence[Column]) -> Write:
    """Write a CSV. A number is written with the fewest digits that read back to the same bits."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])

    def write(rows: Rows) -> None:
        cells = zip(*(rows[column.name] for column in columns), strict=True)
        writer.writerows([str(value) for value in row] for row in cells)

    return write


@contextlib.contextmanager
def _ecsv(path: Path, columns: Sequence[Column], facts: Sequence[Fact], overwrite: bool) -> Iterator[Write]:
    """A table as astropy's ECSV 1.0. The header is astropy's own for a table without rows; a CSV with quoted
    texts follows. ECSV does not tell an empty text from a missing one."""
    table = require_extra("astropy.table", "alerts", path)
    empty = table.Table(meta={fact.name: fact.value for fact in facts})
    for column in columns:
        kind = str if column.dtype == TEXT else np.dtype(column.dtype)
        empty[column.name] = table.Column(
            np.zeros(0, kind), description=column.description, unit=column.unit or None
        )
        empty[column.name].info.meta = {"ucd": column.ucd}
    header = io.StringIO()
    empty.write(header, format="ascii.ecsv", delimiter=",")
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        file.write(header.getvalue())

        def write(rows: Rows) -> None:
            cells = zip(*(_ecsv_cells(column, rows[column.name]) for column in columns), strict=True)
            file.writelines(",".join(row) + "\n" for row in cells)

        yield write


def _ecsv_cells(column: Column, values: NDArray[Any]) -> list[str]:
    if column.dtype != TEXT:
        return [str(value) for value in values]
    return ['"' + str(value).replace('"', '""') + '"' for value in values]


@contextlib.contextmanager
def _hdf5(path: Path, columns: Sequence[Column], facts: Sequence[Fact], overwrite: bool) -> Iterator[Write]:
    with create_hdf5(path, overwrite=overwrite) as file:
        file.attrs.update({fact.name: fact.value for fact in facts})
        for column in columns:
            dtype = h5py.string_dtype() if column.dtype == TEXT else column.dtype
            dataset = file.create_dataset(column.name, (0,), dtype, maxshape=(None,), chunks=(8192,))
            dataset.attrs.update(description=column.description, ucd=column.ucd, unit=column.unit)

        def write(rows: Rows) -> None:
            for column in columns:
                dataset, values = file[column.name], rows[column.name]
                dataset.resize(len(dataset) + len(values), axis=0)
                dataset[len(dataset) - len(values) :] = values

        yield write


@contextlib.contextmanager
def _parquet(
    path: Path, columns: Sequence[Column], facts: Sequence[Fact], overwrite: bool
) -> Iterator[Write]:
    arrow, parquet = (require_extra(name, "alerts", path) for name in ("pyarrow", "pyarrow.parquet"))
    types = [
        arrow.string() if column.dtype == TEXT else arrow.from_numpy_dtype(np.dtype(column.dtype))
        for column in columns
    ]
    fields = [
        arrow.field(column.name, kind, metadata={name: getattr(column, name) for name in _ABOUT})
        for column, kind in zip(columns, types, strict=True)
    ]
    schema = arrow.schema(fields, metadata={fact.name: str(fact.value) for fact in facts})
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        parquet.ParquetWriter(temporary, schema) as writer,
    ):

        def write(rows: Rows) -> None:
            arrays = [
                arrow.array(rows[column.name], kind) for column, kind in zip(columns, types, strict=True)
            ]
            writer.write_table(arrow.table(arrays, schema=schema))

        yield write


@contextlib.contextmanager
def _fits(path: Path, columns: Sequence[Column], facts: Sequence[Fact], overwrite: bool) -> Iterator[Write]:
    """A binary table. The header is written again at the end, when the number of rows is known."""
    fits = require_extra("astropy.io.fits", "alerts", path)
    names = _fits_names(columns)
    dtype = np.dtype([(name, _fits_type(column)) for name, column in zip(names, columns, strict=True)])
    header = fits.BinTableHDU(np.zeros(0, dtype), name="SCORES").header
    for i, column in enumerate(columns, 1):
        header.comments[f"TTYPE{i}"] = column.description
        header[f"TUCD{i}"] = column.ucd
        if column.unit:
            header[f"TUNIT{i}"] = column.unit
    for fact in facts:
        header[fact.keyword] = fact.value
        if len(str(fact.value)) < 40:  # else there is no room for the comment
            header.comments[fact.keyword] = fact.name
    primary = fits.PrimaryHDU().header.tostring().encode()
    with written_whole(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(primary + header.tostring().encode())

        def write(rows: Rows) -> None:
            table = np.zeros(_length(rows), dtype)
            for name, column in zip(names, columns, strict=True):
                values = rows[column.name]
                table[name] = _fixed(path, column, values) if column.dtype == TEXT else values
            header["NAXIS2"] += len(table)
            file.write(table.tobytes())

        yield write
        file.write(b"\0" * (-file.tell() % _FITS_BLOCK))
        _write_again(file, len(primary), header.tostring().encode())


def _write_again(file: BinaryIO, offset: int, header: bytes) -> None:
    file.seek(offset)
    file.write(header)


def _fits_names(columns: Sequence[Column]) -> list[str]:
    """The columns' names in a form for VOTable and SQL: letters, digits and _, no two alike in lower case."""
    names: list[str] = []
    for column in columns:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in column.name)
        taken = {used.lower() for used in names}
        names.append(name if name.lower() not in taken else f"{name}_{len(names)}")
    return names


def _fits_type(column: Column) -> str:
    """A FITS type for a column. FITS has unsigned integers of one byte only, and no signed ones of one
    byte."""
    if column.dtype == TEXT:
        return f"S{_TEXT_WIDTH}"
    return {"int8": ">i2", "uint32": ">i4"}.get(column.dtype, np.dtype(column.dtype).newbyteorder(">").str)


def _fixed(path: Path, column: Column, values: NDArray[Any]) -> NDArray[np.bytes_]:
    encoded = [str(value).encode("ascii", "backslashreplace") for value in values]  # FITS has no other
    if (longest := max(map(len, encoded), default=0)) > _TEXT_WIDTH:
        raise UserError(
            f"{path}: a {column.name} has {longest} bytes, more than the {_TEXT_WIDTH} of this FITS table; "
            "write .parquet"
        )
    return np.array(encoded, dtype=f"S{_TEXT_WIDTH}")


def _beside(path: Path) -> Path:
    """The path of a CSV's metadata; for other formats, that of the file itself."""
    return path.with_name(f"{path.name}-metadata.json") if path.suffix.lower() == ".csv" else path


def _is_metadata(path: Path) -> bool:
    """Whether a file is the metadata of a CSV that rotinv wrote."""
    try:
        return {"columns", "model_1_sha256"} <= dict(json.loads(path.read_text(encoding="utf-8"))).keys()
    except (OSError, ValueError, TypeError):
        return False


_FORMATS = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".ecsv": _ecsv,
    ".fits": _fits,
    ".fit": _fits,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
