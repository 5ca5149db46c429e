"""Convolutions one after another, depth first: a thread takes a few images through all of them.

So the maps between them stay in a core's second-level cache, are never written to memory, and are soon
forgotten. A single convolution is a row of one; its bits are the same, for no pixel depends on the images or
tiles that it is computed with.

The first convolution may be one of few channels (winograd_few.py), and then the images may be stamps that are
padded and turned as they are read; all others are winograd.py's.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory, pool2d, winograd, winograd_few
from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.memory import scratch
from rotinv.kernels.cpu.vector.simd import LANES, splat
from rotinv.kernels.cpu.vector.tile import PANEL
from rotinv.kernels.cpu.winograd import GROUP, PLANES, convolve_tiles, plane
from rotinv.kernels.cpu.winograd_few import (
    convolve_few,
    copy_turned,
    padded_numbers,
    padded_width,
    row_numbers,
)

# Columns of the table of convolutions: whether it is one of few channels, its numbers, and where its U and
# bias begin.
FEW, PAD, POOL, H, W, C_X, C, O, P_Z, Q_Z, U0, B0 = range(12)


class Convolution(NamedTuple):
    """The arguments of Conv2dKernels.forward, besides x."""

    w: np.ndarray
    b: np.ndarray
    pad: int
    slope: float
    pool: int


def suits(shape):
    """Whether a convolution with weights of a shape can be taken here."""
    return winograd.suits(shape) or winograd_few.suits(shape)


def convolve_stamps(x, border, convolutions):
    """Maps (4n, p, q, o): stamps x with a border of zeros, turned, and convolved.

    The first convolution must be one of few channels without pooling, and the others winograd.py's.
    """
    return _convolved(x, convolutions, border=border, turns=4)[0]


def convolve(x, w, b, pad, slope, pool, beside=None, times=None):
    """As Conv2dKernels.forward, for weights that suit.

    `beside`, shaped as x, has further channels; their weights follow those of x's channels in w. Without
    pooling, y may be multiplied by an array `times`.
    """
    if pool == 2 and winograd_few.suits(w.shape):
        return pool2d.max_forward(convolve(x, w, b, pad, slope, 1)[0], 2)
    return _convolved(x, [Convolution(w, b, pad, slope, pool)], beside, times)


def _convolved(x, convolutions, beside=None, times=None, border=0, turns=1):
    """y, and the winners of a single convolution that pools."""
    n, h, w, c = x.shape
    table, u, bias = _table(convolutions, h + 2 * border, w + 2 * border, c)
    last = table[-1]
    shape = turns * n, last[P_Z] // last[POOL], last[Q_Z] // last[POOL], last[O]
    y = memory.empty(shape)
    wins = len(table) == 1 and last[POOL] == 2
    index = np.empty(shape if wins else 0, np.uint8)
    slopes = np.array([one.slope for one in convolutions], np.float32)
    beside, times = (np.empty(0, np.float32) if a is None else a.reshape(-1) for a in (beside, times))
    _convolve(_writeable(x).reshape(-1), beside, n, h, w, border, turns, table, slopes, u, bias, times,
              y.reshape(-1), index.reshape(-1))  # fmt: skip
    return y, index if wins else None


def _writeable(x):
    """x as an array that may be written, for the kernel's maps must be of one type; it writes none that it
    reads."""
    return x if x.flags.writeable else x.copy()


def _table(convolutions, h, w, c_x):
    """The table of convolutions for maps (h, w, c_x), and all U and all biases one after another."""
    table = np.empty((len(convolutions), 12), np.int64)
    u_size = bias_size = 0
    for row, one in zip(table, convolutions, strict=True):
        size, _, c, o = one.w.shape
        p, q = h + 2 * one.pad - size + 1, w + 2 * one.pad - size + 1
        few = not winograd.suits(one.w.shape)
        row[:] = few, one.pad, one.pool, h, w, c_x, c, o, p, q, u_size, bias_size
        u_size += PLANES * (winograd_few.MOST if few else c) * _whole(o)
        bias_size += _whole(o)
        h, w, c_x = p // one.pool, q // one.pool, o
    u, bias = np.empty(u_size, np.float32), np.zeros(bias_size, np.float32)
    for row, one in zip(table, convolutions, strict=True):
        transform = winograd_few.transform_weights if row[FEW] else winograd.transform_weights
        transform(np.ascontiguousarray(one.w).reshape(-1), *one.w.shape[2:], u[row[U0] :])
        bias[row[B0] : row[B0] + row[O]] = one.b
    return table, u, bias


def _whole(o):
    """Outputs in whole panels."""
    return -(-o // PANEL) * PANEL


@kernel
def _convolve(x, beside, n, h, w, border, turns, table, slopes, u, bias, times, y, index):
    layers, images = len(table), turns * n
    alone = layers == 1 and not table[0, FEW]
    # So many images, or of a convolution alone tiles, that they fill a group.
    tiles = (table[-1, P_Z] + 5) // 6 * ((table[-1, Q_Z] + 5) // 6)
    together = max(1, GROUP // tiles)
    pieces = (images * tiles + GROUP - 1) // GROUP if alone else (images + together - 1) // together
    v_size, o, map_size, padded_size = 0, 0, 0, 0
    for layer in range(layers):
        o = max(o, (table[layer, O] + PANEL - 1) // PANEL * PANEL)
        if table[layer, FEW]:
            v_size = row_numbers(table[0, Q_Z])
            padded_size = padded_numbers(table[0, P_Z], table[0, Q_Z])
        else:
            v_size = max(v_size, PLANES * plane((table[layer, C] + LANES - 1) // LANES * LANES))
        if layer > 0:
            map_size = max(map_size, table[layer, H] * table[layer, W] * table[layer, C])
    for piece in prange(pieces):
        v, m, half = scratch(v_size), scratch(PLANES * plane(o)), scratch(80 * LANES)
        here, there, padded = scratch(together * map_size), scratch(together * map_size), scratch(padded_size)
        padded[:] = 0
        first = 0 if alone else piece * together
        count = images if alone else min(together, images - first)
        for layer in range(layers):
            row, leak = table[layer], splat(slopes[layer])
            reads, x_first = (x, first) if layer == 0 else (here, 0)
            writes, y_first = (y, first) if layer == layers - 1 else (there, 0)
            p_z, q_z = row[P_Z], row[Q_Z]
            if row[FEW]:
                for image in range(first, first + count):
                    copy_turned(x, image % n * h * w * row[C], image // n, h, w, row[C], border + row[PAD],
                                padded, padded_width(q_z))  # fmt: skip
                    y0 = (y_first - first + image) * p_z * q_z * row[O]
                    convolve_few(padded, u, bias, leak, writes, y0, p_z, q_z, row[O], v, half)
            else:
                total = count * ((p_z + 5) // 6) * ((q_z + 5) // 6)
                begin, end = (piece * GROUP, min((piece + 1) * GROUP, total)) if alone else (0, total)
                convolve_tiles(reads, x_first, beside, row[H], row[W], row[C_X], row[C], u, row[U0],
                               bias, row[B0], row[PAD], leak, row[POOL], times, writes, y_first, index,
                               p_z, q_z, row[O], begin, end, total, v, m, half)  # fmt: skip
            here, there = there, here
