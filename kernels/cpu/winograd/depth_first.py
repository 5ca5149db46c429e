"""Convolutions one after another, depth first: a thread takes a few images through all of them.

So each reads the maps of the one before from a core's second-level cache. In scoring they are soon forgotten
and never written to memory; in training they are kept. A single convolution is a row of one; its bits are the
same, for no pixel depends on the images or tiles that it is computed with.

The first convolution may be one of few channels (few.py), and then the images may be stamps that are
padded and turned as they are read; all others are tiles.py's. depth_first_gradients.py goes the way back.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory, pool2d
from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.memory import scratch
from rotinv.kernels.cpu.panels import whole
from rotinv.kernels.cpu.vector.simd import LANES, splat
from rotinv.kernels.cpu.vector.tile import PANEL
from rotinv.kernels.cpu.winograd import few, tiles
from rotinv.kernels.cpu.winograd.few import (
    convolve_few,
    copy_turned,
    padded_numbers,
    padded_width,
    row_numbers,
)
from rotinv.kernels.cpu.winograd.layer_table import (
    B0,
    C_X,
    FEW,
    INDEX_AT,
    P_Z,
    PAD,
    POOL,
    Q_Z,
    U0,
    X_AT,
    Y_AT,
    C,
    Convolution,
    H,
    O,
    W,
    bytes_at,
    floats_at,
    table_of,
)
from rotinv.kernels.cpu.winograd.tiles import GROUP, PLANES, convolve_tiles, plane


def suits(shape):
    """Whether a convolution with weights of a shape can be taken here."""
    return tiles.suits(shape) or few.suits(shape)


def suit_in_a_row(shapes, pools):
    """Whether convolutions with weights of these shapes can be taken depth first, one after another."""
    first, *others = shapes
    starts = tiles.suits(first) or (few.suits(first) and pools[0] == 1)
    return starts and all(tiles.suits(shape) for shape in others)


def convolve_stamps(x, border, convolutions):
    """Maps (4n, p, q, o): stamps x with a border of zeros, turned, and convolved.

    The first convolution must be one of few channels without pooling, and the others tiles.py's.
    """
    return _convolved(x, convolutions, border=border, turns=4)[-1][0]


def convolve_all(x, convolutions):
    """(y, winners) of each of several convolutions of x, as Conv2dKernels.forward; they suit_in_a_row."""
    return _convolved(x, convolutions, keep=True)


def convolve(x, w, b, pad, slope, pool, beside=None, times=None):
    """As Conv2dKernels.forward, for weights that suit.

    `beside`, shaped as x, has further channels; their weights follow those of x's channels in w. Without
    pooling, y may be multiplied by an array `times`.
    """
    if pool == 2 and few.suits(w.shape):
        return pool2d.max_forward(convolve(x, w, b, pad, slope, 1)[0], 2)
    return _convolved(x, [Convolution(w, b, pad, slope, pool)], beside, times, keep=True)[0]


def _convolved(x, convolutions, beside=None, times=None, border=0, turns=1, keep=False):
    """(y, winners) of the convolutions: of all with `keep`, else y of the last one without its winners."""
    x = np.ascontiguousarray(x)
    n, h, w, c = x.shape
    table, slopes = table_of(convolutions, h + 2 * border, w + 2 * border, c)
    u, bias = _weights(table, convolutions)
    found = []
    for row in table if keep else table[-1:]:
        pool, shape = row[POOL], (turns * n, row[P_Z] // row[POOL], row[Q_Z] // row[POOL], row[O])
        y, index = memory.empty(shape), np.empty(shape, np.uint8) if keep and pool == 2 else None
        row[Y_AT], row[INDEX_AT] = y.ctypes.data, 0 if index is None else index.ctypes.data
        found.append((y, index))
    table[0, X_AT] = x.ctypes.data
    beside, times = (np.empty(0, np.float32) if a is None else a.reshape(-1) for a in (beside, times))
    _convolve(beside, n, h, w, border, turns, table, slopes, u, bias, times)
    return found


def _weights(table, convolutions):
    """All U and all biases, one after another; U0 of the table is set."""
    sizes = [PLANES * (few.MOST if row[FEW] else row[C]) * whole(row[O]) for row in table]
    table[:, U0] = np.cumsum([0, *sizes[:-1]])
    u, bias = np.empty(sum(sizes), np.float32), np.zeros(table[-1, B0] + whole(table[-1, O]), np.float32)
    for row, one in zip(table, convolutions, strict=True):
        transform = few.transform_weights if row[FEW] else tiles.transform_weights
        transform(np.ascontiguousarray(one.w).reshape(-1), *one.w.shape[2:], u[row[U0] :])
        bias[row[B0] : row[B0] + row[O]] = one.b
    return u, bias


@kernel
def _convolve(beside, n, h, w, border, turns, table, slopes, u, bias, times):
    layers, images = len(table), turns * n
    alone = layers == 1 and not table[0, FEW]
    # So many images, or of a convolution alone tiles, that they fill a group.
    each = (table[-1, P_Z] + 5) // 6 * ((table[-1, Q_Z] + 5) // 6)
    together = max(1, GROUP // each)
    pieces = (images * each + GROUP - 1) // GROUP if alone else (images + together - 1) // together
    v_size, o, map_size, padded_size = 0, 0, 0, 0
    for layer in range(layers):
        o = max(o, (table[layer, O] + PANEL - 1) // PANEL * PANEL)
        if table[layer, FEW]:
            v_size = row_numbers(table[0, Q_Z])
            padded_size = padded_numbers(table[0, P_Z], table[0, Q_Z])
        else:
            v_size = max(v_size, PLANES * plane((table[layer, C] + LANES - 1) // LANES * LANES))
        if layer > 0 and table[layer - 1, Y_AT] == 0:
            map_size = max(map_size, table[layer, H] * table[layer, W] * table[layer, C])
    for piece in prange(pieces):
        v, m, half = scratch(v_size), scratch(PLANES * plane(o)), scratch(80 * LANES)
        here, there, padded = scratch(together * map_size), scratch(together * map_size), scratch(padded_size)
        padded[:] = 0
        first = 0 if alone else piece * together
        count = images if alone else min(together, images - first)
        reads, x_first = floats_at(table[0, X_AT]), first
        for layer in range(layers):
            row, leak = table[layer], splat(slopes[layer])
            writes, y_first = there, 0
            if row[Y_AT] != 0:
                writes, y_first = floats_at(row[Y_AT]), first
            p_z, q_z = row[P_Z], row[Q_Z]
            if row[FEW]:
                for image in range(first, first + count):
                    copy_turned(reads, image % n * h * w * row[C], image // n, h, w, row[C],
                                border + row[PAD], padded, padded_width(q_z))  # fmt: skip
                    y0 = (y_first - first + image) * p_z * q_z * row[O]
                    convolve_few(padded, u, bias, leak, writes, y0, p_z, q_z, row[O], v, half)
            else:
                total = count * ((p_z + 5) // 6) * ((q_z + 5) // 6)
                begin, end = (piece * GROUP, min((piece + 1) * GROUP, total)) if alone else (0, total)
                convolve_tiles(reads, x_first, beside, row[H], row[W], row[C_X], row[C], u, row[U0],
                               bias, row[B0], row[PAD], leak, row[POOL], times, writes, y_first,
                               bytes_at(row[INDEX_AT]), p_z, q_z, row[O], begin, end, total,
                               v, m, half)  # fmt: skip
            reads, x_first = writes, y_first
            here, there = there, here
