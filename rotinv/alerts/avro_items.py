"""The items of an Avro array of plain records, passed quickly: an alert's history has hundreds of them.

Where a field starts depends on all fields before it, so that a processor passes one field after another, each
in some fifteen cycles. But items of one history are much alike. So an item that was passed field by field
leaves its layout: its length, and each byte that decides it (which branch of a union, how many bytes a number
has, how long a text is). An item whose bytes agree with a layout has that length, and the bytes are compared
without waiting for one another. Of the histories of Rubin's alerts 84 to 97 in 100 agree with one of the last
four layouts.
"""

from typing import Any

import numba
import numpy as np

from rotinv.system.scratch import njit

FIXED, VARINT, BYTES, ARRAY, MAP, UNION, RECORD, OPTION, PLAIN, HISTORY = range(10)  # nodes: see avro_skip.py
_LAYOUTS = 4
_MOST = 640  # bytes that decide a layout; an item with more is passed field by field
_ALL, _MORE = 0xFF, 0x80  # the bits of such a byte that count: of a number only whether another one follows


@njit(nogil=True)
def pass_items(data: Any, at: int, program: Any, node: int, count: int) -> int:
    """Where `count` plain records, each of which may be null, end; -1 if the data end before."""
    deciding = np.empty((_LAYOUTS, _MOST), np.int64)
    number, length = np.zeros(_LAYOUTS, np.int64), np.full(_LAYOUTS, -1, np.int64)
    last = oldest = 0
    for _ in range(count):
        agreed = _agreeing(data, at, deciding, number, length, last)
        if agreed >= 0:
            at, last = at + length[agreed], agreed
            continue
        end, found = _pass_item(data, at, program, node, deciding[oldest])
        if end < 0:
            return -1
        number[oldest], length[oldest] = found, end - at if found <= _MOST else -1
        at, last, oldest = end, oldest, (oldest + 1) % _LAYOUTS
    return at


@njit(nogil=True)
def _agreeing(data: Any, at: int, deciding: Any, number: Any, length: Any, last: int) -> int:
    """The layout that the item at `at` agrees with, the `last` one first; -1 if there is none."""
    for i in range(_LAYOUTS):
        layout = (last + i) % _LAYOUTS
        if length[layout] < 0 or at + length[layout] > len(data):
            continue
        differs = 0
        for k in range(number[layout]):
            one = deciding[layout, k]  # where in the item, which bits, what they are: 16, 8 and 8 bits
            differs |= (np.int64(data[np.uint64(at + (one >> 16))]) & (one >> 8)) ^ one
            if k & 31 == 31 and differs & _ALL:
                break
        if not differs & _ALL:
            return layout
    return -1


@njit(nogil=True)
def _pass_item(data: Any, start: int, program: Any, node: int, deciding: Any) -> Any:
    """Where the plain record at `start` ends, -1 if the data end before; and how many bytes decide that."""
    at, found, size = start, 0, len(data)
    if program[node] == UNION:
        node, at = _branch(data, at, program, node)
        found = _note(deciding, found, start, data, start, at, _ALL)
    fields = program[node + 1] if program[node] == PLAIN else 1
    for field in range(fields):
        child = program[node + 2 + field] if program[node] == PLAIN else node
        if program[child] == UNION and at >= 0:
            child, after = _branch(data, at, program, child)
            found = _note(deciding, found, start, data, at, after, _ALL)
            at = after
        if at < 0 or at > size:
            return -1, 0
        kind = program[child]
        if kind == FIXED:
            at += program[child + 1]
        elif kind == OPTION:
            branch = data[at] if at < size else 1  # which of the two, as a byte: 0 or 2
            if branch & 1 or branch > 2:
                return -1, 0
            found = _note(deciding, found, start, data, at, at + 1, _ALL)
            at += 1 + program[child + 1 + (branch >> 1)]
        else:
            value, after = read_long(data, at)
            found = _note(deciding, found, start, data, at, after, _MORE if kind == VARINT else _ALL)
            is_text = kind == BYTES and after >= 0
            at = after + value if is_text and 0 <= value <= size - after else (-1 if is_text else after)
    return (at, found) if 0 <= at <= size else (-1, 0)


@numba.njit(inline="always")
def _branch(data: Any, at: int, program: Any, node: int) -> Any:
    """The node of the branch of a union of two, and where its value starts; -1 there for no such branch."""
    branch, at = read_long(data, at)
    if at < 0 or not 0 <= branch < 2:
        return node, -1
    return program[node + 2 + branch], at


@njit(nogil=True)
def _note(deciding: Any, found: int, start: int, data: Any, at: int, end: int, bits: int) -> int:
    """Note that these bits of the bytes from `at` to `end` decide the layout of the item at `start`.

    Gives how many such bytes there are by now.
    """
    for place in range(at, end):
        if found < _MOST:
            deciding[found] = (place - start) << 16 | bits << 8 | (np.int64(data[place]) & bits)
        found += 1
    return found


@numba.njit(inline="always")
def read_long(data: Any, at: int) -> Any:
    """A number and where it ends; -1 there if the data end before."""
    value, shift = np.uint64(0), 0
    while 0 <= at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += 7
    return np.int64(0), -1
