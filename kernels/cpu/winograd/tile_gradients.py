"""The gradients of tiles.py's convolution: its steps in reverse order.

    D = A dz A^T
    dU[e] = sum over tiles V[e]^T D[e]        dw = G^T dU G
    N[e] = D[e] U[e]^T                        dx += B N B^T

D is computed once for dw, db and dx, and dz is never stored; V is computed again from x. An image with
several tiles has overlapping 8x8 pixels of dx, which are added up.
"""

import numpy as np

from rotinv.kernels.cpu.direct import masked_part
from rotinv.kernels.cpu.jit import inline, part
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import LANES, load, load_part, splat, store, store_part, where_byte
from rotinv.kernels.cpu.vector.tile import PANEL, ROWS, SHORT, tile_4, tile_short, tile_tall
from rotinv.kernels.cpu.winograd.layer_table import (
    INDEX_AT,
    P_Z,
    PAD,
    POOL,
    Q_Z,
    U0,
    X_AT,
    Y_AT,
    C,
    H,
    O,
    W,
    ask_ahead,
    bytes_at,
    floats_at,
)
from rotinv.kernels.cpu.winograd.tiles import (
    B_T,
    GROUP,
    PLANES,
    A,
    G,
    load8,
    plane,
    store8,
    transform_input,
    within,
)

_map_a = make_linear_map(A)  # 6 -> 8
_map_b_t = make_linear_map(B_T.T)  # 8 -> 8
_map_g_t = make_linear_map(G.T)  # 8 -> 3


@inline
def _unpooled(dy, at, y, index, y_at, place, leak, count):
    """dz at one place of a pooled window: dy if that place won, else 0."""
    return where_byte(index, y_at, count, place, masked_part(dy, at, y, y_at, leak, count))


@part
def _transform_gradient(dy, dy0, y, index, y0, pool, leak, p_y, q_y, o, p, q, half, d, d0, plane):
    """D = A dz A^T for the 6x6 pixels of dz at (p, q), read from dy, which is `pool` times smaller.

    The image's dy is at dy0, its y and winners are at y0.
    """
    p, q = p // pool, q // pool
    for k in range(0, o, LANES):
        rest, step = o - k, q_y * o
        n0, n1, n2 = within(p, p_y, rest), within(p + 1, p_y, rest), within(p + 2, p_y, rest)
        n3, n4, n5 = within(p + 3, p_y, rest), within(p + 4, p_y, rest), within(p + 5, p_y, rest)
        for j in range(6):
            at = (p * q_y + q + j // pool) * o + k
            a, b = dy0 + at, y0 + at
            if q + j // pool >= q_y:
                zero = splat(np.float32(0))
                store8(half, j * LANES, 6 * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
            elif pool == 1:
                column = (
                    masked_part(dy, a, y, b, leak, n0),
                    masked_part(dy, a + step, y, b + step, leak, n1),
                    masked_part(dy, a + 2 * step, y, b + 2 * step, leak, n2),
                    masked_part(dy, a + 3 * step, y, b + 3 * step, leak, n3),
                    masked_part(dy, a + 4 * step, y, b + 4 * step, leak, n4),
                    masked_part(dy, a + 5 * step, y, b + 5 * step, leak, n5),
                )
                store8(half, j * LANES, 6 * LANES, _map_a(column))
            else:
                column = (
                    _unpooled(dy, a, y, index, b, j % 2, leak, n0),
                    _unpooled(dy, a, y, index, b, j % 2 + 2, leak, n0),
                    _unpooled(dy, a + step, y, index, b + step, j % 2, leak, n1),
                    _unpooled(dy, a + step, y, index, b + step, j % 2 + 2, leak, n1),
                    _unpooled(dy, a + 2 * step, y, index, b + 2 * step, j % 2, leak, n2),
                    _unpooled(dy, a + 2 * step, y, index, b + 2 * step, j % 2 + 2, leak, n2),
                )
                store8(half, j * LANES, 6 * LANES, _map_a(column))
        for i in range(8):
            at = i * 6 * LANES
            row = _map_a((load(half, at), load(half, at + LANES), load(half, at + 2 * LANES),
                          load(half, at + 3 * LANES), load(half, at + 4 * LANES),
                          load(half, at + 5 * LANES)))  # fmt: skip
            store8(d, d0 + k + i * 8 * plane, plane, row)


@part
def _add_input_gradient(v, v0, plane, half, dx, dx0, h, w, c, i0, j0):
    """Add B N B^T to the 8x8 pixels at (i0, j0) of an image's dx, from dx0 on; `v` has the planes of N."""
    for k in range(0, c, LANES):
        for j in range(8):
            store8(half, j * LANES, 8 * LANES, _map_b_t(load8(v, v0 + k + j * plane, 8 * plane)))
        for i in range(max(0, -i0), min(8, h - i0)):
            row = _map_b_t(load8(half, i * 8 * LANES, LANES))
            for j in range(8):
                if 0 <= j0 + j < w:
                    at = dx0 + ((i0 + i) * w + j0 + j) * c + k
                    if c - k >= LANES:
                        store(dx, at, load(dx, at) + row[j])
                    else:
                        store_part(dx, at, load_part(dx, at, c - k) + row[j], c - k)


@part
def gradient_tiles(table, layer, dy, dy_first, first, count, leak, u, du, du0, add, parts_b, b0, dx, wanted,
                   v, d, half, ahead, ahead_first, ahead_count, last_dy):  # fmt: skip
    """Go backward through the layer's convolution of `count` images, the first of which is number `first`.

    The sum of V[e]^T D[e], du[e][panel][c][PANEL], is written from du0 on, or added to what is there if
    `add`; db is added to parts_b from b0 on. Their dx is added to dx if it is wanted. The images' dy begin
    with number dy_first of `dy`. Meanwhile the maps are prefetched that the layer `ahead` reads of its
    ahead_count images from ahead_first on. v, d and half are scratch.
    """
    row = table[layer]
    h, w, c, o, p_z, q_z, pad, pool = row[H], row[W], row[C], row[O], row[P_Z], row[Q_Z], row[PAD], row[POOL]
    x, y, index = floats_at(row[X_AT]), floats_at(row[Y_AT]), bytes_at(row[INDEX_AT])
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    n_pad = (c + PANEL - 1) // PANEL * PANEL
    across, tiles = (q_z + 5) // 6, (p_z + 5) // 6 * ((q_z + 5) // 6)
    p_y, q_y = p_z // pool, q_z // pool
    v_plane, d_plane = plane(n_pad), plane(o_pad)
    groups = max(1, (count * tiles + GROUP - 1) // GROUP)  # a slot without images writes zeros
    for group in range(groups):
        begin = group * count * tiles // groups
        size = (group + 1) * count * tiles // groups - begin
        for t in range(size):
            image, tile = (begin + t) // tiles, (begin + t) % tiles
            i, j = tile // across * 6, tile % across * 6
            transform_input(x, (first + image) * h * w * c, h, w, c, i - pad, j - pad,
                            half, v, t * n_pad, v_plane)  # fmt: skip
            _transform_gradient(dy, (dy_first + image) * p_y * q_y * o, y, index,
                                (first + image) * p_y * q_y * o, pool, leak, p_y, q_y, o, i, j,
                                half, d, t * o_pad, d_plane)  # fmt: skip
            for k in range(0, o, LANES):
                # At the points (1, 1) D is the sum of the tile's dz: that is its part of db.
                total = load(parts_b, b0 + k) + load(d, 9 * d_plane + t * o_pad + k)
                store(parts_b, b0 + k, total)
        for e in range(PLANES):
            ask_ahead(table, ahead, ahead_first, ahead_count, last_dy, group * PLANES + e, groups * PLANES)
            for panel in range(0, o_pad, PANEL):
                for channel in range(0, c_pad, SHORT):
                    tile_short(v, e * v_plane + channel, 1, 1, 0, size, n_pad,
                               d, e * d_plane + panel, 0, o_pad,
                               du, du0 + (e * o_pad + panel) * c_pad + channel * PANEL, PANEL,
                               add or group > 0)  # fmt: skip
            if wanted:
                _rows(d, e * d_plane, o_pad, o, u, row[U0] + e * n_pad * o, v, e * v_plane, n_pad, size)
        if wanted:
            for t in range(size):
                image, tile = (begin + t) // tiles, (begin + t) % tiles
                i, j = tile // across * 6 - pad, tile % across * 6 - pad
                _add_input_gradient(v, t * n_pad, v_plane, half, dx, image * h * w * c, h, w, c, i, j)


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


@part
def weight_gradient(du, du0, c, o, half, dw, dw0):
    """dw = G^T dU G, written from dw0 on."""
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    plane = c_pad * o_pad
    for channel in range(c):
        for k in range(0, o, LANES):
            at = du0 + (k // PANEL * c_pad + channel) * PANEL + k % PANEL
            for j in range(8):
                column = _map_g_t(load8(du, at + j * plane, 8 * plane))
                for i in range(3):
                    store(half, (i * 8 + j) * LANES, column[i])
            for i in range(3):
                row = _map_g_t(load8(half, i * 8 * LANES, LANES))
                for j in range(3):
                    store_part(dw, dw0 + ((i * 3 + j) * c + channel) * o + k, row[j], o - k)
