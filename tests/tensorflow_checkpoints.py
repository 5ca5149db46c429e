"""TensorFlow's checkpoints as its writer makes them, for tests: a table of LevelDB, and the tensors'
bytes."""

import struct

import numpy as np

from rotinv.deploy.tensorflow_files import _masked, crc32c

RESTART = 16  # keys, after which a key is written whole


def write(path, arrays):
    """Write `path`.index and `path`.data-00000-of-00001."""
    entries, data = {b"": field(1, 1) + field(2, 0)}, b""
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        dims = b"".join(field(2, field(1, size)) for size in array.shape)
        part = array.tobytes()
        place = field(4, len(data)) + field(5, len(part))
        checksum = varint(6 << 3 | 5) + struct.pack("<I", _masked(crc32c(part)))
        dtype = {"f4": 1, "f8": 2, "i8": 9}[array.dtype.str[1:]]
        entries[name.encode()] = field(1, dtype) + field(2, dims) + place + checksum
        data += part
    path.with_suffix(".data-00000-of-00001").write_bytes(data)
    blocks = [b""]

    def put(pairs):
        handle = varint(len(blocks[0]))
        body = block(pairs)
        blocks[0] += body + b"\0" + struct.pack("<I", _masked(crc32c(body + b"\0")))
        return handle + varint(len(body))

    keys = sorted(entries)
    halves = [keys[: len(keys) // 2], keys[len(keys) // 2 :]]  # a table has several blocks
    handles = [(half[-1], put([(key, entries[key]) for key in half])) for half in halves]
    meta, index = put([]), put(handles)
    footer = (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    path.with_suffix(".index").write_bytes(blocks[0] + footer)


def block(pairs):
    out, last, restarts = b"", b"", []
    for number, (key, value) in enumerate(pairs):
        if number % RESTART == 0:
            restarts.append(len(out))
            last = b""
        shared = next(
            (i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + b"".join(struct.pack("<I", at) for at in restarts) + struct.pack("<I", len(restarts))


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
