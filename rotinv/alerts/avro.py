"""Avro object container files of alerts: any range of them, and what is whole of a damaged file.

A container is a header (metadata with the schema, a marker of 16 bytes), then blocks: the number of their
records, that of their bytes, the records, the marker (Avro 1.12, "Object container files").
"""

import bisect
import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rotinv.alerts import avro_skip
from rotinv.alerts.avro_schema import NotUnderstood, Wanted, decoded, understood, wanted_of
from rotinv.alerts.packets import (
    UNREADABLE,
    check_recognised,
    read_packet,
    refusal,
)
from rotinv.alerts.profiles import NoSurvey, Profile
from rotinv.alerts.stamp import Packet
from rotinv.system.errors import MissingLibrary, UserError, require_extra
from rotinv.system.messages import counted

MAGIC = b"Obj\x01"
_MARKER = 16
_MOST_METADATA = 1 << 26  # bytes


class _Block(NamedTuple):
    """Where a block starts: bytes into the file, alerts; and where its records start, bytes into the file."""

    offset: int
    first: int
    records: int


class AvroFile:
    """The alerts of a file; `problems` tells what cannot be read.

    Raises UserError if the file's header cannot be read, or is that of other things than alerts.
    """

    def __init__(self, path: Path, profiles: Sequence[Profile]) -> None:
        self._avro = require_extra("fastavro", "alerts", path)
        self.path, self._name = path, str(path)
        self.problems: list[str] = []
        with path.open("rb") as file:
            try:
                schema, codec, marker = _read_header(file)
                self._is_plain = codec == b"null"
                self._header = _blocks_header(codec, marker)
                self._understood_by = schema, tuple(profiles)
                self._schema = understood(*self._understood_by)
            except NoSurvey as error:
                raise refusal(path, error) from error
            except NotUnderstood as error:
                raise UserError(f"{path}: its Avro schema is not understood ({error})") from error
            except Exception as error:  # the library's dozen kinds too, for a schema that is damaged
                reason = "its Avro header is cut off or damaged; fetch the file anew"
                raise UserError(f"{path}: {reason}") from error
            self._blocks = self._find_blocks(file, marker)
        if not self._schema.reading.sure:
            check_recognised(path, self._schema.reading, self._first_records())

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which understands the schema anew."""
        return {key: value for key, value in vars(self).items() if key not in ("_avro", "_schema")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._avro = require_extra("fastavro", "alerts", self.path)
        self._schema = understood(*self._understood_by)

    def __len__(self) -> int:
        return self._blocks[-1].first

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""
        at, stop = start, min(stop, len(self))
        while at < stop:
            block = bisect.bisect_right(self._blocks, at, key=lambda block: block.first) - 1
            try:
                for number, wanted in self._records(block, at):
                    if number >= stop:
                        return
                    at += 1
                    yield self._packet(wanted, self._told(number))
                reason = "the file ends"
            except MissingLibrary:
                raise
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
        return f"{self._name}: alert {number}"

    def _first_records(self) -> Iterator[dict[str, Any]]:
        """The records from the first on; they end where one is damaged."""
        with contextlib.suppress(Exception):  # what the library makes of damaged bytes is told in its place
            for _, wanted in self._records(0, 0) if len(self) else ():
                yield decoded(wanted, self._schema)

    def _packet(self, wanted: Wanted, where: str) -> Packet:
        try:
            found = decoded(wanted, self._schema)
        except Exception as error:  # what the library makes of damaged bytes is told, not fatal
            self.problems.append(f"{where} cannot be read ({type(error).__name__}: {error})")
            return UNREADABLE
        return read_packet(self._schema.reading, found, where, self.problems)

    def _records(self, block: int, start: int) -> Iterator[tuple[int, Wanted]]:
        """What is wanted of the records from `start`, which is in a block, on to the end of the file, each
        with its number."""
        schema = self._schema
        with self.path.open("rb") as file:
            for first, count, data in self._unpacked(file, block):
                numbers, at = np.frombuffer(data, np.uint8), 0
                for number in range(first, first + count):
                    starts = avro_skip.field_starts(numbers, at, schema.program, schema.node)
                    if starts[-1] < 0:
                        raise EOFError("the block ends within an alert")
                    if number >= start:
                        yield number, wanted_of(data, numbers, starts, schema)
                    at = starts[-1]

    def _unpacked(self, file: BinaryIO, block: int) -> Iterator[tuple[int, int, bytes]]:
        """The blocks from this one on: the first record's number, how many there are, and their bytes."""
        if not self._is_plain:
            file.seek(self._blocks[block].offset)
            blocks = self._avro.block_reader(_Joined(self._header, file))
            for own, found in zip(self._blocks[block:-1], blocks, strict=False):
                yield own.first, found.num_records, found.bytes_.getvalue()
            return
        for own, following in itertools.pairwise(self._blocks[block:]):
            file.seek(own.records)
            data = file.read(following.offset - _MARKER - own.records)
            yield own.first, following.first - own.first, data

    def _find_blocks(self, file: BinaryIO, marker: bytes) -> list[_Block]:
        """All whole blocks, and where they end."""
        blocks, first, size = [], 0, self.path.stat().st_size
        while True:
            offset = file.tell()
            blocks.append(_Block(offset, first, offset))
            if offset == size:
                return blocks
            try:
                count, length = _read_long(file), _read_long(file)
                blocks[-1] = _Block(offset, first, file.tell())
                whole = 0 <= count <= length
                whole = whole and file.seek(length, 1) <= size and file.read(_MARKER) == marker
            except (EOFError, OSError, ValueError):
                whole = False
            if not whole:
                self.problems.append(
                    f"{self.path}: is cut off or damaged after its first {counted(first, 'alert')}"
                )
                return blocks
            first += count


def read_container(avro: Any, file: BinaryIO) -> tuple[bytes, Iterator[Any]]:
    """The text of a container's schema, and its blocks as `avro`, which is fastavro, unpacks them.

    Raises ValueError or EOFError if its header is damaged; the blocks raise what fastavro does.
    """
    schema, codec, marker = _read_header(file)
    return schema, avro.block_reader(_Joined(_blocks_header(codec, marker), file))


class _Joined:
    """A file to read on: a header, then the rest of another file."""

    def __init__(self, header: bytes, rest: BinaryIO) -> None:
        self._header, self._rest = io.BytesIO(header), rest

    def read(self, count: int = -1) -> bytes:
        return self._header.read(count) or self._rest.read(count)

    def tell(self) -> int:
        """For the library, which notes where blocks are."""
        return self._rest.tell()


def _read_header(file: BinaryIO) -> tuple[bytes, bytes, bytes]:
    """The schema's text, the compression's name and the marker; the file then stands at the first block."""
    file.seek(len(MAGIC))
    metadata: dict[bytes, bytes] = {}
    while count := _read_long(file):
        if count < 0:  # then the size in bytes follows
            _read_long(file)
        for _ in range(abs(count)):
            key = _read_bytes(file)
            metadata[key] = _read_bytes(file)
    if b"avro.schema" not in metadata:
        raise ValueError("it has no schema")
    return metadata[b"avro.schema"], metadata.get(b"avro.codec", b"null"), _read(file, _MARKER)


def _blocks_header(codec: bytes, marker: bytes) -> bytes:
    """A header for the library's reader of blocks: it would refuse some surveys' own schemas, and no block
    is read by them."""
    if len(codec) > 63:  # longer than one byte of length can say
        raise ValueError(f"a compression's name of {len(codec)} bytes")
    pairs = ((b"avro.schema", b'"null"'), (b"avro.codec", codec))
    texts = b"".join(bytes([2 * len(text)]) + text for pair in pairs for text in pair)
    return MAGIC + bytes([2 * len(pairs)]) + texts + b"\0" + marker


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
