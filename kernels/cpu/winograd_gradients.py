"""The gradients of winograd.py's convolution: its steps in reverse order.

    D = A dz A^T
    dU[e] = sum over tiles V[e]^T D[e]        dw = G^T dU G
    N[e] = D[e] U[e]^T                        dx += B N B^T

V is computed again from x. An image with several tiles has overlapping 8x8 pixels of dx, which are added up.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.direct import SLOTS, add_slots, masked_part
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.memory import ask_for, ask_to_write
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import LANES, load, load_part, splat, store, store_part, where_byte
from rotinv.kernels.cpu.vector.tile import PANEL, ROWS, SHORT, tile_4, tile_short, tile_tall
from rotinv.kernels.cpu.winograd import (
    B_T,
    GROUP,
    PLANES,
    A,
    G,
    load8,
    row_of,
    store8,
    transform_input,
    transform_weights,
    within,
)

_map_a = make_linear_map(A)  # 6 -> 8
_map_b_t = make_linear_map(B_T.T)  # 8 -> 8
_map_g_t = make_linear_map(G.T)  # 8 -> 3


def backward(x, w, y, index, dy, pad, slope, dw, db, wanted):
    """As Conv2dKernels.backward. D is computed once for dw, db and dx, and dz is never stored."""
    c, o = w.shape[2:]
    o_pad = -(-o // PANEL) * PANEL
    parts_w = np.empty(SLOTS * w.size, np.float32)
    parts_b = np.zeros(SLOTS * o_pad, np.float32)
    u = np.empty(PLANES * o * -(-c // PANEL) * PANEL if wanted else 0, np.float32)
    if wanted:
        transform_weights(np.ascontiguousarray(w.transpose(0, 1, 3, 2)).reshape(-1), o, c, u)
    dx = memory.empty(x.shape if wanted else (0,))
    pool, place = (1, np.empty(0, np.uint8)) if index is None else (2, index.reshape(-1))
    p, q = x.shape[1] + 2 * pad - 2, x.shape[2] + 2 * pad - 2
    _backward(x.reshape(-1), *x.shape, dy.reshape(-1), y.reshape(-1), place, pool, np.float32(slope), p, q, o,
              pad, parts_w, parts_b, u, dx.reshape(-1))  # fmt: skip
    add_slots(parts_w.reshape(SLOTS, *w.shape), dw)
    add_slots(parts_b.reshape(SLOTS, o_pad)[:, :o], db)
    return dx if wanted else None


@inline
def _unpooled(dy, y, index, at, place, leak, count):
    """dz at one place of a pooled window: dy if that place won, else 0."""
    return where_byte(index, at, count, place, masked_part(dy, y, at, leak, count))


@inline
def _transform_gradient(dy, y, index, pool, leak, start, p_y, q_y, o, p, q, half, d, d0, plane):
    """D = A dz A^T for the 6x6 pixels of dz at (p, q), read from dy, which is `pool` times smaller; its image
    is at `start`."""
    p, q = p // pool, q // pool
    for k in range(0, o, LANES):
        rest, step = o - k, q_y * o
        n0, n1, n2 = within(p, p_y, rest), within(p + 1, p_y, rest), within(p + 2, p_y, rest)
        n3, n4, n5 = within(p + 3, p_y, rest), within(p + 4, p_y, rest), within(p + 5, p_y, rest)
        for j in range(6):
            at = start + (p * q_y + q + j // pool) * o + k
            if q + j // pool >= q_y:
                zero = splat(np.float32(0))
                store8(half, j * LANES, 6 * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
            elif pool == 1:
                column = (
                    masked_part(dy, y, at, leak, n0), masked_part(dy, y, at + step, leak, n1),
                    masked_part(dy, y, at + 2 * step, leak, n2), masked_part(dy, y, at + 3 * step, leak, n3),
                    masked_part(dy, y, at + 4 * step, leak, n4), masked_part(dy, y, at + 5 * step, leak, n5),
                )  # fmt: skip
                store8(half, j * LANES, 6 * LANES, _map_a(column))
            else:
                column = (
                    _unpooled(dy, y, index, at, j % 2, leak, n0),
                    _unpooled(dy, y, index, at, j % 2 + 2, leak, n0),
                    _unpooled(dy, y, index, at + step, j % 2, leak, n1),
                    _unpooled(dy, y, index, at + step, j % 2 + 2, leak, n1),
                    _unpooled(dy, y, index, at + 2 * step, j % 2, leak, n2),
                    _unpooled(dy, y, index, at + 2 * step, j % 2 + 2, leak, n2),
                )  # fmt: skip
                store8(half, j * LANES, 6 * LANES, _map_a(column))
        for i in range(8):
            at = i * 6 * LANES
            row = _map_a((load(half, at), load(half, at + LANES), load(half, at + 2 * LANES),
                          load(half, at + 3 * LANES), load(half, at + 4 * LANES),
                          load(half, at + 5 * LANES)))  # fmt: skip
            store8(d, d0 + k + i * 8 * plane, plane, row)


@inline
def _add_input_gradient(v, v0, plane, half, dx, h, w, c, i0, j0):
    """Add B N B^T to the 8x8 pixels at (i0, j0) of an image's dx; `v` has the planes of N."""
    for k in range(0, c, LANES):
        for j in range(8):
            store8(half, j * LANES, 8 * LANES, _map_b_t(load8(v, v0 + k + j * plane, 8 * plane)))
        for i in range(max(0, -i0), min(8, h - i0)):
            row = _map_b_t(load8(half, i * 8 * LANES, LANES))
            for j in range(8):
                if 0 <= j0 + j < w:
                    at = ((i0 + i) * w + j0 + j) * c + k
                    store_part(dx, at, load_part(dx, at, c - k) + row[j], c - k)


@inline
def _copy_out(image, dx, start, size):
    """dx[start : start + size] = image."""
    if size % LANES == 0:
        for at in range(0, size, LANES):
            store(dx, start + at, load(image, at))
    else:
        for at in range(size):
            dx[start + at] = image[at]


@kernel
def _backward(x, n, h, w, c, dy, y, index, pool, slope, p_z, q_z, o, pad, parts_w, parts_b, u, dx):
    """Sum over each slot's tiles, of dw into parts_w and of db into parts_b; write dx if it has any elements.

    du[e][panel][c][PANEL], the sum of V[e]^T D[e], is used for one slot after another, so that it stays in
    cache.
    """
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    n_pad = (c + PANEL - 1) // PANEL * PANEL
    across, tiles = (q_z + 5) // 6, (p_z + 5) // 6 * ((q_z + 5) // 6)
    p_y, q_y = p_z // pool, q_z // pool
    v_plane, d_plane = GROUP * n_pad + 16, GROUP * o_pad + 16
    leak, rows = splat(slope), 6 // pool
    for slot in prange(SLOTS):
        v, d = np.empty(PLANES * v_plane, np.float32), np.zeros(PLANES * d_plane, np.float32)
        half, gathered = np.empty(64 * LANES, np.float32), np.empty(h * w * c, np.float32)
        begin, end = slot * n // SLOTS * tiles, (slot + 1) * n // SLOTS * tiles
        du = np.empty(PLANES * c_pad * o_pad, np.float32)
        groups = max(1, (end - begin + GROUP - 1) // GROUP)  # a slot without tiles writes zeros
        for group in range(groups):
            first = begin + group * (end - begin) // groups
            count = begin + (group + 1) * (end - begin) // groups - first
            for t in range(count):
                image, tile = (first + t) // tiles, (first + t) % tiles
                i, j = tile // across * 6, tile % across * 6
                transform_input(x, image * h * w * c, h, w, c, i - pad, j - pad, half, v, t * n_pad, v_plane)
                _transform_gradient(dy, y, index, pool, leak, image * p_y * q_y * o, p_y, q_y, o, i, j,
                                    half, d, t * o_pad, d_plane)  # fmt: skip
                for k in range(0, o, LANES):
                    # At the points (1, 1) D is the sum of the tile's dz: that is its part of db.
                    total = load(parts_b, slot * o_pad + k) + load(d, 9 * d_plane + t * o_pad + k)
                    store(parts_b, slot * o_pad + k, total)
            coming, latest = first + count, min(first + 2 * count, n * tiles) - 1
            x_begin = row_of(coming, tiles, across, 6, -pad, h) * w * c
            x_end = row_of(latest, tiles, across, 6, 8 - pad, h) * w * c
            y_begin = row_of(coming, tiles, across, rows, 0, p_y) * q_y * o
            y_end = row_of(latest, tiles, across, rows, rows, p_y) * q_y * o
            for e in range(PLANES):
                ask_for(x, x_begin, x_end, 4, e, PLANES)
                ask_for(dy, y_begin, y_end, 4, e, PLANES)
                ask_for(y, y_begin, y_end, 4, e, PLANES)
                if dx.size:
                    ask_to_write(dx, first // tiles * h * w * c, coming // tiles * h * w * c, e, PLANES)
                if pool == 2:
                    ask_for(index, y_begin, y_end, 1, e, PLANES)
                for panel in range(0, o_pad, PANEL):
                    for row in range(0, c_pad, SHORT):
                        tile_short(v, e * v_plane + row, 1, 1, 0, count, n_pad,
                                   d, e * d_plane + panel, 0, o_pad,
                                   du, (e * o_pad + panel) * c_pad + row * PANEL, PANEL,
                                   group > 0)  # fmt: skip
                if dx.size:
                    _rows(d, e * d_plane, o_pad, o, u, e * n_pad * o, v, e * v_plane, n_pad, count)
            if dx.size:
                for t in range(count):
                    image, tile = (first + t) // tiles, (first + t) % tiles
                    if tile == 0:
                        gathered[:] = 0
                    i, j = tile // across * 6 - pad, tile % across * 6 - pad
                    _add_input_gradient(v, t * n_pad, v_plane, half, gathered, h, w, c, i, j)
                    if tile == tiles - 1:
                        _copy_out(gathered, dx, image * h * w * c, h * w * c)
        _weight_gradient(du, c, o, c_pad, o_pad, half, parts_w, slot * 9 * c * o)


@inline
def _rows(d, d0, d_step, o, u, u0, v, v0, v_step, count):
    """N (count, c) = D (count, o) U (o, c) for one plane. Some rows beyond `count` are computed and never
    read."""
    for panel in range(0, v_step, PANEL):
        t = 0
        while t < count:
            if count - t > ROWS - 4:  # a tall one does not reach beyond GROUP, a 4 after it could
                tile_tall(d, d0 + t * d_step, d_step, 1, 0, o, 1, u, u0 + panel * o, 0, PANEL,
                          v, v0 + t * v_step + panel, v_step, False)  # fmt: skip
                t += ROWS
            else:
                tile_4(d, d0 + t * d_step, d_step, 1, 0, o, 1, u, u0 + panel * o, 0, PANEL,
                       v, v0 + t * v_step + panel, v_step, False)  # fmt: skip
                t += 4


@inline
def _weight_gradient(du, c, o, c_pad, o_pad, half, dw, dw0):
    """dw = G^T dU G, written from dw0 on."""
    plane = c_pad * o_pad
    for channel in range(c):
        for k in range(0, o, LANES):
            at = (k // PANEL * c_pad + channel) * PANEL + k % PANEL
            for j in range(8):
                column = _map_g_t(load8(du, at + j * plane, 8 * plane))
                for i in range(3):
                    store(half, (i * 8 + j) * LANES, column[i])
            for i in range(3):
                row = _map_g_t(load8(half, i * 8 * LANES, LANES))
                for j in range(3):
                    store_part(dw, dw0 + ((i * 3 + j) * c + channel) * o + k, row[j], o - k)
