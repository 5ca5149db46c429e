"""Where the fields of Avro records start, found without decoding them: an alert's history is most of it.

A schema becomes a program, an array of whole numbers. A node is its kind, then: for FIXED the size, for ARRAY
and MAP the items' node, for UNION and RECORD the number of branches or fields, then the node of each
(Avro 1.12, "Binary encoding"). OPTION is a union of two of fixed size, which most fields are: both sizes.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rotinv.system.scratch import njit

_FIXED, _VARINT, _BYTES, _ARRAY, _MAP, _UNION, _RECORD, _OPTION = range(8)
_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_DEEP = 64  # records within one another: a file must not exhaust the stack


def compiled(schema: Any) -> tuple[NDArray[np.int64], int]:
    """The program of a parsed schema, whose names are full, and its first node.

    Raises KeyError or TypeError for a schema that is none.
    """
    program: list[int] = []
    node = _compile(schema, program, {})
    return np.array(program, np.int64), node


def _compile(schema: Any, program: list[int], names: dict[str, int]) -> int:
    """Add a schema's nodes to the program; gives its own."""
    if isinstance(schema, list):
        if len(schema) == 2 and all(isinstance(one, str) and one in _SIZES for one in schema):
            program += [_OPTION, *(_SIZES[one] for one in schema)]
            return len(program) - 3
        return _branches(_UNION, schema, len(program), program, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if not isinstance(kind, str):  # a type in braces of its own
        return _compile(kind, program, names)
    if kind in names:
        return names[kind]
    node = len(program)
    if kind in _SIZES:
        program += [_FIXED, _SIZES[kind]]
    elif kind in ("int", "long", "enum"):
        program += [_VARINT]
    elif kind in ("bytes", "string"):
        program += [_BYTES]
    elif kind == "fixed":
        program += [_FIXED, schema["size"]]
    elif kind in ("array", "map"):
        program += [_ARRAY if kind == "array" else _MAP, 0]
        program[node + 1] = _compile(schema["items" if kind == "array" else "values"], program, names)
    else:
        names[schema["name"]] = node
        return _branches(_RECORD, [field["type"] for field in schema["fields"]], node, program, names)
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = node
    return node


def _branches(kind: int, schemas: list[Any], node: int, program: list[int], names: dict[str, int]) -> int:
    program += [kind, len(schemas), *(0 for _ in schemas)]
    for i, schema in enumerate(schemas):
        program[node + 2 + i] = _compile(schema, program, names)
    return node


@njit(nogil=True)
def field_starts(data: Any, at: int, program: Any, node: int) -> Any:
    """Where each field of the record at `at` starts, and the record's end; all -1 if the data end before."""
    count = program[node + 1]
    starts = np.full(count + 1, -1, np.int64)
    nodes, left = np.empty(_DEEP, np.int64), np.empty(_DEEP, np.int64)
    for i in range(count):
        starts[i] = at
        at = _skip(data, at, program, program[node + 2 + i], nodes, left)
        if at < 0:
            starts[:] = -1
            return starts
    starts[count] = at
    return starts


@numba.njit(inline="always")
def _long(data: Any, at: int) -> Any:
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


@numba.njit(inline="always")
def _jump(data: Any, at: int, count: int) -> int:
    return at + count if at >= 0 and 0 <= count <= len(data) - at else -1


@njit(nogil=True)
def _skip(data: Any, at: int, program: Any, node: int, nodes: Any, left: Any) -> int:
    """Where the value at `at` ends; -1 if the data end before.

    `nodes` and `left` are a stack: records and arrays that are under way, and how many of their fields have
    been passed, or of their items are to come.
    """
    depth = 0
    while True:
        while program[node] == _UNION:
            branch, at = _long(data, at)
            if at < 0 or not 0 <= branch < program[node + 1]:
                return -1
            node = program[node + 2 + branch]
        kind = program[node]
        if kind == _FIXED:
            at = _jump(data, at, program[node + 1])
        elif kind == _OPTION:
            branch, at = _long(data, at)
            at = _jump(data, at, program[node + 1 + branch]) if 0 <= branch < 2 else -1
        elif kind == _VARINT:
            _, at = _long(data, at)
        elif kind == _BYTES:
            length, at = _long(data, at)
            at = _jump(data, at, length)
        elif depth == _DEEP:
            return -1
        else:
            nodes[depth], left[depth] = node, 0
            depth += 1
        node = -1
        while node < 0:  # the next field or item, of the innermost that has one
            if at < 0 or depth == 0:
                return at
            at, node = _next(data, at, program, nodes, left, depth - 1)
            if node < 0:
                depth -= 1


@numba.njit(inline="always")
def _next(data: Any, at: int, program: Any, nodes: Any, left: Any, top: int) -> Any:
    """The node of the next field or item of the value that is on top; -1 if it has no more."""
    node = nodes[top]
    if program[node] == _RECORD:
        field, count = left[top], program[node + 1]
        while field < count:  # most fields are passed here, quickly
            child = program[node + 2 + field]
            if program[child] != _OPTION:
                break
            branch = int(data[at]) if at < len(data) else 1  # which of the two, as a byte: 0 or 2
            if branch & 1 or branch > 2:
                return -1, -1
            at = at + 1 + program[child + 1 + (branch >> 1)]
            if at > len(data):
                return -1, -1
            field += 1
        left[top] = field + 1
        return at, program[node + 2 + field] if field < count else -1
    while left[top] == 0:  # the next block of an array or a map
        count, at = _long(data, at)
        if at < 0 or count == 0:
            return at, -1
        if count < 0:  # its size in bytes follows
            size, at = _long(data, at)
            at = _jump(data, at, size)
        elif count > len(data):
            return -1, -1
        else:
            left[top] = count
    left[top] -= 1
    if program[node] == _MAP:
        length, at = _long(data, at)
        at = _jump(data, at, length)
    return at, program[node + 1] if at >= 0 else -1
