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

from rotinv import packets
from rotinv.alerts import Packet
from rotinv.errors import UserError
from rotinv.extras import MissingLibrary, require

MAGIC = b"Obj\x01"
_MARKER = 16
_MOST_METADATA = 1 << 26  # bytes


class _Block(NamedTuple):
    """Where a block starts: bytes into the file, and alerts."""

    offset: int
    first: int


class AvroFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file's header cannot be read, or is that of other things than alerts.
    """

    def __init__(self, path: Path) -> None:
        self._avro = require("fastavro", "alerts", path)
        self.path = path
        self.problems: list[str] = []
        with path.open("rb") as file:
            try:
                schema, marker = _read_header(file)
                fields, self._reader, self._narrow = _understood(schema)
            except (EOFError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: its Avro header is cut off or damaged; fetch the file anew"
                ) from error
            if self._reader is None:
                raise UserError(
                    f"{path}: holds no alerts of ZTF or Rubin, but records of {', '.join(fields)}"
                )
            self._header = file.tell()
            self._blocks = self._find_blocks(file, marker)

    def __len__(self) -> int:
        return self._blocks[-1].first

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""
        reader = self._reader
        assert reader is not None
        at, stop = start, min(stop, len(self))
        while at < stop:
            block = bisect.bisect_right(self._blocks, at, key=lambda block: block.first) - 1
            try:
                for number, record in enumerate(self._records(block), self._blocks[block].first):
                    if number >= stop:
                        return
                    if number == at:
                        at += 1
                        yield packets.read(reader, record, self._told(number), self.problems)
                reason = "the file ends"
            except Exception as error:  # what the library makes of damaged bytes is told, not fatal
                if "need to install" in str(error):  # the library of the file's compression is not here
                    raise MissingLibrary(f"{self.path}: {error}: pip install 'rotinv[alerts]'") from error
                reason = f"{type(error).__name__}: {error}"
            if at == stop:
                return
            block = bisect.bisect_right(self._blocks, at, key=lambda block: block.first) - 1
            end = min(self._blocks[block + 1].first, stop)
            self.problems.append(f"{self._told(at)} to {end - 1} cannot be read ({reason})")
            while at < end:
                at += 1
                yield packets.UNREADABLE

    def _told(self, number: int) -> str:
        return f"{self.path}: alert {number}"

    def _records(self, block: int) -> Iterator[dict[str, Any]]:
        """The records from a block on to the end of the file."""
        with self.path.open("rb") as file:
            header = file.read(self._header)
            file.seek(self._blocks[block].offset)
            yield from self._avro.reader(_Joined(header, file), reader_schema=self._narrow)

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


@functools.lru_cache(8)  # a night of single packets has one schema
def _understood(text: bytes) -> tuple[list[str], packets.Reader | None, dict[str, Any] | None]:
    """The fields of a schema, how to read its records, and the schema of what is wanted of them.

    What is not wanted, such as an object's history, is then skipped quickly. All is read of a plain table,
    and where the narrow schema cannot be used: a wanted type may be defined in a field that is not.
    """
    schema = json.loads(text)
    names = [field["name"] for field in schema["fields"]]
    narrow = None
    if {"candidate", "diaSource"} & set(names):
        fields = [field for field in schema["fields"] if field["name"] in packets.WANTED]
        with contextlib.suppress(Exception):  # the library has a dozen kinds of complaint
            narrow = require("fastavro", "alerts", "Avro").parse_schema({**schema, "fields": fields})
    return names, packets.reader_for(names), narrow


class _Joined:
    """A file to read on: a header, then the rest of another file."""

    def __init__(self, header: bytes, rest: BinaryIO) -> None:
        self._header, self._rest = io.BytesIO(header), rest

    def read(self, count: int = -1) -> bytes:
        return self._header.read(count) or self._rest.read(count)


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
