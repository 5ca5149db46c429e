"""3x3 convolution with a fifth of the multiplications: Winograd's minimal filtering F(6x6, 3x3).

A convolution multiplies polynomials. In one dimension, six outputs of a filter of three taps take 18
products. But the product of two polynomials is known once it is known at enough points: evaluate both there,
multiply value by value, and interpolate. Six outputs depend on eight inputs, and eight points are enough:
0, +-1, +-2, +-1/2 and infinity. So y = A^T ((G w) * (B^T x)), with * value by value and A, B, G the small
constant matrices below (Lavin & Gray 2016; G evaluates w, B^T and A^T are the transposes of the interpolation
and of the evaluation). In two dimensions every matrix acts on rows and on columns, and the 36 outputs of
a 6x6 tile take 64 products instead of 324:

    y = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A        x_c: the 8x8 inputs under the tile.

The sum over channels makes each of the 64 planes (one for each pair of points) a matrix product, V (tiles,
c) times U (c, o), and there the time goes: the register tile does it. Tiles are taken in groups, so that the
planes of a group stay in cache:

    V[e][tile][c] = B^T x B        M[e] = V[e] U[e]        y = A^T M A, then bias, activation, pooling.

The gradient of the weights is the adjoint of the same steps: D = A dz A^T, dU[e] = V[e]^T D[e] summed
over tiles, dw = G^T dU G. That of the input is a convolution of dz with flipped weights.

Tiles reaching over the edge read zeros and write only what exists, so every size works. Rounding is
some ten times that of a direct sum, as the points +-2 to the fifth power amplify it: 3e-6 of a map's rms.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.direct import SLOTS, activate, add_slots
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.simd import (
    LANES,
    PANEL,
    ROWS,
    SHORT,
    load,
    load_part,
    make_linear_map,
    splat,
    store,
    store_bytes,
    store_part,
    stream,
    tile_4,
    tile_short,
    tile_tall,
    where_byte,
    where_positive,
    where_wins,
)

GROUP = 24  # tiles computed together, a multiple of ROWS
GROUP_BACK = 25  # tiles at most between two additions to dU: fewer cost its traffic, more the cache
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
_POINTS = np.array([0, 1, -1, 2, -2, 1 / 2, -1 / 2])
_SCALES = np.array([1, -2 / 9, -2 / 9, 1 / 90, 1 / 90, 32 / 45, 32 / 45])
G = np.vstack([_SCALES[:, None] * _POINTS[:, None] ** range(3), [[0, 0, 1]]])
A = np.vstack([_POINTS[:, None] ** range(6), [[0, 0, 0, 0, 0, 1]]])

_map_b = make_linear_map(B_T)  # 8 -> 8
_map_b_t = make_linear_map(B_T.T)  # 8 -> 8
_map_g = make_linear_map(G)  # 3 -> 8
_map_g_t = make_linear_map(G.T)  # 8 -> 3
_map_a = make_linear_map(A)  # 6 -> 8
_map_a_t = make_linear_map(A.T)  # 8 -> 6


def suits(w):
    """Whether Winograd pays: 3x3 taps, and channels enough to fill vectors."""
    return w.shape[:2] == (3, 3) and min(w.shape[2:]) >= 16


def convolve(x, w, b, pad, slope, pool, shape):
    """As direct.convolve, for 3x3 weights."""
    n, p, q = len(x), shape[1] // pool, shape[2] // pool
    c, o = w.shape[2:]
    o_pad = -(-o // PANEL) * PANEL
    u = np.empty(PLANES * c * o_pad, np.float32)
    _transform_weights(np.ascontiguousarray(w).reshape(-1), c, o, u)
    bias = np.zeros(o_pad, np.float32)
    bias[:o] = b
    y = memory.empty((n, p, q, o))
    index = np.empty((n, p, q, o) if pool == 2 else 0, np.uint8)
    _convolve(x.reshape(-1), *x.shape, u, bias, pad, np.float32(slope), pool,
              y.reshape(-1), index.reshape(-1), shape[1], shape[2], o)  # fmt: skip
    return y, index if pool == 2 else None


def backward(x, w, y, index, dy, pad, slope, dw, db, wanted):
    """As Conv2dKernels.backward: the three passes share D, and dz is never written."""
    c, o = w.shape[2:]
    c_pad, o_pad = -(-c // LANES) * LANES, -(-o // PANEL) * PANEL
    du = np.empty(SLOTS * PLANES * c_pad * o_pad, np.float32)
    parts_b = np.zeros(SLOTS * o_pad, np.float32)
    u = np.empty(PLANES * o * -(-c // PANEL) * PANEL if wanted else 0, np.float32)
    if wanted:
        _transform_weights(np.ascontiguousarray(w.transpose(0, 1, 3, 2)).reshape(-1), o, c, u)
    dx = memory.empty(x.shape if wanted else (0,))
    pool, place = (1, np.empty(0, np.uint8)) if index is None else (2, index.reshape(-1))
    p, q = x.shape[1] + 2 * pad - 2, x.shape[2] + 2 * pad - 2
    _backward(x.reshape(-1), *x.shape, dy.reshape(-1), y.reshape(-1), place, pool, np.float32(slope), p, q, o,
              pad, du, parts_b, u, dx.reshape(-1))  # fmt: skip
    _gather_weights(du, c, o, dw.reshape(-1))
    add_slots(parts_b.reshape(SLOTS, o_pad)[:, :o], db)
    return dx if wanted else None


@inline
def _load8(a, at, step):
    """Eight vectors of a, `step` apart."""
    return (load(a, at), load(a, at + step), load(a, at + 2 * step), load(a, at + 3 * step),
            load(a, at + 4 * step), load(a, at + 5 * step), load(a, at + 6 * step),
            load(a, at + 7 * step))  # fmt: skip


@inline
def _store8(a, at, step, v):
    store(a, at, v[0])
    store(a, at + step, v[1])
    store(a, at + 2 * step, v[2])
    store(a, at + 3 * step, v[3])
    store(a, at + 4 * step, v[4])
    store(a, at + 5 * step, v[5])
    store(a, at + 6 * step, v[6])
    store(a, at + 7 * step, v[7])


@inline
def _count(i, size, count):
    """How many channels a pixel of row i has: none outside the map."""
    return count if 0 <= i < size else 0


@kernel
def _transform_weights(w, c, o, u):
    """U = G w G^T, as u[e][panel][c][PANEL]."""
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    for channel in prange(c):
        half = np.empty(24 * LANES, np.float32)
        for k in range(0, o_pad, LANES):
            for j in range(3):
                at = (j * c + channel) * o + k
                column = (load_part(w, at, o - k), load_part(w, at + 3 * c * o, o - k),
                          load_part(w, at + 6 * c * o, o - k))  # fmt: skip
                _store8(half, j * LANES, 3 * LANES, _map_g(column))
            at = k // PANEL * c * PANEL + channel * PANEL + k % PANEL
            for i in range(8):
                row = i * 3 * LANES
                full = _map_g((load(half, row), load(half, row + LANES), load(half, row + 2 * LANES)))
                _store8(u, i * 8 * c * o_pad + at, c * o_pad, full)


@inline
def _transform_input(x, start, h, w, c, i0, j0, half, v, v0, plane):
    """V = B^T x B of the 8x8 pixels at (i0, j0) of the image at `start`; v[e plane + channel] from v0 on."""
    for k in range(0, c, LANES):
        rest, step = c - k, w * c
        n0, n1, n2 = _count(i0, h, rest), _count(i0 + 1, h, rest), _count(i0 + 2, h, rest)
        n3, n4, n5 = _count(i0 + 3, h, rest), _count(i0 + 4, h, rest), _count(i0 + 5, h, rest)
        n6, n7 = _count(i0 + 6, h, rest), _count(i0 + 7, h, rest)
        for j in range(8):
            if 0 <= j0 + j < w:
                at = start + (i0 * w + j0 + j) * c + k
                column = (
                    load_part(x, at, n0), load_part(x, at + step, n1), load_part(x, at + 2 * step, n2),
                    load_part(x, at + 3 * step, n3), load_part(x, at + 4 * step, n4),
                    load_part(x, at + 5 * step, n5), load_part(x, at + 6 * step, n6),
                    load_part(x, at + 7 * step, n7),
                )  # fmt: skip
                _store8(half, j * LANES, 8 * LANES, _map_b(column))
            else:
                zero = splat(np.float32(0))
                _store8(half, j * LANES, 8 * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
        for i in range(8):
            row = _map_b(_load8(half, i * 8 * LANES, LANES))
            _store8(v, v0 + k + i * 8 * plane, plane, row)


@kernel
def _convolve(x, n, h, w, c, u, bias, pad, slope, pool, y, index, p_z, q_z, o):
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    across, tiles = (q_z + 5) // 6, (p_z + 5) // 6 * ((q_z + 5) // 6)
    # Sixteen floats more, or the 64 planes would fall on the same sets of the cache.
    v_plane, m_plane = GROUP * c_pad + 16, GROUP * o_pad + 16
    leak = splat(slope)
    for group in prange((n * tiles + GROUP - 1) // GROUP):
        v, m = np.empty(PLANES * v_plane, np.float32), np.empty(PLANES * m_plane, np.float32)
        half = np.empty(64 * LANES, np.float32)
        count = min(GROUP, n * tiles - group * GROUP)
        for t in range(count):
            image, tile = (group * GROUP + t) // tiles, (group * GROUP + t) % tiles
            i0, j0 = tile // across * 6 - pad, tile % across * 6 - pad
            _transform_input(x, image * h * w * c, h, w, c, i0, j0, half, v, t * c_pad, v_plane)
        for e in range(PLANES):
            for panel in range(0, o_pad, PANEL):
                for t in range(0, count, ROWS):  # rows beyond count are computed and never read
                    tile_tall(v, e * v_plane + t * c_pad, c_pad, 1, 0, c, 1,
                              u, (e * o_pad + panel) * c, 0, PANEL,
                              m, e * m_plane + t * o_pad + panel, o_pad, False)  # fmt: skip
        for t in range(count):
            image, tile = (group * GROUP + t) // tiles, (group * GROUP + t) % tiles
            p, q = tile // across * 6, tile % across * 6
            for k in range(0, o, LANES):
                for j in range(8):
                    at = t * o_pad + k + j * m_plane
                    column = _map_a_t(_load8(m, at, 8 * m_plane))
                    for i in range(6):
                        store(half, (i * 8 + j) * LANES, column[i])
                if pool == 1:
                    at = ((image * p_z + p) * q_z + q) * o + k
                    _write(half, load(bias, k), leak, y, at, min(6, p_z - p), min(6, q_z - q), q_z, o, o - k)
                else:
                    p_y, q_y = p_z // 2, q_z // 2
                    at = ((image * p_y + p // 2) * q_y + q // 2) * o + k
                    _write_pooled(half, load(bias, k), leak, y, index, at,
                                  min(3, p_y - p // 2), min(3, q_y - q // 2), q_y, o, o - k)  # fmt: skip


@inline
def _write(half, b, leak, y, at, p_count, q_count, q_y, o, count):
    """Rows of A^T M A from its columns in `half`, with bias and activation."""
    for i in range(p_count):
        row = _map_a_t(_load8(half, i * 8 * LANES, LANES))
        if o % LANES == 0:
            for j in range(q_count):
                stream(y, at + (i * q_y + j) * o, activate(row[j] + b, leak))
        else:
            for j in range(q_count):
                store_part(y, at + (i * q_y + j) * o, activate(row[j] + b, leak), count)


@inline
def _write_pooled(half, b, leak, y, index, at, p_count, q_count, q_y, o, count):
    """The same, two rows at a time: the first maximum of each 2x2 window of activated values."""
    for i in range(p_count):
        top = _map_a_t(_load8(half, 2 * i * 8 * LANES, LANES))
        low = _map_a_t(_load8(half, (2 * i + 1) * 8 * LANES, LANES))
        for j in range(q_count):
            best, winner = activate(top[2 * j] + b, leak), splat(np.float32(0))
            for place in range(1, 4):
                value = top[2 * j + 1] if place == 1 else low[2 * j + place - 2]
                value = activate(value + b, leak)
                winner = where_wins(value, best, splat(np.float32(place)), winner)
                best = where_wins(value, best, value, best)
            store_part(y, at + (i * q_y + j) * o, best, count)
            store_bytes(index, at + (i * q_y + j) * o, winner, count)


@inline
def _masked(dy, y, at, leak, count):
    """dz = dy where y > 0, slope dy elsewhere, of so many channels."""
    d = load_part(dy, at, count)
    return where_positive(load_part(y, at, count), d, leak * d)


@inline
def _unpooled(dy, y, index, at, place, leak, count):
    """dz at a place of a pooled window: dy where that place won."""
    return where_byte(index, at, count, place, _masked(dy, y, at, leak, count))


@inline
def _transform_gradient(dy, y, index, pool, leak, start, p_y, q_y, o, p, q, half, d, d0, plane):
    """D = A dz A^T of the 6x6 pixels at (p, q), pixels of dy = those of dz / pool; `start` its image."""
    p, q = p // pool, q // pool
    for k in range(0, o, LANES):
        rest, step = o - k, q_y * o
        n0, n1, n2 = _count(p, p_y, rest), _count(p + 1, p_y, rest), _count(p + 2, p_y, rest)
        n3, n4, n5 = _count(p + 3, p_y, rest), _count(p + 4, p_y, rest), _count(p + 5, p_y, rest)
        for j in range(6):
            at = start + (p * q_y + q + j // pool) * o + k
            if q + j // pool >= q_y:
                zero = splat(np.float32(0))
                _store8(half, j * LANES, 6 * LANES, (zero, zero, zero, zero, zero, zero, zero, zero))
            elif pool == 1:
                column = (
                    _masked(dy, y, at, leak, n0), _masked(dy, y, at + step, leak, n1),
                    _masked(dy, y, at + 2 * step, leak, n2), _masked(dy, y, at + 3 * step, leak, n3),
                    _masked(dy, y, at + 4 * step, leak, n4), _masked(dy, y, at + 5 * step, leak, n5),
                )  # fmt: skip
                _store8(half, j * LANES, 6 * LANES, _map_a(column))
            else:
                column = (
                    _unpooled(dy, y, index, at, j % 2, leak, n0),
                    _unpooled(dy, y, index, at, j % 2 + 2, leak, n0),
                    _unpooled(dy, y, index, at + step, j % 2, leak, n1),
                    _unpooled(dy, y, index, at + step, j % 2 + 2, leak, n1),
                    _unpooled(dy, y, index, at + 2 * step, j % 2, leak, n2),
                    _unpooled(dy, y, index, at + 2 * step, j % 2 + 2, leak, n2),
                )  # fmt: skip
                _store8(half, j * LANES, 6 * LANES, _map_a(column))
        for i in range(8):
            at = i * 6 * LANES
            row = _map_a((load(half, at), load(half, at + LANES), load(half, at + 2 * LANES),
                          load(half, at + 3 * LANES), load(half, at + 4 * LANES),
                          load(half, at + 5 * LANES)))  # fmt: skip
            _store8(d, d0 + k + i * 8 * plane, plane, row)


@inline
def _add_input_gradient(v, v0, plane, half, dx, h, w, c, i0, j0):
    """Add B N B^T, N the planes in v, to the 8x8 pixels at (i0, j0) of an image's dx."""
    for k in range(0, c, LANES):
        for j in range(8):
            _store8(half, j * LANES, 8 * LANES, _map_b_t(_load8(v, v0 + k + j * plane, 8 * plane)))
        for i in range(max(0, -i0), min(8, h - i0)):
            row = _map_b_t(_load8(half, i * 8 * LANES, LANES))
            for j in range(8):
                if 0 <= j0 + j < w:
                    at = ((i0 + i) * w + j0 + j) * c + k
                    store_part(dx, at, load_part(dx, at, c - k) + row[j], c - k)


@inline
def _copy_out(image, dx, start, size):
    """dx[start : start + size] = image."""
    if size % LANES == 0:
        for at in range(0, size, LANES):
            stream(dx, start + at, load(image, at))
    else:
        for at in range(size):
            dx[start + at] = image[at]


@kernel
def _backward(x, n, h, w, c, dy, y, index, pool, slope, p_z, q_z, o, pad, du, parts_b, u, dx):
    """Sum V[e]^T D[e] of a slot's tiles into du[slot][e][panel][c][PANEL], and dz; write dx if it has any."""
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    n_pad = (c + PANEL - 1) // PANEL * PANEL
    across, tiles = (q_z + 5) // 6, (p_z + 5) // 6 * ((q_z + 5) // 6)
    p_y, q_y = p_z // pool, q_z // pool
    v_plane, d_plane = (GROUP_BACK + 3) * n_pad + 16, (GROUP_BACK + 3) * o_pad + 16
    leak = splat(slope)
    for slot in prange(SLOTS):
        v, d = np.empty(PLANES * v_plane, np.float32), np.zeros(PLANES * d_plane, np.float32)
        half, gathered = np.empty(64 * LANES, np.float32), np.empty(h * w * c, np.float32)
        begin, end = slot * n // SLOTS * tiles, (slot + 1) * n // SLOTS * tiles
        du0 = slot * PLANES * c_pad * o_pad
        groups = max(1, (end - begin + GROUP_BACK - 1) // GROUP_BACK)  # one of no tile writes zeros
        for group in range(groups):
            first = begin + group * (end - begin) // groups
            count = begin + (group + 1) * (end - begin) // groups - first
            for t in range(count):
                image, tile = (first + t) // tiles, (first + t) % tiles
                i, j = tile // across * 6, tile % across * 6
                _transform_input(x, image * h * w * c, h, w, c, i - pad, j - pad, half, v, t * n_pad, v_plane)
                _transform_gradient(dy, y, index, pool, leak, image * p_y * q_y * o, p_y, q_y, o, i, j,
                                    half, d, t * o_pad, d_plane)  # fmt: skip
                for k in range(0, o, LANES):
                    # The plane of the points (1, 1) holds the sum of the tile.
                    total = load(parts_b, slot * o_pad + k) + load(d, 9 * d_plane + t * o_pad + k)
                    store(parts_b, slot * o_pad + k, total)
            for e in range(PLANES):
                for panel in range(0, o_pad, PANEL):
                    for row in range(0, c_pad, SHORT):
                        tile_short(v, e * v_plane + row, 1, 1, 0, count, n_pad,
                                   d, e * d_plane + panel, 0, o_pad,
                                   du, du0 + (e * o_pad + panel) * c_pad + row * PANEL, PANEL,
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


@inline
def _rows(d, d0, d_step, o, u, u0, v, v0, v_step, count):
    """N (count, c) = D (count, o) U (o, c) of a plane; some rows beyond count are computed, never read."""
    for panel in range(0, v_step, PANEL):
        t = 0
        while t < count:
            if t + ROWS <= count:
                tile_tall(d, d0 + t * d_step, d_step, 1, 0, o, 1, u, u0 + panel * o, 0, PANEL,
                          v, v0 + t * v_step + panel, v_step, False)  # fmt: skip
                t += ROWS
            else:
                tile_4(d, d0 + t * d_step, d_step, 1, 0, o, 1, u, u0 + panel * o, 0, PANEL,
                       v, v0 + t * v_step + panel, v_step, False)  # fmt: skip
                t += 4


@kernel
def _gather_weights(du, c, o, dw):
    """dw = G^T dU G, of the slots' sum in their order."""
    c_pad, o_pad = (c + LANES - 1) // LANES * LANES, (o + PANEL - 1) // PANEL * PANEL
    plane = c_pad * o_pad
    for e in prange(PLANES):
        for at in range(e * plane, (e + 1) * plane, LANES):
            total = load(du, at)
            for slot in range(1, SLOTS):
                total = total + load(du, slot * PLANES * plane + at)
            store(du, at, total)
    for channel in prange(c):
        half = np.empty(24 * LANES, np.float32)
        for k in range(0, o, LANES):
            for j in range(8):
                column = _map_g_t(
                    _load8(du, j * plane + (k // PANEL * c_pad + channel) * PANEL + k % PANEL, 8 * plane)
                )
                for i in range(3):
                    store(half, (i * 8 + j) * LANES, column[i])
            for i in range(3):
                row = _map_g_t(_load8(half, i * 8 * LANES, LANES))
                for j in range(3):
                    store_part(dw, ((i * 3 + j) * c + channel) * o + k, row[j], o - k)
