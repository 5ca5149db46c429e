"""Pickles of NumPy arrays, read without running anything in them.

A pickle is a program for a stack machine and may call any function. The machine here knows only the
instructions that a dict of arrays needs, as Python 2 wrote them (protocol 2) or Python 3 (protocols 3 and 4).
It imports nothing and calls nothing. It builds an array as a view of the file's own bytes, once type, shape
and length agree. So neither Python's unpickler nor NumPy's ever reads the file.
"""

import mmap
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rotinv.stamps.pickled_arrays import (
    DTYPE,
    LONGEST_NAME,
    NDARRAY,
    RECONSTRUCT,
    SCALAR,
    Array,
    Damaged,
    Forbidden,
    Global,
    Type,
    call,
    show,
    text,
)
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

_MOST_STEPS = 10_000_000  # instructions of one file: a bound on time, and on memory (200 bytes each at most)
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,  # what NumPy 2 calls it
    ("numpy.core.multiarray", "scalar"): SCALAR,
    ("numpy._core.multiarray", "scalar"): SCALAR,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): DTYPE,
}


def read_dict(path: str | Path) -> dict[str, Any]:
    """The dict in a pickle. Its values are arrays, numbers, texts, or lists and tuples of these.

    The arrays are views of the file, which are read when they are used. Raises UserError if the file is
    damaged, is no dict, or has anything in it but arrays of plain numbers.
    """
    path = Path(path)
    with read_errors(path):
        if not path.is_file():
            raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise UserError(f"{path}: is empty; copy it anew")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    machine = Machine(data)
    try:
        return _contents(machine.run())
    except Damaged as error:
        raise UserError(
            f"{path}: is damaged or is not a pickle ({error}, byte {machine.start} of {size}); copy it anew"
        ) from error
    except Forbidden as error:
        raise UserError(
            f"{path}: {error} (byte {machine.start}); nothing in it was run: "
            "only NumPy arrays of plain numbers are read, "
            "as Python 2 pickled them (protocol 2) or Python 3 (protocols 3 and 4)"
        ) from error


def refuse_other_files(path: str | Path) -> None:
    """Raise UserError unless the file begins as a pickle does."""
    path = Path(path)
    with read_errors(path), path.open("rb") as file:
        if file.read(1) != pickle.PROTO:
            raise UserError(f"{path}: is not a pickle (it does not begin as one does)")


class Machine:
    """A stack, marks on it, and the memo, as in the pickle module; `start` is where the current instruction
    begins. It reads arrays as NumPy pickles them; other kinds have a machine of their own
    (deploy/torch_files.py), with other globals, calls and instructions."""

    globals_: ClassVar[Mapping[tuple[str, str], str]] = _GLOBALS
    more_steps: ClassVar[Mapping[bytes, Callable[[Any], Any]]] = {}

    def __init__(self, data: memoryview) -> None:
        self._data, self._at, self.start = data, 0, 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies below each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow the instructions to the end; gives the object that they make."""
        if bytes(self._data[:1]) != pickle.PROTO:
            raise Damaged("it does not begin as a pickle of protocol 2 or later does")
        for _ in range(_MOST_STEPS):
            self.start = self._at
            code = bytes(self.take(1))
            if code == pickle.STOP:
                if self._at != len(self._data):
                    raise Damaged("it goes on after its end")
                return self.pop()
            step = self.more_steps.get(code) or _STEPS.get(code)
            if step is None:
                raise Forbidden(f"has the instruction {code!r}, which no pickle of arrays needs")
            step(self)
        raise Forbidden(f"has more than {_MOST_STEPS:,} instructions")

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise Damaged("it breaks off")
        found = self._data[self._at : end]
        self._at = end
        return found

    def number(self, form: str) -> Any:
        """The next number, in a form of the struct module."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The next line: part of a global's name."""
        ahead = bytes(self._data[self._at : self._at + LONGEST_NAME])
        length = ahead.find(b"\n")
        if length < 0:
            raise Damaged("a name without an end")
        return bytes(self.take(length + 1)[:-1]).decode("latin1")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if not self._stack:
            raise Damaged("an instruction without its operands")
        return self._stack.pop()

    def top(self) -> Any:
        self.push(found := self.pop())
        return found

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def pop_mark(self) -> list[Any]:
        if not self._below:
            raise Damaged("an instruction without its mark")
        found, self._stack = self._stack, self._below.pop()
        return found

    def remember(self, key: int) -> None:
        self._memo[key] = self.top()

    def memoize(self) -> None:
        self.remember(len(self._memo))

    def recall(self, key: int) -> None:
        if key not in self._memo:
            raise Damaged("a reference to nothing")
        self.push(self._memo[key])

    def text(self, count: int) -> None:
        try:
            self.push(str(self.take(count), "utf-8"))
        except UnicodeDecodeError:
            raise Damaged("a text that is not UTF-8") from None

    def long(self) -> None:
        count = self.number("B")
        if count > 8:
            raise Forbidden(f"has a whole number of {count} bytes")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def group(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise Damaged("items that belong to no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise Damaged("items that belong to no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[text(key)] = value

    def find(self, module: Any, name: Any) -> None:
        """A global: one of those that are known, or an error."""
        known = self.globals_.get((module, name))
        if known is None:
            raise Forbidden(f"asks for {show(f'{module}.{name}')}, which no file of plain arrays needs")
        self.push(Global(known))

    def call(self) -> None:
        """The result of a call: a stand-in, or the value of a scalar."""
        arguments, function = self.pop(), self.pop()
        name = function.name if isinstance(function, Global) else None
        if name not in (RECONSTRUCT, DTYPE, SCALAR) or not isinstance(arguments, tuple):
            raise Forbidden("calls something that is no function of NumPy's")
        self.push(call(name, arguments))

    def build(self) -> None:
        """Give a stand-in its state."""
        state, target = self.pop(), self.top()
        if isinstance(target, Array):
            target.build(state, len(self._data))
        elif isinstance(target, Type):
            target.build(state)
        else:
            raise Forbidden("sets the state of something that is no array")


def _protocol(machine: Machine) -> None:
    if (protocol := machine.number("B")) not in (2, 3, 4, 5):
        raise Damaged(f"protocol {protocol}")


_STEPS: dict[bytes, Callable[[Machine], Any]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: Machine.mark,
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: Machine.long,
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.SHORT_BINSTRING: lambda m: m.push(bytes(m.take(m.number("B")))),
    pickle.BINSTRING: lambda m: m.push(m.take(m.number("<i"))),
    pickle.SHORT_BINBYTES: lambda m: m.push(bytes(m.take(m.number("B")))),
    pickle.BINBYTES: lambda m: m.push(m.take(m.number("<I"))),
    pickle.BINBYTES8: lambda m: m.push(m.take(m.number("<Q"))),
    pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("B")),
    pickle.BINUNICODE: lambda m: m.text(m.number("<I")),
    pickle.BINPUT: lambda m: m.remember(m.number("B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.MEMOIZE: Machine.memoize,
    pickle.BINGET: lambda m: m.recall(m.number("B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.group(1),
    pickle.TUPLE2: lambda m: m.group(2),
    pickle.TUPLE3: lambda m: m.group(3),
    pickle.TUPLE: lambda m: m.push(tuple(m.pop_mark())),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.APPEND: lambda m: m.extend([m.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.pop_mark()),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.SETITEM: lambda m: m.update([m.pop(), m.pop()][::-1]),
    pickle.SETITEMS: lambda m: m.update(m.pop_mark()),
    pickle.GLOBAL: lambda m: m.find(m.line(), m.line()),
    pickle.STACK_GLOBAL: lambda m: m.find(*reversed([text(m.pop()), text(m.pop())])),
    pickle.REDUCE: lambda m: m.call(),
    pickle.BUILD: lambda m: m.build(),
}


def _contents(found: Any) -> dict[str, Any]:
    """The dict of a pickle, its stand-ins replaced by their arrays."""
    if not isinstance(found, dict):
        raise Damaged("it holds no dict of arrays")
    lists: dict[int, list[Any]] = {}  # a list that is referred to several times is copied once
    for value in found.values():
        if isinstance(value, (list, tuple)) and id(value) not in lists:
            lists[id(value)] = [_value(item) for item in value]
    return {name: lists.get(id(value)) or _value(value) for name, value in found.items()}


def _value(item: Any) -> Any:
    if isinstance(item, Array):
        if item.values is None:
            raise Damaged("an array without values")
        return item.values
    return item
