"""3x3 convolution with a fifth of the multiplications: Winograd's minimal filtering F(6x6, 3x3).

A convolution multiplies polynomials. In one dimension, six outputs of a filter with three taps take 18
products. But the product of two polynomials is known once it is known at enough points: evaluate both
polynomials there, multiply the values point by point, and interpolate. Six outputs depend on eight inputs, so
eight points are enough: 0, +-1, +-2, +-1/2 and infinity. Hence y = A^T ((G w) * (B^T x)), where * multiplies
value by value and A, B, G are the small constant matrices below (Lavin & Gray 2016): G evaluates w, B^T is
the transpose of the interpolation and A^T that of the evaluation. In two dimensions each matrix acts on rows
and on columns, and the 36 outputs of a 6x6 tile take 64 products instead of 324:

    y = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A        x_c: the 8x8 inputs under the tile.

There are 64 pairs of points, and each gives a plane of values. With the sum over channels, each plane is a
matrix product of V (tiles, c) and U (c, o), in which most of the time is spent; the register tile computes
it. Tiles are taken in groups, so that the planes of a group stay in cache:

    V[e][tile][c] = B^T x B        M[e] = V[e] U[e]        y = A^T M A, then bias, activation, pooling.

While a group's products are summed, the pixels of x that the next group reads and those of y that this one
writes are prefetched: a tile's rows are short runs of memory, which a processor does not prefetch by itself.

Tiles at the edge read zeros beyond it and write only pixels that exist, so every size works. The rounding
error is about ten times that of a direct sum, 3e-6 of a map's RMS, because of the fifth powers of the points
+-2.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.direct import activate
from rotinv.kernels.cpu.jit import inline, kernel, part
from rotinv.kernels.cpu.memory import ask_for, ask_to_write
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import (
    LANES,
    load,
    load_part,
    splat,
    store,
    store_bytes,
    store_part,
    where_wins,
)
from rotinv.kernels.cpu.vector.tile import PANEL, ROWS, tile_tall

GROUP = 12  # tiles computed together, a multiple of ROWS: few enough that their planes stay in cache
PLANES = 64

B_T = np.array([
    [1, 0, -21 / 4, 0, 21 / 4, 0, -1, 0],
    [0, 1, 1, -17 / 4, -17 / 4, 1, 1, 0],
    [0, -1, 1, 17 / 4, -17 / 4, -1, 1, 0],
    [0, 1 / 2, 1 / 4, -5 / 2, -5 / 4, 2, 1, 0],
    [0, -1 / 2, 1 / 4, 5 / 2, -5 / 4, -2, 1, 0],
    [0, 2, 4, -5 / 2, -5, 1 / 2, 1, 0],
    [0, -2, 4, 5 / 2, -5, -1 / 2, 1, 0],
    [0, -1, 0, 21 / 4, 0, -21 / 4, 0, 1],
])  # fmt: skip
POINTS = np.array([0, 1, -1, 2, -2, 1 / 2, -1 / 2])
SCALES = np.array([1, -2 / 9, -2 / 9, 1 / 90, 1 / 90, 32 / 45, 32 / 45])
G = np.vstack([SCALES[:, None] * POINTS[:, None] ** range(3), [[0, 0, 1]]])
A = np.vstack([POINTS[:, None] ** range(6), [[0, 0, 0, 0, 0, 1]]])

map_b = make_linear_map(B_T)  # 8 -> 8
_map_g = make_linear_map(G)  # 3 -> 8
_map_a_t = make_linear_map(A.T)  # 8 -> 6


def suits(shape):
    """Whether this pays for weights of a shape: 3x3 taps, and channels enough to fill vectors."""
    return shape[:2] == (3, 3) and min(shape[2:]) >= 16


@inline
def load8(a, at, step):
    """Eight vectors of a, `step` apart."""
    return (load(a, at), load(a, at + step), load(a, at + 2 * step), load(a, at + 3 * step),
            load(a, at + 4 * step), load(a, at + 5 * step), load(a, at + 6 * step),
            load(a, at + 7 * step))  # fmt: skip


@inline
def store8(a, at, step, v):
    store(a, at, v[0])
    store(a, at + step, v[1])
    store(a, at + 2 * step, v[2])
    store(a, at + 3 * step, v[3])
    store(a, at + 4 * step, v[4])
    store(a, at + 5 * step, v[5])
    store(a, at + 6 * step, v[6])
    store(a, at + 7 * step, v[7])


@inline
def store6(a, at, step, v):
    store(a, at, v[0])
    store(a, at + step, v[1])
    store(a, at + 2 * step, v[2])
    store(a, at + 3 * step, v[3])
    store(a, at + 4 * step, v[4])
    store(a, at + 5 * step, v[5])


@inline
def within(i, size, count):
    """How many channels a pixel of row i has: `count`, or 0 outside the map."""
    return count if 0 <= i < size else 0


@inline
def row_of(tile, tiles, across, step, offset, height):
    """The number of a row of pixels, counted over all maps: `offset` below the tile's first row, but within
    its map."""
    return tile // tiles * height + min(max(tile % tiles // across * step + offset, 0), height)


@kernel
def transform_weights(w, c, o, u):
    """U = G w G^T, as u[e][panel][c][PANEL]."""
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    for channel in prange(c):
        half = np.empty(24 * LANES, np.float32)
        for k in range(0, o_pad, LANES):
            for j in range(3):
                at = (j * c + channel) * o + k
                column = (load_part(w, at, o - k), load_part(w, at + 3 * c * o, o - k),
                          load_part(w, at + 6 * c * o, o - k))  # fmt: skip
                store8(half, j * LANES, 3 * LANES, _map_g(column))
            at = k // PANEL * c * PANEL + channel * PANEL + k % PANEL
            for i in range(8):
                row = i * 3 * LANES
                full = _map_g((load(half, row), load(half, row + LANES), load(half, row + 2 * LANES)))
                store8(u, i * 8 * c * o_pad + at, c * o_pad, full)


@part
def transform_input(x, start, h, w, c, i0, j0, half, v, v0, plane):
    """V = B^T x B for the 8x8 pixels at (i0, j0) of the image at `start`; plane e's channels begin at v0 + e
    plane."""
    for k in range(0, c, LANES):
        rest, step = c - k, w * c
        n0, n1, n2 = within(i0, h, rest), within(i0 + 1, h, rest), within(i0 + 2, h, rest)
        n3, n4, n5 = within(i0 + 3, h, rest), within(i0 + 4, h, rest), within(i0 + 5, h, rest)
        n6, n7 = within(i0 + 6, h, rest), within(i0 + 7, h, rest)
        for j in range(8):
            if 0 <= j0 + j < w:
                at = start + (i0 * w + j0 + j) * c + k
                column = (
                    load_part(x, at, n0), load_part(x, at + step, n1), load_part(x, at + 2 * step, n2),
                    load_part(x, at + 3 * step, n3), load_part(x, at + 4 * step, n4),
                    load_part(x, at + 5 * step, n5), load_part(x, at + 6 * step, n6),
                    load_part(x, at + 7 * step, n7),
                )  # fmt: skip
                store8(half, j * LANES, 8 * LANES, map_b(column))
            else:
                zero = splat(np.float32(0))
                store8(half, j * LANES, 8 * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
        for i in range(8):
            row = map_b(load8(half, i * 8 * LANES, LANES))
            store8(v, v0 + k + i * 8 * plane, plane, row)


@inline
def plane(c_pad):
    """Floats from one plane of a group's V or M to the next.

    Sixteen more than it holds, or the 64 planes would share a few sets of the cache.
    """
    return GROUP * c_pad + 16


@part
def convolve_tiles(x, x_first, beside, h, w, c_x, c, u, u0, bias, b0, pad, leak, pool, times,
                   y, y_first, index, p_z, q_z, o, begin, end, total, v, m, half):  # fmt: skip
    """Write the pixels of y of the tiles from `begin` to `end`, a group after another.

    Tiles are counted over maps, `total` in all; those of the first map read x's map x_first and write y's map
    y_first.
    `beside` (empty for none) has further channels: c_x are x's, c all. Without pooling, y is multiplied by
    `times` if that is not empty. `index` may be empty: then the winners are not kept.
    """
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    across, tiles = (q_z + 5) // 6, (p_z + 5) // 6 * ((q_z + 5) // 6)
    v_plane, m_plane = plane(c_pad), plane(o_pad)
    p_y, q_y, rows = p_z // pool, q_z // pool, 6 // pool
    for first in range(begin, end, GROUP):
        count = min(GROUP, end - first)
        for t in range(count):
            image, tile = (first + t) // tiles, (first + t) % tiles
            i0, j0 = tile // across * 6 - pad, tile % across * 6 - pad
            start = (x_first + image) * h * w * c_x
            transform_input(x, start, h, w, c_x, i0, j0, half, v, t * c_pad, v_plane)
            if beside.size:  # from within x's last vector into the next tile's row, which is written after it
                transform_input(beside, start, h, w, c_x, i0, j0, half, v, t * c_pad + c_x, v_plane)
        last = first + count - 1
        coming, latest = last + 1, min(last + GROUP, total - 1)
        x_begin = (x_first * h + row_of(coming, tiles, across, 6, -pad, h)) * w * c_x
        x_end = (x_first * h + row_of(latest, tiles, across, 6, 8 - pad, h)) * w * c_x
        y_begin = (y_first * p_y + row_of(first, tiles, across, rows, 0, p_y)) * q_y * o
        y_end = (y_first * p_y + row_of(last, tiles, across, rows, rows, p_y)) * q_y * o
        for e in range(PLANES):
            ask_for(x, x_begin, x_end, 4, e, PLANES)
            if beside.size:
                ask_for(beside, x_begin, x_end, 4, e, PLANES)
            if times.size:
                ask_for(times, y_begin, y_end, 4, e, PLANES)
            ask_to_write(y, y_begin, y_end, e, PLANES)
            for panel in range(0, o_pad, PANEL):
                for t in range(0, count, ROWS):  # rows beyond count are computed and never read
                    tile_tall(v, e * v_plane + t * c_pad, c_pad, 1, 0, c, 1,
                              u, u0 + (e * o_pad + panel) * c, 0, PANEL,
                              m, e * m_plane + t * o_pad + panel, o_pad, False)  # fmt: skip
        for t in range(count):
            image, tile = y_first + (first + t) // tiles, (first + t) % tiles
            p, q = tile // across * 6, tile % across * 6
            for k in range(0, o, LANES):
                for j in range(8):
                    at = t * o_pad + k + j * m_plane
                    store6(half, j * LANES, 8 * LANES, _map_a_t(load8(m, at, 8 * m_plane)))
                at = ((image * p_y + p // pool) * q_y + q // pool) * o + k
                p_count, q_count = min(rows, p_y - p // pool), min(rows, q_y - q // pool)
                if pool == 1:
                    _write(half, load(bias, b0 + k), leak, times, y, at, p_count, q_count, q_y, o, o - k)
                else:
                    _write_pooled(half, load(bias, b0 + k), leak, y, index, at, p_count, q_count, q_y, o,
                                  o - k)  # fmt: skip


@inline
def _write(half, b, leak, times, y, at, p_count, q_count, q_y, o, count):
    """Write rows of A^T M A, of which `half` has the columns: with bias and activation, and multiplied by
    `times`."""
    for i in range(p_count):
        row, to = _map_a_t(load8(half, i * 8 * LANES, LANES)), at + i * q_y * o
        y0, y1, y2 = activate(row[0] + b, leak), activate(row[1] + b, leak), activate(row[2] + b, leak)
        y3, y4, y5 = activate(row[3] + b, leak), activate(row[4] + b, leak), activate(row[5] + b, leak)
        if q_count == 6 and count >= LANES and not times.size:
            store6(y, to, o, (y0, y1, y2, y3, y4, y5))
        else:
            _put(y, to, y0, times, count)
            _put(y, to + o, y1, times, count if q_count > 1 else 0)
            _put(y, to + 2 * o, y2, times, count if q_count > 2 else 0)
            _put(y, to + 3 * o, y3, times, count if q_count > 3 else 0)
            _put(y, to + 4 * o, y4, times, count if q_count > 4 else 0)
            _put(y, to + 5 * o, y5, times, count if q_count > 5 else 0)


@inline
def _put(y, at, value, times, count):
    """Write the first `count` lanes of a vector, multiplied by `times` if that is not empty."""
    if times.size:
        value = value * load_part(times, at, count)
    store_part(y, at, value, count)


@inline
def _write_pooled(half, b, leak, y, index, at, p_count, q_count, q_y, o, count):
    """As _write, but two rows at a time, and of each 2x2 window the maximum."""
    for i in range(p_count):
        top = _map_a_t(load8(half, 2 * i * 8 * LANES, LANES))
        low = _map_a_t(load8(half, (2 * i + 1) * 8 * LANES, LANES))
        to = at + i * q_y * o
        if q_count > 0:  # a tile of one column only, an odd last one, has no window
            _put_largest(y, index, to, (top[0], top[1], low[0], low[1]), b, leak, count)
        if q_count > 1:
            _put_largest(y, index, to + o, (top[2], top[3], low[2], low[3]), b, leak, count)
        if q_count > 2:
            _put_largest(y, index, to + 2 * o, (top[4], top[5], low[4], low[5]), b, leak, count)


@inline
def _put_largest(y, index, at, window, b, leak, count):
    """Write the largest of four activated values, and which one it is; the first one on a tie."""
    best, winner = activate(window[0] + b, leak), splat(np.float32(0))
    best, winner = _larger(activate(window[1] + b, leak), np.float32(1), best, winner)
    best, winner = _larger(activate(window[2] + b, leak), np.float32(2), best, winner)
    best, winner = _larger(activate(window[3] + b, leak), np.float32(3), best, winner)
    store_part(y, at, best, count)
    if index.size:
        store_bytes(index, at, winner, count)


@inline
def _larger(value, place, best, winner):
    return where_wins(value, best, value, best), where_wins(value, best, splat(place), winner)
