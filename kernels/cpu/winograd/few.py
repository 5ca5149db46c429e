"""4x4 convolution of maps of few channels, as stamps are: Winograd's F(5x5, 4x4), a sixth of the products.

It is tiles.py's method at the same eight points: five outputs of a filter with four taps depend on eight
inputs as well. A tile's 64 products of each pair of channels then give 25 outputs instead of 36; direct sums
would take 400.

With four channels the products are so few that storing them would take longer than to multiply. So one column
of planes of TILES tiles is summed in registers and mapped to five rows by A^T at once; V of a map's row of
tiles, and U, fit the first-level cache. An image is first copied with its padding, and there a row's pixels
and channels are one run of memory: B^T maps rows in whole vectors.
"""

import numpy as np

from rotinv.kernels.cpu.cyclic import turned_from
from rotinv.kernels.cpu.direct import activate, copy_padded
from rotinv.kernels.cpu.jit import inline, part
from rotinv.kernels.cpu.panels import whole
from rotinv.kernels.cpu.vector.linear_map import make_linear_map
from rotinv.kernels.cpu.vector.simd import (
    LANES,
    fma,
    load,
    load_part,
    load_splat,
    splat,
    store,
    store_low,
    store_part,
)
from rotinv.kernels.cpu.winograd.tiles import B_T, PLANES, POINTS, SCALES, load8, map_b, store8

STEP, TAPS = 5, 4  # outputs of a tile in each direction, taps of the filter
MOST = 4  # channels: no more than the narrowest vector has lanes

G = np.vstack([SCALES[:, None] * POINTS[:, None] ** range(TAPS), [[0, 0, 0, 1]]])
A = np.vstack([POINTS[:, None] ** range(STEP), [[0, 0, 0, 0, 1]]])

_map_g = make_linear_map(G)  # 4 -> 8
_map_a_t = make_linear_map(A.T)  # 8 -> 5

assert B_T.shape == (STEP + TAPS - 1, STEP + TAPS - 1)


def suits(shape):
    """Whether this pays for weights of a shape: 4x4 taps, few channels in, and enough to fill vectors out."""
    return shape[:2] == (TAPS, TAPS) and shape[2] <= MOST and shape[3] >= 16


def transform_weights(w, c, o, u):
    """U = G w G^T, as u[block of LANES outputs][j][channel of MOST][i][LANES]; zeros beyond c and o."""
    o_pad = whole(o)
    planes = np.zeros((8, 8, MOST, o_pad))
    half = np.einsum("xi,ijco->xjco", G, np.float64(w.reshape(TAPS, TAPS, c, o)))
    planes[:, :, :c, :o] = np.einsum("yj,xjco->xyco", G, half)
    blocks = planes.reshape(8, 8, MOST, o_pad // LANES, LANES).transpose(3, 1, 2, 0, 4)
    u[: planes.size].reshape(blocks.shape)[...] = blocks


@inline
def padded_width(q_z):
    """Pixels of a row under the tiles of a row of q_z outputs."""
    return (q_z + STEP - 1) // STEP * STEP + TAPS - 1


@inline
def padded_numbers(p_z, q_z):
    """Size of the scratch array for an image with its padding and, after it, eight of its rows."""
    down = (p_z + STEP - 1) // STEP * STEP + TAPS - 1
    return (down + 8) * (padded_width(q_z) * MOST + LANES)


@inline
def row_numbers(q_z):
    """Size of the scratch array for V of a row of tiles and one more."""
    return ((q_z + STEP - 1) // STEP + 1) * PLANES * MOST


@inline
def copy_turned(x, start, turns, h, w, c, pad, padded, width):
    """Copy the image (h, w, c) at `start` of x, turned, into `padded` (…, width, MOST), `pad` pixels from its
    edges."""
    if turns == 0 and c == MOST:
        copy_padded(x, start, h, w, c, pad, padded, width)
    else:
        for i in range(h):
            for j in range(w):
                si, sj = turned_from(turns, i, j, h - 1)
                pixel = load_part(x, start + (si * w + sj) * c, c)
                store_low(padded, ((i + pad) * width + j + pad) * MOST, pixel)


@part
def transform_tiles(padded, p, p_z, q_z, v, v0):
    """V = B^T x B of a row of tiles, whose outputs begin at row p, as v[tile][plane][MOST] from v0 on.

    The columns of all tiles are transformed at once, into eight rows behind the image, then each tile's rows.
    """
    run = padded_width(q_z) * MOST
    step = run + LANES  # of the eight rows, whose vectors end beyond a row
    rows = ((p_z + STEP - 1) // STEP * STEP + TAPS - 1) * step
    for k in range(0, run, LANES):
        store8(padded, rows + k, step, map_b(load8(padded, p * run + k, run)))
    for tile in range((q_z + STEP - 1) // STEP):
        for i in range(8):
            at, to = rows + i * step + tile * STEP * MOST, v0 + (tile * 8 + i) * 8 * MOST
            _store8_low(v, to, map_b(load8(padded, at, MOST)))


@part
def convolve_few(padded, u, bias, leak, y, y0, p_z, q_z, o, v, half):
    """Write a map of y, from y0 on, of an image that copy_turned copied; v and half are scratch."""
    across = (q_z + STEP - 1) // STEP
    for p in range(0, p_z, STEP):
        transform_tiles(padded, p, p_z, q_z, v, 0)
        for k in range(0, o, LANES):
            for tile in range(0, across, 2):  # an odd last one is computed with one that is never read
                for j in range(8):
                    one, two = _columns(v, (tile * 64 + j) * MOST, u, (k * 8 + j * LANES) * MOST * 8)
                    _store5(half, j * LANES, 8 * LANES, _map_a_t(one))
                    _store5(half, (40 + j) * LANES, 8 * LANES, _map_a_t(two))
                for q in range(tile * STEP, min(q_z, (tile + 2) * STEP), STEP):
                    at, first = y0 + (p * q_z + q) * o + k, (q - tile * STEP) * 8 * LANES
                    _write(half, first, load(bias, k), leak, y, at, min(STEP, p_z - p), min(STEP, q_z - q),
                           q_z, o, o - k)  # fmt: skip


@inline
def _columns(v, v0, u, u0):
    """M of a column of eight planes, for two tiles side by side: the sums of V U over channels."""
    zero = splat(np.float32(0))
    one = zero, zero, zero, zero, zero, zero, zero, zero
    two = one
    for channel in range(MOST):
        planes = load8(u, u0 + channel * 8 * LANES, LANES)
        one = _fma8(v, v0 + channel, planes, one)
        two = _fma8(v, v0 + channel + PLANES * MOST, planes, two)
    return one, two


@inline
def _fma8(v, at, u, m):
    """m + V U, for one V of each of a column of planes."""
    step = 8 * MOST
    return (
        fma(load_splat(v, at), u[0], m[0]), fma(load_splat(v, at + step), u[1], m[1]),
        fma(load_splat(v, at + 2 * step), u[2], m[2]), fma(load_splat(v, at + 3 * step), u[3], m[3]),
        fma(load_splat(v, at + 4 * step), u[4], m[4]), fma(load_splat(v, at + 5 * step), u[5], m[5]),
        fma(load_splat(v, at + 6 * step), u[6], m[6]), fma(load_splat(v, at + 7 * step), u[7], m[7]),
    )  # fmt: skip


@inline
def _store8_low(v, at, vectors):
    """The channels of eight vectors, one after another."""
    store_low(v, at, vectors[0])
    store_low(v, at + MOST, vectors[1])
    store_low(v, at + 2 * MOST, vectors[2])
    store_low(v, at + 3 * MOST, vectors[3])
    store_low(v, at + 4 * MOST, vectors[4])
    store_low(v, at + 5 * MOST, vectors[5])
    store_low(v, at + 6 * MOST, vectors[6])
    store_low(v, at + 7 * MOST, vectors[7])


@inline
def _store5(a, at, step, v):
    store(a, at, v[0])
    store(a, at + step, v[1])
    store(a, at + 2 * step, v[2])
    store(a, at + 3 * step, v[3])
    store(a, at + 4 * step, v[4])


@inline
def _write(half, first, b, leak, y, at, p_count, q_count, q_y, o, count):
    """Write the rows of a tile: A^T of its columns in `half`, with bias and activation."""
    for i in range(p_count):
        row, to = _map_a_t(load8(half, first + i * 8 * LANES, LANES)), at + i * q_y * o
        y0, y1, y2 = activate(row[0] + b, leak), activate(row[1] + b, leak), activate(row[2] + b, leak)
        y3, y4 = activate(row[3] + b, leak), activate(row[4] + b, leak)
        if q_count == STEP and count >= LANES:
            store(y, to, y0)
            store(y, to + o, y1)
            store(y, to + 2 * o, y2)
            store(y, to + 3 * o, y3)
            store(y, to + 4 * o, y4)
        else:
            store_part(y, to, y0, count)
            store_part(y, to + o, y1, count if q_count > 1 else 0)
            store_part(y, to + 2 * o, y2, count if q_count > 2 else 0)
            store_part(y, to + 3 * o, y3, count if q_count > 3 else 0)
            store_part(y, to + 4 * o, y4, count if q_count > 4 else 0)
