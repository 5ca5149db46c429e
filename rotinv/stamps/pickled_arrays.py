"""Stand-ins for NumPy's objects while a pickle is read: an array is checked, then becomes a view of the
file's bytes."""

import math
import re
from typing import Any

import numpy as np

LONGEST_NAME = 200  # bytes of a name

RECONSTRUCT, NDARRAY, DTYPE, SCALAR = "_reconstruct", "ndarray", "dtype", "scalar"
_ALWAYS = 10_000  # numbers in a shape such as (0, 441): an array without values needs no bytes in the file
_TYPE = re.compile("f[248]|[iu][1248]|b1")  # NumPy's names of the types that are plain numbers


class Damaged(Exception):
    """The file breaks off, or its instructions make no sense."""


class Forbidden(Exception):
    """The file asks for something that no chunk needs."""


class Global:
    """Stands for one of NumPy's names. It cannot be called."""

    def __init__(self, name: str) -> None:
        self.name = name


class Type:
    """Stands for a dtype: its name and, once its state is known, its byte order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype: np.dtype[Any] | None = None

    def build(self, state: Any) -> None:
        """Take the state of a dtype: (3, byte order, None, None, None, -1, -1, 0)."""
        if not isinstance(state, tuple) or len(state) != 8 or state[2:5] != (None, None, None):
            raise Forbidden(f"has a dtype {self.name} with fields or of a shape of its own")
        order = text(state[1])
        if order not in ("<", ">", "|") or (order == "|") != self.name.endswith("1"):
            raise Damaged(f"dtype {self.name} with the byte order {show(order)}")
        self.dtype = np.dtype(self.name if order == "|" else order + self.name)


class Array:
    """Stands for an array, whose shape, dtype and values come after it in the file."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def build(self, state: Any, most: int) -> None:
        """Take the state of an array: (1, shape, dtype, whether in Fortran's order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[1], tuple):
            raise Damaged("an array without shape, dtype and bytes")
        _, shape, kind, fortran, data = state
        if len(shape) > 4 or not all(type(n) is int for n in shape):
            raise Damaged("an array whose shape is no tuple of up to four whole numbers")
        if min(shape, default=0) < 0 or math.prod(max(n, 1) for n in shape) > max(most, _ALWAYS):
            raise Damaged(f"an array of the shape {shape} in a file of {most} bytes")
        self.values = view(shape, kind, data, "F" if fortran else "C")


def view(shape: tuple[int, ...], kind: Any, data: Any, order: Any) -> np.ndarray:
    """The bytes `data` as an array. Raises if there are more or fewer of them than shape and dtype say."""
    if not isinstance(kind, Type) or kind.dtype is None:
        raise Damaged("an array without a dtype")
    if not isinstance(data, (bytes, memoryview)):
        raise Forbidden("has an array whose values are not bytes (Python objects, or another protocol)")
    wanted = kind.dtype.itemsize
    for count in shape:
        wanted *= count
    if wanted != len(data):
        raise Damaged(f"an array of shape {shape} and dtype {kind.dtype} with {len(data)} bytes")
    return np.ndarray(shape, kind.dtype, data, order=order)


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """The result of calling one of the names: a stand-in, or the value of a scalar."""
    if name == RECONSTRUCT and len(arguments) == 3:
        if not isinstance(arguments[0], Global) or arguments[0].name != NDARRAY:
            raise Forbidden("makes an array of another class")
        return Array()
    if name == DTYPE and len(arguments) == 3:
        kind = text(arguments[0])
        if not _TYPE.fullmatch(kind):
            what = "Python objects" if kind.startswith("O") else "no plain numbers"
            raise Forbidden(f"has an array of dtype {show(kind)}, {what}")
        return Type(kind)
    if name == SCALAR and len(arguments) == 2:
        return view((), arguments[0], arguments[1], "C")[()]
    raise Damaged(f"{name} with {len(arguments)} arguments")


def text(value: Any) -> str:
    """A name: a text, or Python 2's string."""
    if isinstance(value, (bytes, memoryview)) and len(value) <= LONGEST_NAME:
        return str(value, "latin1")
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise Damaged("a name that is not a text")
    return value


def show(name: str) -> str:
    """A name from the file for a message: on one line, and shortened."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= 80 else shown[:77] + "..."
