"""Messages of a stream as alerts: four framings, and checks that a record makes sense.

confluent   0, four bytes with the schema's number, then a record (Rubin, and whoever uses a registry)
container   a whole Avro file, schema and all (ZTF, BABAMUL)
key         a record; its schema is the message's key, as JSON (Fink)
bare        a record of a schema that is given

A record that is decoded by another schema than it was written by need not give an error. So every byte must
be used, and id, position, time and cut-outs must be what they can be.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rotinv.alerts import avro_skip
from rotinv.alerts.avro import MAGIC, read_container
from rotinv.alerts.avro_schema import Schema, decoded, wanted_of
from rotinv.alerts.packets import UNREADABLE, read_packet
from rotinv.alerts.stamp import BIT, Packet
from rotinv.deploy.schemas import Schemas
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line

_FRAME = 5  # bytes: 0, and the schema's number
_MJD = (40_000.0, 100_000.0)  # from 1968 to 2132


class Poisoned(Exception):
    """A message that is no alert, or makes no sense; its text says why."""


class Decoder:
    """Reads the messages of a stream."""

    def __init__(self, framing: str, schemas: Schemas | None, bare: bytes | None) -> None:
        """`schemas` are those that numbers of `confluent` and keys mean, `bare` the text of the one
        schema."""
        self._avro = require_extra("fastavro", "stream", "the stream")
        self._records = FRAMINGS[framing]
        self.schemas, self.bare = schemas, bare

    def alerts(self, key: bytes | None, value: bytes | None, problems: list[str], where: str) -> list[Packet]:
        """The alerts of a message; what is wrong with a single value of one is told in `problems`.

        Raises Poisoned if the message is no alert by its framing and schema, or if it makes no sense.
        """
        if not value:
            raise Poisoned("it is empty")
        try:
            return [
                self._packet(schema, data, problems, where)
                for schema, data in self._records(self, key, value)
            ]
        except LookupError as error:
            raise Poisoned(first_line(error)) from error

    def _packet(self, schema: Schema, data: bytes, problems: list[str], where: str) -> Packet:
        numbers = np.frombuffer(data, np.uint8)
        starts = avro_skip.field_starts(numbers, 0, schema.program, schema.node)
        if starts[-1] != len(data):
            told = "ends within" if starts[-1] < 0 else "goes on after"
            raise Poisoned(f"it {told} a record of its schema: it was written by another one, or is damaged")
        try:
            record = decoded(wanted_of(data, numbers, starts, schema), schema)
        except Exception as error:  # the library has a dozen kinds for bytes that are no record
            raise Poisoned(f"it cannot be read ({type(error).__name__}: {first_line(error)})") from error
        own: list[str] = []
        packet = read_packet(schema.reading, record, where, own)
        if reason := senseless(packet):
            raise Poisoned(f"it makes no sense: {reason}{f' ({own[0]})' if own else ''}")
        problems += own
        return packet


def senseless(packet: Packet) -> str:
    """Why a packet cannot be what its survey sent; empty where it can."""
    if packet is UNREADABLE:
        return "it is no alert of the survey"
    if not packet.candidate_id or packet.candidate_id.startswith("-") or packet.candidate_id == "0":
        return f"the id is {packet.candidate_id or 'missing'}"
    for name, low, high in (("ra", 0.0, 360.0), ("dec", -90.0, 90.0), ("mjd", *_MJD)):
        value = getattr(packet, name)
        if value == value and not low <= value <= high:
            return f"{name} is {value:g}"
    cutouts = packet.template, packet.science, packet.difference
    if packet.flags & BIT["unreadable"] and all(pixels is None for pixels in cutouts):
        return "no cut-out can be read"
    return ""


Records = Iterator[tuple[Schema, bytes]]


def _confluent(decoder: Decoder, key: bytes | None, value: bytes) -> Records:
    if value[0] != 0 or len(value) <= _FRAME:
        raise Poisoned("it does not begin with 0 and a schema's number")
    assert decoder.schemas is not None
    yield decoder.schemas.by_number(int.from_bytes(value[1:_FRAME], "big")), value[_FRAME:]


def _container(decoder: Decoder, key: bytes | None, value: bytes) -> Records:
    if not value.startswith(MAGIC):
        raise Poisoned("it is no Avro container")
    assert decoder.schemas is not None
    try:
        text, blocks = read_container(decoder._avro, io.BytesIO(value))
        schema = decoder.schemas.of_text(text)
        for block in blocks:
            yield from _in_block(schema, block)
    except (LookupError, UserError, Poisoned):
        raise
    except Exception as error:  # the library has a dozen kinds for a damaged container
        raise Poisoned(f"it is a damaged container ({type(error).__name__}: {first_line(error)})") from error


def _in_block(schema: Schema, block: Any) -> Records:
    """The records of a container's block, each by itself."""
    data, at = block.bytes_.getvalue(), 0
    numbers = np.frombuffer(data, np.uint8)
    for _ in range(block.num_records):
        end = int(avro_skip.field_starts(numbers, at, schema.program, schema.node)[-1])
        if end < 0:
            raise Poisoned("it is a damaged container (a block ends within an alert)")
        yield schema, data[at:end]
        at = end


def _key(decoder: Decoder, key: bytes | None, value: bytes) -> Records:
    if not key:
        raise Poisoned("it has no key, which should be its schema")
    assert decoder.schemas is not None
    yield decoder.schemas.of_text(bytes(key)), value


def _bare(decoder: Decoder, key: bytes | None, value: bytes) -> Records:
    assert decoder.schemas is not None and decoder.bare is not None
    yield decoder.schemas.of_text(decoder.bare), value


FRAMINGS: dict[str, Callable[[Decoder, bytes | None, bytes], Records]] = {
    "confluent": _confluent,
    "container": _container,
    "key": _key,
    "bare": _bare,
}
