"""The gradient of few.py's weights, by its steps in reverse order.

    D = A dz A^T        dU[e] = sum over tiles V[e]^T D[e]        dw = G^T dU G

V is computed again from x. Many tiles are taken together: with four channels, a plane of dU is four rows of
sums, which stay in registers for all of them.
"""

import numpy as np

from rotinv.kernels.cpu.direct import masked_part
from rotinv.kernels.cpu.jit import inline, part
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import LANES, load, splat, store, store_part
from rotinv.kernels.cpu.vector.tile import PANEL, tile_4
from rotinv.kernels.cpu.winograd.few import MOST, STEP, TAPS, A, G, transform_tiles
from rotinv.kernels.cpu.winograd.tiles import PLANES, load8, store8, within

TOGETHER = 25  # tiles, those of a map of 24x24: their planes of D fit the second-level cache

_map_a = make_linear_map(A)  # 5 -> 8
_map_g_t = make_linear_map(G.T)  # 8 -> 4


@inline
def v_numbers(q_z):
    """Size of the scratch array for V of the tiles that are taken together."""
    return _rows_together(q_z) * ((q_z + STEP - 1) // STEP) * PLANES * MOST


@inline
def d_numbers(q_z, o_pad):
    """Size of the scratch array for their D."""
    return PLANES * (_rows_together(q_z) * ((q_z + STEP - 1) // STEP) * o_pad + 16)


@inline
def _rows_together(q_z):
    """How many rows of tiles are taken together: those of a map of 24x24, or few of a large map."""
    return max(1, TOGETHER // ((q_z + STEP - 1) // STEP))


@part
def gradient_few(padded, dy, dy0, y, y0, leak, p_z, q_z, o, du, parts_b, b0, v, d, half):
    """Add an image's dU to du[e][panel][MOST][PANEL], and its db to parts_b from b0 on.

    copy_turned copied the image into `padded`. Its dy is at dy0 and its y at y0; v, d and half are scratch.
    """
    o_pad, across = (o + PANEL - 1) // PANEL * PANEL, (q_z + STEP - 1) // STEP
    rows = _rows_together(q_z)
    d_plane = rows * across * o_pad + 16
    for top in range(0, p_z, rows * STEP):
        tiles = 0
        for p in range(top, min(p_z, top + rows * STEP), STEP):
            transform_tiles(padded, p, p_z, q_z, v, tiles * PLANES * MOST)
            for q in range(0, q_z, STEP):
                _transform_gradient(dy, dy0, y, y0, leak, p_z, q_z, o, p, q, half, d, tiles * o_pad, d_plane)
                for k in range(0, o, LANES):
                    # At the points (1, 1) D is the sum of the tile's dz: that is its part of db.
                    total = load(parts_b, b0 + k) + load(d, 9 * d_plane + tiles * o_pad + k)
                    store(parts_b, b0 + k, total)
                tiles += 1
        for e in range(PLANES):
            for panel in range(0, o_pad, PANEL):
                tile_4(v, e * MOST, 1, 1, 0, tiles, PLANES * MOST, d, e * d_plane + panel, 0, o_pad,
                       du, (e * o_pad + panel) * MOST, PANEL, True)  # fmt: skip


@part
def _transform_gradient(dy, dy0, y, y0, leak, p_z, q_z, o, p, q, half, d, d0, plane):
    """D = A dz A^T for the 5x5 pixels of dz at (p, q); the image's dy is at dy0, its y at y0."""
    for k in range(0, o, LANES):
        rest, step = o - k, q_z * o
        n0, n1, n2 = within(p, p_z, rest), within(p + 1, p_z, rest), within(p + 2, p_z, rest)
        n3, n4 = within(p + 3, p_z, rest), within(p + 4, p_z, rest)
        for j in range(STEP):
            if q + j < q_z:
                at = (p * q_z + q + j) * o + k
                a, b = dy0 + at, y0 + at
                column = (
                    masked_part(dy, a, y, b, leak, n0),
                    masked_part(dy, a + step, y, b + step, leak, n1),
                    masked_part(dy, a + 2 * step, y, b + 2 * step, leak, n2),
                    masked_part(dy, a + 3 * step, y, b + 3 * step, leak, n3),
                    masked_part(dy, a + 4 * step, y, b + 4 * step, leak, n4),
                )
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
def weight_gradient_few(du, c, o, half, dw, dw0):
    """dw = G^T dU G, written from dw0 on."""
    plane = MOST * ((o + PANEL - 1) // PANEL * PANEL)
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
