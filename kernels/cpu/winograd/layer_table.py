"""Convolutions in a row as a table of whole numbers, which one kernel reads for any number of layers.

The arrays of a layer are in the table by their addresses: a compiled kernel takes no list of arrays whose
length it does not know. Whoever makes a table keeps the arrays alive while the kernel runs.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from rotinv.kernels.cpu.jit import inline
from rotinv.kernels.cpu.memory import ask_for
from rotinv.kernels.cpu.panels import whole
from rotinv.kernels.cpu.winograd import tiles

# Columns: whether it is a convolution of few channels (few.py), its numbers, where its weights in
# Winograd's form, its bias and its weights begin in arrays of all layers, and the addresses of x, y, winners.
FEW, PAD, POOL, H, W, C_X, C, O, P_Z, Q_Z, U0, B0, W0, X_AT, Y_AT, INDEX_AT = range(16)


class Convolution(NamedTuple):
    """The arguments of Conv2dKernels.forward, besides x."""

    w: np.ndarray
    b: np.ndarray
    pad: int
    slope: float
    pool: int


def table_of(convolutions, h, w, c_x):
    """The table for maps (h, w, c_x) without addresses, and the slopes.

    c_x may be fewer than the first convolution's channels: then the others come from a second array.
    """
    table = np.zeros((len(convolutions), 16), np.int64)
    b0 = w0 = 0
    for row, one in zip(table, convolutions, strict=True):
        size, _, c, o = one.w.shape
        p, q = h + 2 * one.pad - size + 1, w + 2 * one.pad - size + 1
        row[:X_AT] = not tiles.suits(one.w.shape), one.pad, one.pool, h, w, c_x, c, o, p, q, 0, b0, w0
        b0, w0 = b0 + whole(o), w0 + one.w.size
        h, w, c_x = p // one.pool, q // one.pool, o
    return table, np.array([one.slope for one in convolutions], np.float32)


def _pointer_to(element):
    @intrinsic
    def pointer(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), codegen

    return pointer


_to_floats, _to_bytes = _pointer_to(types.float32), _pointer_to(types.uint8)


@inline
def floats_at(address):
    """The float32 array at an address; of a size that means nothing, or empty at address 0."""
    return carray(_to_floats(address), (min(address, 1),))


@inline
def bytes_at(address):
    """The uint8 array at an address; of a size that means nothing, or empty at address 0."""
    return carray(_to_bytes(address), (min(address, 1),))


@inline
def ask_ahead(table, layer, first, count, dy, part, parts):
    """Prefetch a part of the maps that the gradients of a layer read soon: x and winners of `count` images
    from `first` on, and of the last layer y and dy, since the y of the others is the next one's x."""
    row = table[layer]
    size = row[H] * row[W] * row[C]
    ask_for(floats_at(row[X_AT]), first * size, (first + count) * size, 4, part, parts)
    size = row[P_Z] // row[POOL] * (row[Q_Z] // row[POOL]) * row[O]
    begin, end = first * size, (first + count) * size
    if row[INDEX_AT] != 0:
        ask_for(bytes_at(row[INDEX_AT]), begin, end, 1, part, parts)
    if layer == len(table) - 1:
        ask_for(floats_at(row[Y_AT]), begin, end, 4, part, parts)
        ask_for(dy, begin, end, 4, part, parts)
