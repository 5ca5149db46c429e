"""The gradient of winograd_few.py's weights, by its steps in reverse order.

    D = A dz A^T        dU[e] = sum over tiles V[e]^T D[e]        dw = G^T dU G

V is computed again from x. An image's tiles are taken together: with four channels, a plane of dU is four rows
of sums that stay in registers for all of them.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.direct import SLOTS, add_slots, masked_part
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.memory import ask_for, scratch
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import LANES, load, splat, store, store_part
from rotinv.kernels.cpu.vector.tile import PANEL, tile_4
from rotinv.kernels.cpu.winograd import PLANES, load8, store8, within
from rotinv.kernels.cpu.winograd_few import (
    MOST,
    STEP,
    TAPS,
    A,
    G,
    copy_turned,
    padded_numbers,
    padded_width,
    transform_tiles,
)

_map_a = make_linear_map(A)  # 5 -> 8
_map_g_t = make_linear_map(G.T)  # 8 -> 4


def backward_params(x, y, dy, pad, slope, dw, db):
    """dw and db as of Conv2dKernels.backward, without pooling, for weights that winograd_few.suits."""
    c, o = dw.shape[2:]
    o_pad = -(-o // PANEL) * PANEL
    parts_w = np.empty(SLOTS * dw.size, np.float32)
    parts_b = np.zeros(SLOTS * o_pad, np.float32)
    _params(x.reshape(-1), *x.shape, y.reshape(-1), dy.reshape(-1), *dy.shape[1:], np.float32(slope), pad,
            parts_w, parts_b)  # fmt: skip
    add_slots(parts_w.reshape(SLOTS, *dw.shape), dw)
    add_slots(parts_b.reshape(SLOTS, o_pad)[:, :o], db)


@kernel
def _params(x, n, h, w, c, y, dy, p_z, q_z, o, slope, pad, parts_w, parts_b):
    """Sum over each slot's images, of dw into parts_w and of db into parts_b.

    du[e][panel][MOST][PANEL] is the sum of V[e]^T D[e].
    """
    o_pad, leak = (o + PANEL - 1) // PANEL * PANEL, splat(slope)
    across, tiles = (q_z + STEP - 1) // STEP, (p_z + STEP - 1) // STEP * ((q_z + STEP - 1) // STEP)
    d_plane, map_size = tiles * o_pad + 16, p_z * q_z * o
    for slot in prange(SLOTS):
        v, d, half = scratch(tiles * PLANES * MOST), scratch(PLANES * d_plane), scratch(8 * LANES * STEP)
        du, padded = scratch(PLANES * MOST * o_pad), scratch(padded_numbers(p_z, q_z))
        du[:] = 0
        d[:] = 0
        padded[:] = 0
        for image in range(slot * n // SLOTS, (slot + 1) * n // SLOTS):
            copy_turned(x, image * h * w * c, 0, h, w, c, pad, padded, padded_width(q_z))
            for p in range(0, p_z, STEP):
                transform_tiles(padded, p, p_z, q_z, v, p // STEP * across * PLANES * MOST)
                for q in range(0, q_z, STEP):
                    tile = p // STEP * across + q // STEP
                    _transform_gradient(dy, y, leak, image * map_size, p_z, q_z, o, p, q, half,
                                        d, tile * o_pad, d_plane)  # fmt: skip
                    for k in range(0, o, LANES):
                        # At the points (1, 1) D is the sum of the tile's dz: that is its part of db.
                        total = load(parts_b, slot * o_pad + k) + load(d, 9 * d_plane + tile * o_pad + k)
                        store(parts_b, slot * o_pad + k, total)
            coming = min(image + 1, n - 1) * map_size
            for e in range(PLANES):
                ask_for(dy, coming, coming + map_size, 4, e, PLANES)
                ask_for(y, coming, coming + map_size, 4, e, PLANES)
                for panel in range(0, o_pad, PANEL):
                    tile_4(v, e * MOST, 1, 1, 0, tiles, PLANES * MOST, d, e * d_plane + panel, 0, o_pad,
                           du, (e * o_pad + panel) * MOST, PANEL, True)  # fmt: skip
        _weight_gradient(du, c, o, o_pad, half, parts_w, slot * TAPS * TAPS * c * o)


@inline
def _transform_gradient(dy, y, leak, start, p_z, q_z, o, p, q, half, d, d0, plane):
    """D = A dz A^T for the 5x5 pixels of dz at (p, q); the image's dy and y are at `start`."""
    for k in range(0, o, LANES):
        rest, step = o - k, q_z * o
        n0, n1, n2 = within(p, p_z, rest), within(p + 1, p_z, rest), within(p + 2, p_z, rest)
        n3, n4 = within(p + 3, p_z, rest), within(p + 4, p_z, rest)
        for j in range(STEP):
            if q + j < q_z:
                at = start + (p * q_z + q + j) * o + k
                column = (
                    masked_part(dy, y, at, leak, n0), masked_part(dy, y, at + step, leak, n1),
                    masked_part(dy, y, at + 2 * step, leak, n2), masked_part(dy, y, at + 3 * step, leak, n3),
                    masked_part(dy, y, at + 4 * step, leak, n4),
                )  # fmt: skip
                store8(half, j * LANES, STEP * LANES, _map_a(column))
            else:
                zero = splat(np.float32(0))
                store8(half, j * LANES, STEP * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
        for i in range(8):
            at = i * STEP * LANES
            row = _map_a((load(half, at), load(half, at + LANES), load(half, at + 2 * LANES),
                          load(half, at + 3 * LANES), load(half, at + 4 * LANES)))  # fmt: skip
            store8(d, d0 + k + i * 8 * plane, plane, row)


@inline
def _weight_gradient(du, c, o, o_pad, half, dw, dw0):
    """dw = G^T dU G, written from dw0 on."""
    plane = MOST * o_pad
    for channel in range(c):
        for k in range(0, o, LANES):
            at = (k // PANEL * MOST + channel) * PANEL + k % PANEL
            for j in range(8):
                column = _map_g_t(load8(du, at + j * plane, 8 * plane))
                for i in range(TAPS):
                    store(half, (i * 8 + j) * LANES, column[i])
            for i in range(TAPS):
                row = _map_g_t(load8(half, i * 8 * LANES, LANES))
                for j in range(TAPS):
                    store_part(dw, dw0 + ((i * TAPS + j) * c + channel) * o + k, row[j], o - k)
