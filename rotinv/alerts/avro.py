"""Avro object container files of alerts: any range of them, and what is whole of a damaged file.

A container is a header (metadata with the schema, a marker of 16 bytes), then blocks: the number of their
records, that of their bytes, the records, the marker (Avro 1.12, "Object container files").
"""

import bisect
import contextlib
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts import avro_skip
from rotinv.alerts.packets import UNREADABLE, WANTED, Reader, read_packet, reader_for
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import MissingLibrary, UserError, require_extra

MAGIC = b"Obj\x01"
_MARKER = 16
_MOST_METADATA = 1 << 26  # bytes


class _NoAlerts(Exception):
    """Records of another kind; its text names their fields."""


class _Block(NamedTuple):
    """Where a block starts: bytes into the file, and alerts."""

    offset: int
    first: int


class AvroFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file's header cannot be read, or is that of other things than alerts.
    """

    def __init__(self, path: Path) -> None:
        self._avro = require_extra("fastavro", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        with path.open("rb") as file:
            try:
                schema, marker = _read_header(file)
                self._schema = _understood(schema)
            except _NoAlerts as error:
                raise UserError(f"{path}: holds no alerts of ZTF or Rubin, but records of {error}") from error
            except Exception as error:  # the library's dozen kinds too, for a schema that is damaged
                reason = "its Avro header is cut off or damaged; fetch the file anew"
                raise UserError(f"{path}: {reason}") from error
            self._header = file.tell()
            self._blocks = self._find_blocks(file, marker)

    def __len__(self) -> int:
        return self._blocks[-1].first

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""
        at, stop = start, min(stop, len(self))
        while at < stop:
            block = bisect.bisect_right(self._blocks, at, key=lambda block: block.first) - 1
            try:
                for number, record in self._records(block, at):
                    if number >= stop:
                        return
                    at += 1
                    yield read_packet(self._schema.reader, record, self._told(number), self.problems)
                reason = "the file ends"
            except Exception as error:  # what the library makes of damaged bytes is told, not fatal
                if "need to install" in str(error):  # the library of the file's compression is not here
                    raise MissingLibrary(f"{self.path}: {error}: pip install 'rotinv[alerts]'") from error
                reason = f"{type(error).__name__}: {error}"
            if at == stop:
                return
            block = bisect.bisect_right(self._blocks, at, key=lambda block: block.first) - 1
            end = min(self._blocks[block + 1].first, stop)
            self.problems.append(f"{self._told(at)} up to {end - 1} cannot be read ({reason})")
            while at < end:
                at += 1
                yield UNREADABLE

    def _told(self, number: int) -> str:
        return f"{self.path}: alert {number}"

    def _records(self, block: int, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The records from `start`, which is in a block, on to the end of the file, each with its number."""
        schema = self._schema
        with self.path.open("rb") as file:
            header = file.read(self._header)
            file.seek(self._blocks[block].offset)
            blocks = self._avro.block_reader(_Joined(header, file))
            for own, found in zip(self._blocks[block:-1], blocks, strict=False):
                data, at = found.bytes_.getvalue(), 0
                numbers = np.frombuffer(data, np.uint8)
                for number in range(own.first, own.first + found.num_records):
                    starts = avro_skip.field_starts(numbers, at, schema.program, schema.node)
                    if starts[-1] < 0:
                        raise EOFError("the block ends within an alert")
                    if number >= start:
                        wanted = b"".join(_pieces(data, numbers, starts, schema))
                        yield number, self._avro.schemaless_reader(io.BytesIO(wanted), schema.narrow, None)
                    at = starts[-1]

    def _find_blocks(self, file: BinaryIO, marker: bytes) -> list[_Block]:
        """All whole blocks, and where they end."""
        blocks, first, size = [], 0, self.path.stat().st_size
        while True:
            blocks.append(_Block(file.tell(), first))
            if blocks[-1].offset == size:
                return blocks
            try:
                count, length = _read_long(file), _read_long(file)
                whole = 0 <= count <= length
                whole = whole and file.seek(length, 1) <= size and file.read(_MARKER) == marker
            except (EOFError, OSError, ValueError):
                whole = False
            if not whole:
                self.problems.append(f"{self.path}: is cut off or damaged after its first {first:,} alerts")
                return blocks
            first += count


class _Kept(NamedTuple):
    """A field that is wanted: whole, or of its record, whose node is given, those inner fields."""

    field: int
    node: int = -1
    inner: tuple[int, ...] = ()


class _Schema(NamedTuple):
    """What a file's records have, and how to read what is wanted of them."""

    reader: Reader
    program: NDArray[np.int64]  # of whole records: see rotinv/alerts/avro_skip.py
    node: int
    kept: list["_Kept"]  # the fields that are wanted
    narrow: dict[str, Any]  # the schema of a record of those alone


@functools.lru_cache(8)  # a night of single packets has one schema
def _understood(text: bytes) -> _Schema:
    """How to read a schema's records. Raises _NoAlerts if those are of another kind.

    Of ZTF's and Rubin's packets only what is wanted is read: an object's history is most of it. All is read
    of other records, and where a type that is wanted is defined in a field that is not.
    """
    parse = require_extra("fastavro", "alerts", "Avro").parse_schema
    schema = parse(json.loads(text))
    names = [field["name"] for field in schema["fields"]]
    reader = reader_for(names)
    if reader is None:
        raise _NoAlerts(", ".join(names))
    program, node = avro_skip.compiled(schema)
    kept, narrow = [_Kept(i) for i in range(len(names))], schema
    if {"candidate", "diaSource"} & set(names):
        wanted = [i for i, name in enumerate(names) if name in WANTED]
        pairs = [_narrowed(schema["fields"][i], i, int(program[node + 2 + i])) for i in wanted]
        with contextlib.suppress(Exception):  # the library has a dozen kinds of complaint
            fields = [field for field, _ in pairs]
            narrow = parse({"type": "record", "name": schema["name"], "fields": fields})
            kept = [one for _, one in pairs]
    return _Schema(reader, program, node, kept, narrow)


def _narrowed(field: dict[str, Any], number: int, node: int) -> tuple[dict[str, Any], _Kept]:
    """A wanted field's schema without those of its record's fields that are not wanted, and what is kept."""
    inner, kind = WANTED[field["name"]], field["type"]
    if not inner or not isinstance(kind, dict) or kind.get("type") != "record":
        return field, _Kept(number)
    places = [i for i, one in enumerate(kind["fields"]) if one["name"] in inner]
    narrow = {**kind, "fields": [kind["fields"][i] for i in places]}
    return {**field, "type": narrow}, _Kept(number, node, tuple(places))


def _pieces(
    data: bytes, numbers: NDArray[np.uint8], starts: NDArray[np.int64], schema: _Schema
) -> list[bytes]:
    """The bytes of a record's wanted fields: joined, they are a record of the narrow schema."""
    pieces = []
    for one in schema.kept:
        if one.node < 0:
            pieces.append(data[starts[one.field] : starts[one.field + 1]])
            continue
        inner = avro_skip.field_starts(numbers, starts[one.field], schema.program, one.node)
        pieces += [data[inner[i] : inner[i + 1]] for i in one.inner]
    return pieces


class _Joined:
    """A file to read on: a header, then the rest of another file."""

    def __init__(self, header: bytes, rest: BinaryIO) -> None:
        self._header, self._rest = io.BytesIO(header), rest

    def read(self, count: int = -1) -> bytes:
        return self._header.read(count) or self._rest.read(count)

    def tell(self) -> int:
        """For the library, which notes where blocks are."""
        return self._rest.tell()


def _read_header(file: BinaryIO) -> tuple[bytes, bytes]:
    """The schema's text and the marker; the file then stands at the first block."""
    file.seek(len(MAGIC))
    metadata: dict[bytes, bytes] = {}
    while count := _read_long(file):
        if count < 0:  # then the size in bytes follows
            _read_long(file)
        for _ in range(abs(count)):
            key = _read_bytes(file)
            metadata[key] = _read_bytes(file)
    return metadata[b"avro.schema"], _read(file, _MARKER)


def _read_bytes(file: BinaryIO) -> bytes:
    length = _read_long(file)
    if not 0 <= length <= _MOST_METADATA:
        raise ValueError(f"a text of {length} bytes")
    return _read(file, length)


def _read_long(file: BinaryIO) -> int:
    """A number as Avro writes it: seven bits a byte, the lowest first, and signs interleaved."""
    value = shift = 0
    while True:
        byte = _read(file, 1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _read(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise EOFError("the file ends")
    return found
