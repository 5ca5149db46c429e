"""Convolution, its activation and pooling, and their gradients (Conv2dKernels).

`contributions` gives z+ and z- of Eqs. 2 to 4, `redistribute` the relevance R_i that follows from them.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import direct, double_sums, signed_sums
from rotinv.kernels.cpu.activation import masked
from rotinv.kernels.cpu.direct import activate
from rotinv.kernels.cpu.elementwise import is_negative_anywhere, join_channels, product, split_signs
from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.vector.simd import LANES, load_part, splat, store_bytes, store_part, where_wins
from rotinv.kernels.cpu.winograd import depth_first, depth_first_gradients, few, tiles
from rotinv.kernels.cpu.winograd.layer_table import Convolution

FEW = 8  # channels: the gradient of an x with no more of them is scattered, for they fill no vector


def forward(x, w, b, pad, slope, pool):
    if depth_first.suits(w.shape):
        return depth_first.convolve(x, w, b, pad, slope, pool)
    return direct.convolve(x, w, b, pad, slope, pool, _shape(x, w, pad))


def epilogue_backward(dy, y, index, slope, shape):
    dz = np.empty(shape, np.float32)
    if index is None:
        masked(dy.reshape(-1), y.reshape(-1), np.float32(slope), dz.reshape(-1))
    else:
        _unpool(dy, y, index, np.float32(slope), dz)
    return dz


def backward(x, w, y, index, dy, pad, slope, dw, db, wanted):
    if tiles.suits(w.shape):
        return _by_winograd(x, w, y, index, dy, pad, slope, dw, db, wanted)
    if index is not None or wanted:
        dy = y = epilogue_backward(dy, y, index, slope, _shape(x, w, pad))
        slope = 1.0
    if few.suits(w.shape):
        _by_winograd(x, w, y, None, dy, pad, slope, dw, db, False)
    else:
        direct.backward_params(x, y, dy, pad, slope, dw, db)
    return _backward_input(dy, w, pad, x.shape) if wanted else None


def _by_winograd(x, w, y, index, dy, pad, slope, dw, db, wanted):
    one = Convolution(w, db, pad, slope, 1 if index is None else 2)
    return depth_first_gradients.backward(x, [one], [(y, index)], dy, [(dw, db)], wanted)


def _backward_input(dz, w, pad, shape):
    """dx: the convolution of dz with the flipped weights."""
    if w.shape[2] <= FEW:
        return direct.scatter(dz, w, pad, shape)
    flipped = _flipped(w)
    return direct.convolve(dz, flipped, np.float32(0), len(w) - 1 - pad, 1.0, 1, shape)[0]


def _flipped(w):
    """The weights with taps reversed and channels exchanged: dx is the convolution of dz with these, padded
    by size - 1 - pad."""
    return np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))


def contributions(x, w, b, pad):
    """z+ and z- by direct sums. Winograd's rounding would turn an empty side's exact 0 into noise, and rules
    divide R by z."""
    if is_negative_anywhere(x):  # x w = x+ w + (-x-)(-w): so x is >= 0 again, with channels doubled
        x, w = np.concatenate(split_signs(x), axis=3), np.concatenate([w, -w], axis=2)
        x = np.abs(x, out=x)
    return signed_sums.contributions(x, w, b, pad, _shape(x, w, pad))


def sums(x, w, b, pad):
    return double_sums.sums(x, w, b, pad, _shape(x, w, pad))


def epilogue(z_pos, z_neg, slope, pool):
    n, p, q, o = z_pos.shape
    y = np.empty((n, p // pool, q // pool, o), np.float32)
    index = np.empty(y.shape, np.uint8) if pool == 2 else None
    if pool == 1:
        _activate_sum(z_pos.reshape(-1), z_neg.reshape(-1), np.float32(slope), y.reshape(-1))
    else:
        sums = z_pos.reshape(-1), z_neg.reshape(-1)
        _pool_sum(*sums, p, q, np.float32(slope), *y.shape, y.reshape(-1), index.reshape(-1))
    return y, index


def redistribute(x, w, c_pos, c_neg, pad):
    """R = x+ (c+ w+ + c- w-) + x- (c+ w- + c- w+). Each bracket is a sum over the outputs that the pixel x
    feeds."""
    w_pos, w_neg = split_signs(w)
    c, both = x.shape[3], np.concatenate([w_pos, w_neg], axis=3)
    if not is_negative_anywhere(x):
        return _brackets(c_pos, c_neg, both, c, pad, x.shape, x)
    # Both brackets are channels of one convolution, since few channels would leave vectors half empty.
    both = np.concatenate([both, np.concatenate([w_neg, w_pos], axis=3)], axis=2)
    sums = _brackets(c_pos, c_neg, both, c, pad, (*x.shape[:3], 2 * c))
    x_pos, x_neg = split_signs(x)
    return x_pos * sums[..., :c] + x_neg * sums[..., c:]


def _brackets(c_pos, c_neg, both, c, pad, shape, times=None):
    """[c+ | c-] convolved backward with the weights `both`.

    The kernel is chosen by the number of channels `c` alone, so that the signs of x do not change any bit.
    """
    if c <= FEW:
        r = direct.scatter(c_pos, both, pad, shape, beside=c_neg)
    else:
        flipped, none, side = _flipped(both), np.float32(0), len(both) - 1 - pad
        if tiles.suits(flipped[..., :c].shape):
            return depth_first.convolve(c_pos, flipped, none, side, 1.0, 1, c_neg, times)[0]
        r = direct.convolve(join_channels(c_pos, c_neg), flipped, none, side, 1.0, 1, shape)[0]
    return r if times is None else product(times, r)


def _shape(x, w, pad):
    """The shape of z."""
    n, height, width, _ = x.shape
    return n, height + 2 * pad - w.shape[0] + 1, width + 2 * pad - w.shape[1] + 1, w.shape[3]


@kernel
def _activate_sum(z_pos, z_neg, slope, y):
    for i in prange(y.size):
        z = z_pos[i] + z_neg[i]
        y[i] = z if z > 0 else slope * z


@kernel
def _pool_sum(z_pos, z_neg, p_z, q_z, slope, n, p_y, q_y, o, y, index):
    """act(z+ + z-), and of each 2x2 window the maximum and its place; the first in row-major order wins a
    tie."""
    leak = splat(slope)
    for row in prange(n * p_y):
        image, p = row // p_y, row % p_y
        for q in range(q_y):
            corner, to = ((image * p_z + 2 * p) * q_z + 2 * q) * o, (row * q_y + q) * o
            for k in range(0, o, LANES):
                best = winner = splat(np.float32(0))
                for place in range(4):
                    at = corner + (place // 2 * q_z + place % 2) * o + k
                    value = activate(load_part(z_pos, at, o - k) + load_part(z_neg, at, o - k), leak)
                    if place == 0:
                        best = value
                    else:
                        winner = where_wins(value, best, splat(np.float32(place)), winner)
                        best = where_wins(value, best, value, best)
                store_part(y, to + k, best, o - k)
                store_bytes(index, to + k, winner, o - k)


@kernel
def _unpool(dy, y, index, slope, dz):
    n, height, width, c = dz.shape
    p, q = height // 2, width // 2
    for image in prange(n):
        for h in range(height):
            for w in range(width):
                if h >= 2 * p or w >= 2 * q:
                    dz[image, h, w, :] = 0
                    continue
                place = np.uint8(2 * (h % 2) + w % 2)
                for k in range(c):
                    value = dy[image, h // 2, w // 2, k]
                    value = value if y[image, h // 2, w // 2, k] > 0 else slope * value
                    won = index[image, h // 2, w // 2, k] == place
                    dz[image, h, w, k] = value if won else np.float32(0)
