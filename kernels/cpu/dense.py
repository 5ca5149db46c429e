"""Dense layer, z[n,o] = b[o] + sum_c x[n,c] w[c,o], and its gradients, by the register tile (vector/tile.py).

`contributions` gives z+ and z- of Eqs. 2 to 4, `redistribute` the relevance R_i that follows from them.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import double_sums
from rotinv.kernels.cpu.direct import activate
from rotinv.kernels.cpu.elementwise import is_negative_anywhere, product, split_signs
from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.panels import panels, panels_transposed, whole
from rotinv.kernels.cpu.vector.simd import LANES, load, load_part, splat, store, store_part
from rotinv.kernels.cpu.vector.tile import PANEL, ROWS, tile_1, tile_tall


def forward(x, w, b, slope):
    return _product(x, panels(w), w.shape[1], b, slope)


def backward_input(dz, w):
    return _product(dz, panels_transposed(w), len(w), np.float32(0), 1.0)


def backward_params(x, dz, dw, db):
    n, c = x.shape
    _params(x.reshape(-1), dz.reshape(-1), n, c, dz.shape[1], dw.reshape(-1), db)


def contributions(x, w, b):
    w_pos, w_neg = split_signs(w)
    b_pos, b_neg = split_signs(b)
    if is_negative_anywhere(x):  # a negative x has its positive products with w-: [x+, x-] meets [w+, w-]
        w_pos, w_neg = np.concatenate([w_pos, w_neg]), np.concatenate([w_neg, w_pos])
        x = np.concatenate(split_signs(x), axis=1)
    return forward(x, w_pos, b_pos, 1.0), forward(x, w_neg, b_neg, 1.0)


def sums(x, w, b):
    """As a convolution of maps of one pixel."""
    return double_sums.sums(x[:, None, None], w[None, None], b, 0, (len(x), 1, 1, w.shape[1]))[:, 0, 0]


def redistribute(x, w, c_pos, c_neg):
    """R = x+ (c+ w+ + c- w-) + x- (c+ w- + c- w+), each bracket a sum over the outputs."""
    w_pos, w_neg = split_signs(w)
    c = np.concatenate([c_pos, c_neg], axis=1)
    to_pos = backward_input(c, np.concatenate([w_pos, w_neg], axis=1))
    if not is_negative_anywhere(x):
        return product(x, to_pos)
    x_pos, x_neg = split_signs(x)
    to_neg = backward_input(c, np.concatenate([w_neg, w_pos], axis=1))
    return x_pos * to_pos + x_neg * to_neg


def _product(x, weights, o, b, slope):
    """act(b + x w), with w as `panels` of o outputs."""
    n, c = x.shape
    bias = np.zeros(whole(o), np.float32)
    bias[:o] = b
    y = np.empty((n, o), np.float32)
    _forward(x.reshape(-1), n, c, weights, bias, np.float32(slope), y.reshape(-1), o)
    return y


@kernel
def _forward(x, n, c, weights, bias, slope, y, o):
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    leak = splat(slope)
    for block in prange((n + ROWS - 1) // ROWS):
        first = block * ROWS
        rows = min(ROWS, n - first)
        z = np.empty(ROWS * o_pad, np.float32)
        for panel in range(0, o_pad, PANEL):
            if rows == ROWS:
                tile_tall(x, first * c, c, 1, 0, c, 1, weights, panel * c, 0, PANEL, z, panel, o_pad, False)
            else:
                for r in range(rows):
                    tile_1(x, (first + r) * c, c, 1, 0, c, 1, weights, panel * c, 0, PANEL,
                           z, r * o_pad + panel, o_pad, False)  # fmt: skip
        for r in range(rows):
            for k in range(0, o, LANES):
                value = activate(load(z, r * o_pad + k) + load(bias, k), leak)
                store_part(y, (first + r) * o + k, value, o - k)


@kernel
def _params(x, dz, n, c, o, dw, db):
    """dw and db, summed over the images in their order. A tile of dw has input channels c as its rows."""
    o_pad = (o + PANEL - 1) // PANEL * PANEL
    padded = np.empty(n * o_pad, np.float32)
    for k in range(0, o, LANES):
        total = splat(np.float32(0))
        for image in range(n):
            value = load_part(dz, image * o + k, o - k)
            store(padded, image * o_pad + k, value)
            total = total + value
        store_part(db, k, total, o - k)
    for block in prange((c + ROWS - 1) // ROWS):
        first = block * ROWS
        rows = min(ROWS, c - first)
        sums = np.empty(ROWS * o_pad, np.float32)
        for panel in range(0, o_pad, PANEL):
            if rows == ROWS:
                tile_tall(x, first, 1, 1, 0, n, c, padded, panel, 0, o_pad, sums, panel, o_pad, False)
            else:
                for r in range(rows):
                    tile_1(x, first + r, 1, 1, 0, n, c, padded, panel, 0, o_pad,
                           sums, r * o_pad + panel, o_pad, False)  # fmt: skip
        for r in range(rows):
            for k in range(0, o, LANES):
                store_part(dw, (first + r) * o + k, load(sums, r * o_pad + k), o - k)
