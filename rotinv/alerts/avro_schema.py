"""Which bytes of an Avro record are read, and by which schema: an object's history is most of a packet."""

import contextlib
import functools
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts import avro_skip
from rotinv.alerts.packets import Reading, reading_of_alerts
from rotinv.alerts.profiles import Profile
from rotinv.system.errors import require_extra


class NotUnderstood(Exception):
    """A schema that is JSON, but none that the library takes; its text says why."""


class _Kept(NamedTuple):
    """A field that is wanted: whole, or of its record, whose node is given, those inner fields."""

    field: int
    node: int = -1
    inner: tuple[int, ...] = ()


class _Bytes(NamedTuple):
    """A field of bytes that may be null: its name and number, and which byte begins a null, if any does."""

    name: str
    field: int
    null: int = -1


class Wanted(NamedTuple):
    """What is wanted of a record: a record of the narrow schema, and by their names the fields of bytes."""

    record: bytes
    own: dict[str, bytes | None]


class Schema(NamedTuple):
    """What a file's records have, and how to read what is wanted of them.

    Cut-outs that are fields of bytes are most of a record: they are taken as they are, without the library.
    """

    reading: Reading
    program: NDArray[np.int64]  # of whole records: see rotinv/alerts/avro_skip.py
    node: int
    kept: list["_Kept"]  # the fields that are wanted, without those of bytes
    narrow: dict[str, Any]  # the schema of a record of those alone
    cutouts: list["_Bytes"]  # the wanted fields of bytes


@functools.lru_cache(8)  # a night of single packets has one schema
def understood(text: bytes, profiles: tuple[Profile, ...]) -> Schema:
    """How to read a schema's records. Raises NoSurvey if no profile fits them, and NotUnderstood.

    Only what is wanted is read: an object's history is most of a packet. All is read where a type that is
    wanted is defined in a field that is not.
    """
    parse = require_extra("fastavro", "alerts", "Avro").parse_schema
    plain = _without_defaults(json.loads(text))
    try:
        schema = parse(plain)
    except Exception as error:  # the library has a dozen kinds of complaint
        raise NotUnderstood(f"{type(error).__name__}: {error}") from error
    fields = {field["name"]: _inner(field["type"]) for field in schema["fields"]}
    reading = reading_of_alerts(fields, schema["name"], profiles)
    program, node = avro_skip.compiled(schema)
    kept, narrow = [_Kept(i) for i in range(len(schema["fields"]))], schema
    wanted = [(i, field) for i, field in enumerate(schema["fields"]) if field["name"] in reading.wanted]
    binary = [_bytes(i, field) for i, field in wanted if _is_bytes(field["type"])]
    wanted = [(i, field) for i, field in wanted if not _is_bytes(field["type"])]
    pairs = [_narrowed(field, i, int(program[node + 2 + i]), reading.wanted) for i, field in wanted]
    with contextlib.suppress(Exception):  # the library has a dozen kinds of complaint
        narrow = parse({"type": "record", "name": schema["name"], "fields": [field for field, _ in pairs]})
        kept = [one for _, one in pairs]
    return Schema(reading, program, node, kept, narrow, binary)


def _is_bytes(kind: Any) -> bool:
    return kind == "bytes" or (isinstance(kind, list) and sorted(map(str, kind)) == ["bytes", "null"])


def _bytes(number: int, field: dict[str, Any]) -> _Bytes:
    kind = field["type"]
    return _Bytes(field["name"], number, -1 if kind == "bytes" else 2 * kind.index("null"))


def _inner(kind: Any) -> tuple[str, ...]:
    """The fields of a record, also of one that may be null; none of other types."""
    if isinstance(kind, list):
        return tuple(name for one in kind for name in _inner(one))
    is_record = isinstance(kind, dict) and kind.get("type") == "record"
    return tuple(field["name"] for field in kind["fields"]) if is_record else ()


def _without_defaults(schema: Any) -> Any:
    """A schema without the default values of its fields, which are of no use to read what was written by it.

    Surveys write such that do not match their type, which the library refuses, as Avro's own does not.
    """
    if isinstance(schema, list):
        return [_without_defaults(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_defaults(value) for key, value in schema.items() if key != "default"}


def _narrowed(
    field: dict[str, Any], number: int, node: int, wanted: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], _Kept]:
    """A wanted field's schema without those of its record's fields that are not wanted, and what is kept."""
    inner, kind = wanted[field["name"]], field["type"]
    if not inner or not isinstance(kind, dict) or kind.get("type") != "record":
        return field, _Kept(number)
    places = [i for i, one in enumerate(kind["fields"]) if one["name"] in inner]
    narrow = {**kind, "fields": [kind["fields"][i] for i in places]}
    return {**field, "type": narrow}, _Kept(number, node, tuple(places))


def wanted_of(data: bytes, numbers: NDArray[np.uint8], starts: NDArray[np.int64], schema: Schema) -> Wanted:
    """The bytes that are wanted of a record in `data`, which `numbers` are too, with fields at `starts`."""
    pieces = []
    for one in schema.kept:
        if one.node < 0:
            pieces.append(data[starts[one.field] : starts[one.field + 1]])
            continue
        inner = avro_skip.field_starts(numbers, starts[one.field], schema.program, one.node)
        pieces += [data[inner[i] : inner[i + 1]] for i in one.inner]
    return Wanted(b"".join(pieces), {one.name: _bytes_of(data, starts, one) for one in schema.cutouts})


def _bytes_of(data: bytes, starts: NDArray[np.int64], one: _Bytes) -> bytes | None:
    """A field of bytes: what comes after a union's branch and the length, seven bits a byte."""
    at = int(starts[one.field])
    if one.null >= 0:
        if data[at] == one.null:
            return None
        at += 1
    while data[at] >= 0x80:
        at += 1
    return data[at + 1 : starts[one.field + 1]]


@functools.cache
def _reader() -> Any:
    """The library's reader of a record."""
    return require_extra("fastavro", "alerts", "Avro").schemaless_reader


def decoded(wanted: Wanted, schema: Schema) -> dict[str, Any]:
    """A record; bytes of a text that are no UTF-8 are read as \ufffd, which is told with its value.

    Raises the dozen kinds of error that the library has for damaged bytes.
    """
    found = _reader()(io.BytesIO(wanted.record), schema.narrow, None, handle_unicode_errors="replace")
    return {**found, **wanted.own}
