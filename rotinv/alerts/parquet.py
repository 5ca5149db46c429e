"""Parquet tables of alerts: cut-outs as lists of numbers, as FITS bytes, or as records around those."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.packets import UNREADABLE, check_recognised, read_packet, reading_of_rows, refusal
from rotinv.alerts.profiles import NoSurvey, Profile
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import MissingLibrary, UserError, require_extra
from rotinv.system.files import first_line

MAGIC = b"PAR1"
_ROWS = 64  # read at a time: a row's cut-outs are large

Row = dict[str, Any]  # a cell that cannot be read is a ValueError that says why


class ParquetFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file cannot be read, or has no columns of cut-outs.
    """

    def __init__(self, path: Path, profiles: Sequence[Profile]) -> None:
        self._parquet = require_extra("pyarrow.parquet", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        try:
            with self._parquet.ParquetFile(path) as file:
                schema, self._count = file.schema_arrow, file.metadata.num_rows
        except Exception as error:  # Arrow's own kinds, for a file that is cut off or damaged
            raise UserError(
                f"{path}: is a damaged Parquet file ({first_line(error)}); fetch it anew"
            ) from error
        fields = {name: _inner(schema.field(name)) for name in schema.names}
        try:
            self._reading = reading_of_rows(fields, profiles)
        except NoSurvey as error:
            raise refusal(path, error) from error
        wanted = {name: inner for name, inner in self._reading.wanted.items() if name in fields}
        self._columns = {name: _paths(name, inner, fields[name]) for name, inner in wanted.items()}
        check_recognised(path, self._reading, self._records(0))

    def __len__(self) -> int:
        return int(self._count)

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""
        at, stop = start, min(stop, len(self))
        try:
            for record in self._records(start):
                if at == stop:
                    return
                at += 1
                where = f"{self.path}: row {at - 1}"
                yield read_packet(self._reading, record, where, self.problems)
            reason = "the file ends"
        except MissingLibrary:
            raise
        except Exception as error:  # Arrow's own kinds, for a file that is damaged
            reason = first_line(error)
        if at < stop:
            self.problems.append(f"{self.path}: rows {at} to {stop - 1} cannot be read ({reason})")
        for _ in range(at, stop):
            yield UNREADABLE

    def _records(self, start: int) -> Iterator[Row]:
        """The rows from `start` on; groups of rows that come before it are not read.

        A group is read from its first row always, so what is lost of a damaged one does not depend on
        `start`, nor on how a cluster shares the rows out.
        """
        with self._parquet.ParquetFile(self.path) as file:
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if first + count > start:
                    for row, record in enumerate(self._group(file, group, count), first):
                        if row >= start:
                            yield record
                first += count

    def _group(self, file: Any, group: int, count: int) -> Iterator[Row]:
        """The rows of a group; where one of its columns is damaged, that column's cells alone are lost."""
        done, paths = 0, [path for paths in self._columns.values() for path in paths]
        try:
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=paths):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                for row in range(batch.num_rows):
                    yield {name: _value(column[row]) for name, column in columns.items()}
                    done += 1
        except Exception:  # Arrow's own kinds: its columns are read one by one
            columns = {name: self._cells(file, group, name, count) for name in self._columns}
            for row in range(count):
                record = {name: next(cells) for name, cells in columns.items()}
                if row >= done:
                    yield record

    def _cells(self, file: Any, group: int, name: str, count: int) -> Iterator[Any]:
        """The cells of one column in a group of rows, as many as the group has."""
        done, reason = 0, ValueError("the file ends")
        try:
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=self._columns[name]):
                for row in range(batch.num_rows):
                    yield _value(batch.columns[0][row])
                    done += 1
        except Exception as error:  # Arrow's own kinds, for pages that are damaged
            reason = ValueError(first_line(error))
        for _ in range(done, count):
            yield reason


def _inner(field: Any) -> tuple[str, ...]:
    """The fields of a column's records; none of a column of other things."""
    kind = field.type
    if not hasattr(kind, "get_field_index"):
        return ()
    return tuple(kind.field(number).name for number in range(kind.num_fields))


def _paths(name: str, wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """What to read of a column: all of it, or of a record those of the wanted fields that it has."""
    return [f"{name}.{inner}" for inner in wanted if inner in there] or [name]


def _value(scalar: Any) -> Any:
    """A cell: lists of numbers as an array, which is far quicker than Python's own numbers.

    What is wrong with it is given as a ValueError, not raised: it must cost no other cell or row.
    """
    try:
        if not scalar.is_valid:
            return None
        if hasattr(scalar, "keys"):
            return {name: _value(scalar[name]) for name in scalar}
        values = getattr(scalar, "values", None)
        if values is None or not hasattr(values, "to_numpy"):
            return scalar.as_py()
        return _array(values)
    except Exception as error:  # also what is no UTF-8, or a time finer than Python's
        return ValueError(first_line(error))


def _array(values: Any) -> NDArray[Any]:
    """Arrow's list of numbers, or of lists of equal length, as an array."""
    if not hasattr(values, "flatten") or not hasattr(values.type, "value_type"):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    inner = _array(values.flatten())
    lengths = set(values.value_lengths().to_pylist())
    if len(lengths) != 1 or None in lengths:  # a row that is null has none
        raise ValueError("its rows are not of one length")
    return inner.reshape(len(values), -1)
