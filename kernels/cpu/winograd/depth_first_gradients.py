"""The gradients of convolutions one after another, depth first: depth_first.py's way back.

A thread takes a few images from the last convolution to the first. So the gradient of a map is read where it
was just written, in a core's second-level cache, and a kept map is read from memory once: as the input of one
convolution and, soon after, as the output of the one before.

Weight gradients are summed over SLOTS parts of the batch, each in the order of its images, and then over the
slots: the number of threads changes no bit.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.memory import scratch
from rotinv.kernels.cpu.panels import whole
from rotinv.kernels.cpu.slots import SLOTS, add_slots
from rotinv.kernels.cpu.vector.simd import LANES, load, splat, store
from rotinv.kernels.cpu.vector.tile import PANEL
from rotinv.kernels.cpu.winograd import tiles
from rotinv.kernels.cpu.winograd.few import MOST, copy_turned, padded_numbers, padded_width
from rotinv.kernels.cpu.winograd.few_gradients import d_numbers, gradient_few, v_numbers, weight_gradient_few
from rotinv.kernels.cpu.winograd.layer_table import (
    B0,
    FEW,
    INDEX_AT,
    P_Z,
    PAD,
    Q_Z,
    U0,
    W0,
    X_AT,
    Y_AT,
    C,
    H,
    O,
    W,
    floats_at,
    table_of,
)
from rotinv.kernels.cpu.winograd.tile_gradients import gradient_tiles, weight_gradient
from rotinv.kernels.cpu.winograd.tiles import GROUP, PLANES, plane

FEWEST = 3  # images taken together: their tiles of 12x12 maps fill a group


def backward(x, convolutions, kept, dy, grads, wanted):
    """dx of several convolutions of x, or None unless it is wanted; writes (dw, db) of each, `grads`.

    `kept` are their (y, winners), dy is the gradient of the last y. A first convolution of few channels gives
    no dx.
    """
    table, slopes = table_of(convolutions, *x.shape[1:])
    u = _transposed_weights(table, convolutions, wanted)
    inputs = [x, *(y for y, _ in kept)]
    for row, a, (y, index) in zip(table, inputs, kept, strict=False):
        row[X_AT], row[Y_AT] = a.ctypes.data, y.ctypes.data
        row[INDEX_AT] = 0 if index is None else index.ctypes.data
    parts_w = np.empty(SLOTS * sum(dw.size for dw, _ in grads), np.float32)
    parts_b = np.zeros((SLOTS, table[-1, B0] + whole(table[-1, O])), np.float32)
    dx = memory.empty(x.shape if wanted else (0,))
    _backward(len(x), table, slopes, dy.reshape(-1), u, parts_w, parts_b.reshape(-1), dx.reshape(-1))
    for row, (dw, db) in zip(table, grads, strict=True):
        parts = parts_w[SLOTS * row[W0] : SLOTS * (row[W0] + dw.size)]
        add_slots(parts.reshape(SLOTS, *dw.shape), dw)
        add_slots(parts_b[:, row[B0] : row[B0] + row[O]], db)
    return dx if wanted else None


def _transposed_weights(table, convolutions, wanted):
    """U of the weights with c and o exchanged, of all that give a dx one after another; U0 of the table is
    set."""
    gives = [wanted, *[True] * (len(table) - 1)]
    sizes = [PLANES * row[O] * whole(row[C]) if given else 0 for row, given in zip(table, gives, strict=True)]
    table[:, U0] = np.cumsum([0, *sizes[:-1]])
    u = np.empty(sum(sizes), np.float32)
    for row, one, given in zip(table, convolutions, gives, strict=True):
        if given:
            turned = np.ascontiguousarray(one.w.transpose(0, 1, 3, 2))
            tiles.transform_weights(turned.reshape(-1), row[O], row[C], u[row[U0] :])
    return u


@inline
def _du_numbers(row):
    """Size of a layer's dU."""
    channels = MOST if row[FEW] else (row[C] + LANES - 1) // LANES * LANES
    return PLANES * channels * ((row[O] + PANEL - 1) // PANEL * PANEL)


@kernel
def _backward(n, table, slopes, dy, u, parts_w, parts_b, dx):
    """Write each slot's sums of dw into parts_w (layer, slot, dw); add its db to parts_b (slot, all b); write
    dx if it has any elements."""
    layers, b_size = len(table), len(parts_b) // SLOTS
    last = table[-1]
    together = max(FEWEST, GROUP // ((last[P_Z] + 5) // 6 * ((last[Q_Z] + 5) // 6)))
    v_size, d_size, du_size, map_size, padded_size = 0, 0, 0, 0, 0
    for layer in range(layers):
        row = table[layer]
        o_pad, du_size = (row[O] + PANEL - 1) // PANEL * PANEL, du_size + _du_numbers(row)
        if row[FEW]:
            padded_size = padded_numbers(row[P_Z], row[Q_Z])
            v_size, d_size = v_numbers(row[Q_Z]), d_numbers(row[Q_Z], o_pad)
        else:
            v_size = max(v_size, PLANES * plane((row[C] + PANEL - 1) // PANEL * PANEL))
            d_size = max(d_size, PLANES * plane(o_pad))
            if layer > 0 or dx.size:
                map_size = max(map_size, row[H] * row[W] * row[C])
    for slot in prange(SLOTS):
        v, d, half, du = scratch(v_size), scratch(d_size), scratch(64 * LANES), scratch(du_size)
        here, there, padded = scratch(together * map_size), scratch(together * map_size), scratch(padded_size)
        padded[:] = 0
        if table[0, FEW]:
            du[: _du_numbers(table[0])] = 0
        begin, end = slot * n // SLOTS, (slot + 1) * n // SLOTS
        pieces = max(1, (end - begin + together - 1) // together)
        for piece in range(pieces):
            first = begin + piece * (end - begin) // pieces
            following = begin + (piece + 1) * (end - begin) // pieces
            count, coming = following - first, min(n, following + together) - following
            reads, dy_first, du0 = dy, first, du_size
            for layer in range(layers - 1, -1, -1):
                row, leak, wanted = table[layer], splat(slopes[layer]), layer > 0 or dx.size > 0
                du0, b0 = du0 - _du_numbers(row), slot * b_size + row[B0]
                if row[FEW]:
                    size, x_size = row[P_Z] * row[Q_Z] * row[O], row[H] * row[W] * row[C]
                    for image in range(count):
                        copy_turned(floats_at(row[X_AT]), (first + image) * x_size, 0, row[H], row[W], row[C],
                                    row[PAD], padded, padded_width(row[Q_Z]))  # fmt: skip
                        gradient_few(padded, reads, (dy_first + image) * size, floats_at(row[Y_AT]),
                                     (first + image) * size, leak, row[P_Z], row[Q_Z], row[O], du,
                                     parts_b, b0, v, d, half)  # fmt: skip
                else:
                    size = row[H] * row[W] * row[C]
                    if wanted:
                        there[: count * size] = 0
                    # The maps that are read next: the layer before's, or the last one's of the next images.
                    ahead, its_first, its_count = layer - 1, first, count
                    if layer == 0:
                        ahead, its_first, its_count = layers - 1, following, coming
                    gradient_tiles(table, layer, reads, dy_first, first, count, leak, u, du, du0, piece > 0,
                                   parts_b, b0, there, wanted, v, d, half,
                                   ahead, its_first, its_count, dy)  # fmt: skip
                    if layer == 0 and wanted:
                        _copy_out(there, dx, first * size, count * size)
                reads, dy_first = there, 0
                here, there = there, here
        for layer in range(layers):
            row = table[layer]
            w_size = (4 if row[FEW] else 3) ** 2 * row[C] * row[O]
            w0 = SLOTS * row[W0] + slot * w_size
            if row[FEW]:
                weight_gradient_few(du, row[C], row[O], half, parts_w, w0)
            else:
                weight_gradient(du, du0, row[C], row[O], half, parts_w, w0)
            du0 += _du_numbers(row)


@inline
def _copy_out(maps, dx, start, size):
    """dx[start : start + size] = maps[:size]."""
    whole_lines = size // LANES * LANES
    for at in range(0, whole_lines, LANES):
        store(dx, start + at, load(maps, at))
    for at in range(whole_lines, size):
        dx[start + at] = maps[at]
