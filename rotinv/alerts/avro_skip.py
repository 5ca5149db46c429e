"""Where the fields of Avro records start, found without decoding them: an alert's history is most of it.

A schema becomes a program, an array of whole numbers. A node is its kind, then: for FIXED the size, for ARRAY
and MAP the items' node, for UNION and RECORD the number of branches or fields, then the node of each
(Avro 1.12, "Binary encoding"). OPTION is a union of two of fixed size, which most fields are: both sizes.
PLAIN is a RECORD of numbers and texts, and HISTORY an ARRAY of such: all of them may be null.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.avro_items import (
    ARRAY,
    BYTES,
    FIXED,
    HISTORY,
    MAP,
    OPTION,
    PLAIN,
    RECORD,
    UNION,
    VARINT,
    pass_items,
    read_long,
)
from rotinv.system.scratch import njit

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
            program += [OPTION, *(_SIZES[one] for one in schema)]
            return len(program) - 3
        return _branches(UNION, schema, len(program), program, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if not isinstance(kind, str):  # a type in braces of its own
        return _compile(kind, program, names)
    if kind in names:
        return names[kind]
    node = len(program)
    if kind in _SIZES:
        program += [FIXED, _SIZES[kind]]
    elif kind in ("int", "long", "enum"):
        program += [VARINT]
    elif kind in ("bytes", "string"):
        program += [BYTES]
    elif kind == "fixed":
        program += [FIXED, schema["size"]]
    elif kind in ("array", "map"):
        program += [ARRAY if kind == "array" else MAP, 0]
        items = _compile(schema["items" if kind == "array" else "values"], program, names)
        program[node + 1] = items
        if kind == "array" and (program[items] == PLAIN or _is_union(program, items, (PLAIN, FIXED))):
            program[node] = HISTORY
    else:
        names[schema["name"]] = node
        return _branches(RECORD, [field["type"] for field in schema["fields"]], node, program, names)
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = node
    return node


def _branches(kind: int, schemas: list[Any], node: int, program: list[int], names: dict[str, int]) -> int:
    program += [kind, len(schemas), *(0 for _ in schemas)]
    for i, schema in enumerate(schemas):
        program[node + 2 + i] = _compile(schema, program, names)
    if kind == RECORD and all(
        _is_plain(program, child) for child in program[node + 2 : node + 2 + len(schemas)]
    ):
        program[node] = PLAIN
    return node


def _is_plain(program: list[int], node: int) -> bool:
    """Whether a field is a number or a text, or one of two such."""
    return program[node] in (FIXED, VARINT, BYTES, OPTION) or _is_union(program, node, (FIXED, VARINT, BYTES))


def _is_union(program: list[int], node: int, kinds: tuple[int, ...]) -> bool:
    """Whether a node is a union of two, each of these kinds."""
    two = program[node] == UNION and program[node + 1] == 2
    return two and all(program[child] in kinds for child in program[node + 2 : node + 4])


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
        while program[node] == UNION:
            branch, at = read_long(data, at)
            if at < 0 or not 0 <= branch < program[node + 1]:
                return -1
            node = program[node + 2 + branch]
        kind = program[node]
        if kind == FIXED:
            at = _jump(data, at, program[node + 1])
        elif kind == OPTION:
            branch, at = read_long(data, at)
            at = _jump(data, at, program[node + 1 + branch]) if 0 <= branch < 2 else -1
        elif kind == VARINT:
            _, at = read_long(data, at)
        elif kind == BYTES:
            length, at = read_long(data, at)
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
    if program[node] == RECORD or program[node] == PLAIN:
        field, count = left[top], program[node + 1]
        while field < count:  # most fields are passed here, quickly
            child = program[node + 2 + field]
            if program[child] != OPTION:
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
        count, at = read_long(data, at)
        if at < 0 or count == 0:
            return at, -1
        if count < 0:  # its size in bytes follows
            size, at = read_long(data, at)
            at = _jump(data, at, size)
        elif count > len(data):
            return -1, -1
        elif program[node] == HISTORY:
            at = pass_items(data, at, program, program[node + 1], count)
        else:
            left[top] = count
    left[top] -= 1
    if program[node] == MAP:
        length, at = read_long(data, at)
        at = _jump(data, at, length)
    return at, program[node + 1] if at >= 0 else -1
