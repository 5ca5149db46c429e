"""Direct convolution, z[n,p,q,o] = sum_{i,j,c} x[n, p+i-pad, q+j-pad, c] w[i,j,c,o], by the register tile.

A tile is a few neighbouring pixels q of a row by PANEL output channels. Each image is first copied with its
padding. There the inputs of one tap row i, all taps j and channels c, lie in one run of memory, over which a
single loop sums, and the inputs of the next pixel begin c numbers later.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.panels import panels, panels_transposed, whole
from rotinv.kernels.cpu.slots import SLOTS, add_slots
from rotinv.kernels.cpu.vector.simd import (
    LANES,
    load,
    load_part,
    splat,
    store,
    store_bytes,
    store_part,
    where_positive,
    where_wins,
)
from rotinv.kernels.cpu.vector.tile import PANEL, ROWS, SHORT, tile_1, tile_4, tile_short, tile_tall

BAND = 6  # rows of pixels summed before they are added to dw: few enough to stay in cache


def convolve(x, w, b, pad, slope, pool, shape):
    """y and the winners' index (None without pooling), as Conv2dKernels.forward.

    `shape` is that of z, before pooling.
    """
    n, p, q = len(x), shape[1] // pool, shape[2] // pool
    o = w.shape[3]
    y = memory.empty((n, p, q, o))
    index = np.empty((n, p, q, o) if pool == 2 else 0, np.uint8)
    bias = np.zeros(whole(o), np.float32)
    bias[:o] = b
    _convolve(x.reshape(-1), *x.shape, panels(w), *w.shape[:2], bias, pad, np.float32(slope), pool,
              y.reshape(-1), index.reshape(-1), shape[1], shape[2], o)  # fmt: skip
    return y, index if pool == 2 else None


def scatter(dz, w, pad, shape, beside=None):
    """dx from dz where x has few channels c.

    Few channels would leave most of a vector empty, but the products of one pixel of dz with all taps and
    channels (i, j, c) fill it. So each row of dz is multiplied by the weights as a matrix (o, i j c), and the
    products are added to the pixels of dx that they belong to.

    `beside`, shaped as dz, has further channels; their weights follow those of dz's channels in w.
    """
    si, sj, c, o = w.shape
    dx = np.empty(shape, np.float32)
    taps = panels_transposed(w.reshape(-1, o))
    beside = np.empty(0, np.float32) if beside is None else beside.reshape(-1)
    _scatter(dz.reshape(-1), beside, *dz.shape, taps, o, si, sj, c, pad, dx.reshape(-1), *shape[1:3])
    return dx


def backward_params(x, y, dy, pad, slope, dw, db):
    """dw and db as of Conv2dKernels.backward, without pooling."""
    si, sj, c, o = dw.shape
    rows, o_pad = -(-sj * c // 4) * 4, whole(o)
    parts_w = np.zeros(SLOTS * si * rows * o_pad, np.float32)
    parts_b = np.zeros(SLOTS * o_pad, np.float32)
    _params(x.reshape(-1), *x.shape, y.reshape(-1), dy.reshape(-1), *dy.shape[1:], np.float32(slope),
            si, sj, pad, rows, parts_w, parts_b)  # fmt: skip
    add_slots(parts_w.reshape(SLOTS, si, rows, o_pad)[:, :, : sj * c, :o], dw.reshape(si, sj * c, o))
    add_slots(parts_b.reshape(SLOTS, o_pad)[:, :o], db)


@inline
def activate(z, slope):
    """act(z) = z where z > 0, slope z elsewhere."""
    return where_positive(z, z, slope * z)


@inline
def masked_part(dy, at, y, y_at, leak, count):
    """dz = dy where y > 0, slope dy elsewhere, for `count` channels from these places on."""
    d = load_part(dy, at, count)
    return where_positive(load_part(y, y_at, count), d, leak * d)


@inline
def copy_padded(x, start, h, w, c, pad, padded, width):
    """Copy the image (h, w, c) at `start` of x into `padded` (…, width, c), `pad` pixels from its edges; pad
    < 0 crops."""
    cut = max(0, -pad)
    run = (w - 2 * cut) * c
    for i in range(cut, h - cut):
        source, target = start + (i * w + cut) * c, ((i + pad) * width + pad + cut) * c
        for k in range(0, run, LANES):
            store_part(padded, target + k, load_part(x, source + k, run - k), run - k)


@kernel
def _convolve(x, n, h, w, c, weights, si, sj, bias, pad, slope, pool, y, index, p_z, q_z, o):
    height, width = p_z + si - 1, q_z + sj - 1
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    q_pad = q_z // ROWS * ROWS + (q_z % ROWS + 3) // 4 * 4  # tall tiles, then tiles of 4
    p_y, q_y = p_z // pool, q_z // pool
    leak = splat(slope)
    for image in prange(n):
        # A row's last tile may read up to three pixels beyond it: the next row's, or the 4 spare ones.
        padded = np.zeros((height * width + 4) * c, np.float32)
        copy_padded(x, image * h * w * c, h, w, c, pad, padded, width)
        z = np.zeros(pool * q_pad * o_pad, np.float32)
        for p in range(p_y):
            for r in range(pool):
                _row(padded, (p * pool + r) * width * c, width * c, c, weights, si, sj * c,
                     z, r * q_pad * o_pad, q_z, q_pad, o_pad)  # fmt: skip
            at = (image * p_y + p) * q_y * o
            if pool == 1:
                _write_row(z, o_pad, bias, leak, y, at, q_y, o)
            else:
                _write_pooled_row(z, q_pad * o_pad, o_pad, bias, leak, y, index, at, q_y, o)


@inline
def _row(x, x0, x_row, c, weights, taps, run, z, z0, q_z, q_pad, o_pad):
    """One row of z, (q_pad, o_pad), from the padded image."""
    for panel in range(o_pad // PANEL):
        w0 = panel * taps * run * PANEL
        q = 0
        while q < q_pad:
            z_q = z0 + q * o_pad + panel * PANEL
            if q + ROWS <= q_z:
                tile_tall(x, x0 + q * c, c, taps, x_row, run, 1, weights, w0, run * PANEL, PANEL,
                          z, z_q, o_pad, False)  # fmt: skip
                q += ROWS
            else:
                tile_4(x, x0 + q * c, c, taps, x_row, run, 1, weights, w0, run * PANEL, PANEL,
                       z, z_q, o_pad, False)  # fmt: skip
                q += 4


@inline
def _write_row(z, o_pad, bias, leak, y, at, q_y, o):
    for q in range(q_y):
        for k in range(0, o, LANES):
            value = activate(load(z, q * o_pad + k) + load(bias, k), leak)
            if o % LANES == 0:
                store(y, at + q * o + k, value)
            else:
                store_part(y, at + q * o + k, value, o - k)


@inline
def _write_pooled_row(z, z_row, o_pad, bias, leak, y, index, at, q_y, o):
    """The maximum of each 2x2 window of activated values, and its place; the first in row-major order wins a
    tie."""
    for q in range(q_y):
        for k in range(0, o, LANES):
            b = load(bias, k)
            best = activate(load(z, 2 * q * o_pad + k) + b, leak)
            winner = splat(np.float32(0))
            for place in range(1, 4):
                value = load(z, place // 2 * z_row + (2 * q + place % 2) * o_pad + k) + b
                value = activate(value, leak)
                winner = where_wins(value, best, splat(np.float32(place)), winner)
                best = where_wins(value, best, value, best)
            store_part(y, at + q * o + k, best, o - k)
            store_bytes(index, at + q * o + k, winner, o - k)


@kernel
def _scatter(dz, beside, n, p_z, q_z, o, weights, o_all, si, sj, c, pad, dx, h, w):
    height, width, run = p_z + si - 1, q_z + sj - 1, sj * c
    step = (si * run + PANEL - 1) // PANEL * PANEL
    for image in prange(n):
        total = np.zeros((height * width + LANES) * c + LANES, np.float32)
        rows = np.empty(q_z * step + LANES, np.float32)
        for p in range(p_z):
            start = (image * p_z + p) * q_z * o
            _product_row(dz, start, o, weights, 0, o_all, rows, q_z, step, False)
            if beside.size:
                _product_row(beside, start, o, weights, o * PANEL, o_all, rows, q_z, step, True)
            for q in range(q_z):
                for i in range(si):
                    at, source = ((p + i) * width + q) * c, q * step + i * run
                    for k in range(0, run, LANES):
                        value = load(total, at + k) + load(rows, source + k)
                        store_part(total, at + k, value, run - k)
        for i in range(h):
            for k in range(w * c):
                dx[(image * h + i) * w * c + k] = total[((i + pad) * width + pad) * c + k]


@inline
def _product_row(dz, start, o, weights, w0, o_all, rows, q_z, step, add):
    """rows (q, i j c) = dz (q, o) times the weights (o, i j c) that begin at w0, for a row of pixels; added
    to rows if `add`."""
    for panel in range(0, step, PANEL):
        q, w_panel = 0, w0 + panel * o_all
        while q < q_z:
            if q + ROWS <= q_z:
                tile_tall(dz, start + q * o, o, 1, 0, o, 1, weights, w_panel, 0, PANEL,
                          rows, q * step + panel, step, add)  # fmt: skip
                q += ROWS
            else:
                tile_1(dz, start + q * o, o, 1, 0, o, 1, weights, w_panel, 0, PANEL,
                       rows, q * step + panel, step, add)  # fmt: skip
                q += 1


@kernel
def _params(x, n, h, w, c, y, dy, p_z, q_z, o, slope, si, sj, pad, rows, parts_w, parts_b):
    """Sums of dw and db over each slot's images. A tile of dw has (tap j, channel c) as its rows, and sums
    over pixels."""
    height, width = p_z + si - 1, q_z + sj - 1
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    leak = splat(slope)
    for slot in prange(SLOTS):
        padded = np.zeros((height * width + 4) * c + 8, np.float32)
        dz_padded = np.zeros(p_z * q_z * o_pad, np.float32)
        for image in range(slot * n // SLOTS, (slot + 1) * n // SLOTS):
            copy_padded(x, image * h * w * c, h, w, c, pad, padded, width)
            for k in range(0, o_pad, PANEL):
                low = high = splat(np.float32(0))
                for pixel in range(p_z * q_z):
                    at, to = (image * p_z * q_z + pixel) * o + k, pixel * o_pad + k
                    value = masked_part(dy, at, y, at, leak, o - k)
                    store(dz_padded, to, value)
                    low = low + value
                    value = masked_part(dy, at + LANES, y, at + LANES, leak, o - k - LANES)
                    store(dz_padded, to + LANES, value)
                    high = high + value
                at = slot * o_pad + k
                store(parts_b, at, load(parts_b, at) + low)
                store(parts_b, at + LANES, load(parts_b, at + LANES) + high)
            for p in range(0, p_z, BAND):
                band = min(BAND, p_z - p)
                for i in range(si):
                    row = 0
                    while row < rows:
                        x0, wide = (p + i) * width * c + row, row + SHORT <= rows
                        for k in range(0, o_pad, PANEL):
                            at, dz0 = ((slot * si + i) * rows + row) * o_pad + k, p * q_z * o_pad + k
                            if wide:
                                tile_short(padded, x0, 1, band, width * c, q_z, c, dz_padded, dz0,
                                           q_z * o_pad, o_pad, parts_w, at, o_pad, True)  # fmt: skip
                            else:
                                tile_4(padded, x0, 1, band, width * c, q_z, c, dz_padded, dz0,
                                       q_z * o_pad, o_pad, parts_w, at, o_pad, True)  # fmt: skip
                        row += SHORT if wide else 4
