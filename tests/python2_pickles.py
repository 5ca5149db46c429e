"""Pickles as Python 2 wrote them (protocol 2), built instruction by instruction; good ones and hostile ones.

A value is the bytes that leave it on the stack. Strings are Python 2's (SHORT_BINSTRING, BINSTRING), and a
global, a dtype or a string that comes again is taken from the memo (BINGET), as cPickle does.
"""

import struct

import numpy as np

MULTIARRAY = "numpy.core.multiarray"


def string(text):
    data = text.encode("latin1") if isinstance(text, str) else bytes(text)
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data


def number(value):
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_(*values):
    if not values:
        return b")"
    if len(values) < 4:
        return b"".join(values) + {1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(values)]
    return b"(" + b"".join(values) + b"t"


def list_(values):
    return b"](" + b"".join(values) + b"e"


def dict_(items):
    return b"}(" + b"".join(string(name) + value for name, value in items.items()) + b"u"


def global_(module, name):
    return f"c{module}\n{name}\n".encode()


def call(function, *arguments):
    return function + tuple_(*arguments) + b"R"


def pickled(value):
    return b"\x80\x02" + value + b"."


class Memo:
    """Puts each value in the memo at its first use, and takes it from there afterwards."""

    def __init__(self):
        self.places = {}

    def __call__(self, value):
        known = self.places.get(value)
        if known is None:
            known = self.places[value] = len(self.places)
            return value + (b"q" + bytes([known]) if known < 256 else b"r" + struct.pack("<I", known))
        return b"h" + bytes([known]) if known < 256 else b"j" + struct.pack("<I", known)


def dtype(memo, kind, order="<"):
    """A dtype; its state is set only where it is made."""
    made = call(memo(global_("numpy", "dtype")), string(kind), number(0), number(1))
    if (key := ("dtype", kind, order)) in memo.places:
        return b"h" + bytes([memo.places[key]])
    place = memo.places[key] = len(memo.places)
    state = tuple_(number(3), string(order), b"N", b"N", b"N", number(-1), number(-1), number(0))
    return made + b"q" + bytes([place]) + state + b"b"


def raw_array(memo, shape, kind, data, order="<", fortran=False):
    """An array of the shape, dtype and bytes that one says, true or not."""
    empty = call(
        memo(global_(MULTIARRAY, "_reconstruct")),
        memo(global_("numpy", "ndarray")),
        tuple_(number(0)),
        string("b"),
    )
    dims = tuple_(*map(number, shape))
    return empty + tuple_(number(1), dims, dtype(memo, kind, order), number(fortran), string(data)) + b"b"


def array(memo, values, fortran=False):
    values = np.asarray(values)
    order = values.dtype.str[0]
    data = values.tobytes(order="F" if fortran else "C")
    return raw_array(memo, values.shape, values.dtype.str[1:], data, order, fortran)


def scalar(memo, value):
    """A NumPy scalar."""
    value = np.asarray(value)
    return call(
        memo(global_(MULTIARRAY, "scalar")),
        dtype(memo, value.dtype.str[1:], value.dtype.str[0]),
        string(value.tobytes()),
    )


def chunk(columns, fortran=False):
    """The pickle of a dict of arrays; a list becomes a list of arrays, of NumPy scalars or of numbers."""
    memo = Memo()

    def value(item):
        if isinstance(item, list):
            return list_([value(part) for part in item])
        if isinstance(item, (bool, int, float)) and not isinstance(item, np.generic):
            return number(item)
        return scalar(memo, item) if np.ndim(item) == 0 else array(memo, item, fortran)

    return pickled(dict_({name: value(item) for name, item in columns.items()}))
