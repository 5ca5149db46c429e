"""TensorFlow's checkpoints, read without TensorFlow: NAME.index, a table, and NAME.data-00000-of-0000n.

The index is a table of LevelDB: blocks of keys and values, sorted, each key without what it shares with the
one before. A value is a protocol buffer that says where a tensor's bytes are, and their CRC-32C.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_TYPES = {1: "<f4", 2: "<f8"}  # TensorFlow's DT_FLOAT and DT_DOUBLE; weights are no others
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of TensorFlow 2
_MOST = 1 << 31  # bytes of a file


class _Damaged(Exception):
    """The file is not what the format says."""


def read(path: str | Path) -> dict[str, NDArray[Any]]:
    """The tensors of float32 and float64 of a checkpoint, by name. `path` is its .index.

    Raises UserError if a file is missing or damaged.
    """
    path = Path(path)
    try:
        index = _bytes(path)
        shards: dict[int, bytes] = {}
        arrays = {}
        entries = dict(_table(index))
        header = dict(_fields(entries.pop(b"")))
        for key, value in entries.items():
            name = key.decode().removesuffix(_SUFFIX)
            entry = _entry(value)
            if entry["dtype"] in _TYPES:
                shard = entry["shard"]
                data = path.with_suffix(f".data-{shard:05}-of-{int(header[1]):05}")
                if shard not in shards:
                    shards[shard] = _bytes(data)
                arrays[name] = _tensor(name, entry, shards[shard])
        return arrays
    except (_Damaged, KeyError, IndexError, struct.error, ValueError, UnicodeDecodeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is damaged, or no TensorFlow checkpoint ({error})") from error


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a TensorFlow checkpoint is NAME.index and NAME.data-…")
    if path.stat().st_size > _MOST:
        raise UserError(f"{path}: has more than {_MOST:,} bytes; it is no checkpoint of such a network")
    with read_errors(path):
        return path.read_bytes()


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged("it does not end as a table does")
    at = len(data) - _FOOTER
    _, at = _handle(data, at)  # of the block about blocks, which is empty
    (offset, size), _ = _handle(data, at)
    for _, value in _block(data, offset, size):
        (start, length), _ = _handle(value, 0)
        yield from _block(data, start, length)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block, kind = data[offset : offset + size], data[offset + size]
    if kind != 0:
        raise _Damaged("its blocks are compressed")
    (crc,) = struct.unpack_from("<I", data, offset + size + 1)
    if _masked(crc32c(data[offset : offset + size + 1])) != crc:
        raise _Damaged("a block's checksum is wrong")
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + length]
        at += rest + length


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where a block is: offset and size, and what comes after these."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise _Damaged("a number without an end")


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: whole numbers, and bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = int.from_bytes(message[at : at + size], "little"), at + size
        else:
            raise _Damaged(f"a field of the kind {kind}")
        yield tag >> 3, value


def _entry(message: bytes) -> dict[str, Any]:
    """BundleEntryProto: type, shape, file, offset, size and checksum of a tensor."""
    found: dict[int, Any] = {1: 0, 2: b"", 3: 0, 4: 0, 5: 0, 6: 0} | dict(_fields(message))
    sizes = [dict(_fields(dim)) for number, dim in _fields(found[2]) if number == 2]
    return {
        "dtype": found[1],
        "shape": tuple(size.get(1, 0) for size in sizes),
        "shard": found[3],
        "where": slice(found[4], found[4] + found[5]),
        "crc": found[6],
    }


def _tensor(name: str, entry: dict[str, Any], data: bytes) -> NDArray[Any]:
    part, dtype = data[entry["where"]], np.dtype(_TYPES[entry["dtype"]])
    if len(part) != dtype.itemsize * int(np.prod(entry["shape"], dtype=object)):
        raise _Damaged(f"{name} has {len(part)} bytes, and the shape {entry['shape']}")
    if _masked(crc32c(part)) != entry["crc"]:
        raise _Damaged(f"the checksum of {name} is wrong")
    return np.frombuffer(part, dtype).reshape(entry["shape"])


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """A checksum as LevelDB keeps it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
