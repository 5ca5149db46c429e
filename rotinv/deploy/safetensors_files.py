"""Files of safetensors, read and written: a header of JSON, then the arrays' bytes.

The format is small enough to need no library: eight bytes with the header's length, the header, which gives
each array's type, shape and place, and the bytes, little-endian and in C order.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError
from rotinv.system.files import read_errors, written_whole

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}
_ABOUT = "__metadata__"
_LONGEST_HEADER = 100 << 20  # bytes, the format's own bound


def write(
    path: str | Path,
    arrays: Mapping[str, NDArray[Any]],
    about: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """Write arrays by name, and texts about them. Raises UserError if the file cannot be written."""
    header: dict[str, Any] = {_ABOUT: dict(about)}
    parts, at = [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        place = [at, at + len(data)]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": place}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def read(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays by name, in the order of their bytes, and the texts about them.

    Raises UserError if the file is missing or damaged, or has numbers of a type that NumPy lacks.
    """
    path = Path(path)
    with read_errors(path):
        data = path.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= min(len(data) - 8, _LONGEST_HEADER):
            raise ValueError(f"its header would have {length} bytes")
        header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
        about = {str(key): str(value) for key, value in (header.pop(_ABOUT, None) or {}).items()}
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        return {name: _array(name, entry, body) for name, entry in entries}, about
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged, or no file of safetensors ({error})") from error


def _array(name: str, entry: Mapping[str, Any], body: memoryview) -> NDArray[Any]:
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"{name} is {entry['dtype']}, which NumPy lacks; save it as F32")
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    if not (0 <= start <= stop <= len(body)) or stop - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{name} has the shape {shape} and the bytes {start} to {stop}")
    return np.frombuffer(body[start:stop], dtype).reshape(shape)
