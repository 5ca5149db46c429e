"""Parquet tables of alerts: cut-outs as lists of numbers, as FITS bytes, or as records around those."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.packets import UNREADABLE, WANTED, columns_of, read_packet, reader_for
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import UserError, require_extra

MAGIC = b"PAR1"
_ROWS = 64  # read at a time: a row's cut-outs are large


class ParquetFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file cannot be read, or has no columns of cut-outs.
    """

    def __init__(self, path: Path) -> None:
        self._parquet = require_extra("pyarrow.parquet", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        try:
            with self._parquet.ParquetFile(path) as file:
                names, self._count = file.schema_arrow.names, file.metadata.num_rows
        except Exception as error:  # Arrow's own kinds, for a file that is cut off or damaged
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{path}: is a damaged Parquet file ({reason}); fetch it anew") from error
        reader = reader_for(names)
        if reader is None:
            raise UserError(
                f"{path}: has no columns template, science, difference (or cutoutTemplate, …), but "
                f"{', '.join(names[:12])}"
            )
        self._reader = reader
        rows = columns_of(names).values()
        self._columns = [name for name in names if name in WANTED or name in rows]

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
                yield read_packet(self._reader, record, where, self.problems)
            reason = "the file ends"
        except Exception as error:  # Arrow's own kinds, for pages that are damaged
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        if at < stop:
            self.problems.append(f"{self.path}: rows {at} to {stop - 1} cannot be read ({reason})")
        for _ in range(at, stop):
            yield UNREADABLE

    def _records(self, start: int) -> Iterator[dict[str, Any]]:
        """The rows from `start` on: groups of rows that come before it are not read."""
        with self._parquet.ParquetFile(self.path) as file:
            groups, first = list(range(file.num_row_groups)), 0
            while groups and first + file.metadata.row_group(groups[0]).num_rows <= start:
                first += file.metadata.row_group(groups.pop(0)).num_rows
            for batch in file.iter_batches(_ROWS, row_groups=groups, columns=self._columns):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                for row in range(max(start - first, 0), batch.num_rows):
                    yield {name: _value(column[row]) for name, column in columns.items()}
                first += batch.num_rows


def _value(scalar: Any) -> Any:
    """A cell: lists of numbers as an array, which is far quicker than Python's own numbers.

    What is wrong with it is given, not raised: it must cost no other cell or row.
    """
    values = getattr(scalar, "values", None)
    if values is None or not hasattr(values, "to_numpy"):
        return scalar.as_py()
    try:
        return _array(values)
    except ValueError as error:
        return error


def _array(values: Any) -> NDArray[Any]:
    """Arrow's list of numbers, or of lists of equal length, as an array."""
    if not hasattr(values, "flatten") or not hasattr(values.type, "value_type"):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    inner = _array(values.flatten())
    lengths = set(values.value_lengths().to_pylist())
    if len(lengths) != 1 or None in lengths:  # a row that is null has none
        raise ValueError("its rows are not of one length")
    return inner.reshape(len(values), -1)
