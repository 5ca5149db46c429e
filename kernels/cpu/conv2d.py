"""Convolution with its epilogue and its adjoints: z = b + sum x w over the taps (Conv2dKernels)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import direct, winograd
from rotinv.kernels.cpu.activation import masked
from rotinv.kernels.cpu.jit import kernel


def forward(x, w, b, pad, slope, pool):
    convolve = winograd.convolve if winograd.suits(w) else direct.convolve
    return convolve(x, w, b, pad, slope, pool, _shape(x, w, pad))


def epilogue_backward(dy, y, index, slope, shape):
    dz = np.empty(shape, np.float32)
    if index is None:
        masked(dy.reshape(-1), y.reshape(-1), np.float32(slope), dz.reshape(-1))
    else:
        _unpool(dy, y, index, np.float32(slope), dz)
    return dz


def backward_input(dz, w, pad, shape):
    return _adjoint(winograd if winograd.suits(w) else direct, dz, w, pad, shape)


def backward_params(x, dz, pad, dw, db):
    (winograd if winograd.suits(dw) else direct).backward_params(x, dz, pad, dw, db)


def contributions(x, w, b, pad):
    w_pos, w_neg = _split(w)
    b_pos, b_neg = _split(b)
    if (x < 0).any():  # a negative x has its positive products with w-: [x+, x-] meets [w+, w-]
        w_pos, w_neg = np.concatenate([w_pos, w_neg], axis=2), np.concatenate([w_neg, w_pos], axis=2)
        x = np.concatenate(_split(x), axis=3)
    shape = _shape(x, w, pad)
    z_pos, _ = direct.convolve(x, w_pos, b_pos, pad, 1.0, 1, shape)
    z_neg, _ = direct.convolve(x, w_neg, b_neg, pad, 1.0, 1, shape)
    return z_pos, z_neg


def redistribute(x, w, c_pos, c_neg, pad):
    """R = x+ (c+ w+ + c- w-) + x- (c+ w- + c- w+), each bracket a sum over the outputs that an x feeds."""
    w_pos, w_neg = _split(w)
    c = np.concatenate([c_pos, c_neg], axis=3)
    both = np.concatenate([w_pos, w_neg], axis=3)
    if not (x < 0).any():
        return np.maximum(x, np.float32(0)) * _adjoint(direct, c, both, pad, x.shape)
    # The brackets side by side, as channels of one convolution: few channels fill a vector badly.
    both = np.concatenate([both, np.concatenate([w_neg, w_pos], axis=3)], axis=2)
    sums = _adjoint(direct, c, both, pad, (*x.shape[:3], 2 * x.shape[3]))
    x_pos, x_neg = _split(x)
    return x_pos * sums[..., : x.shape[3]] + x_neg * sums[..., x.shape[3] :]


def _adjoint(method, dz, w, pad, shape):
    """The convolution that sends dz back: flipped taps, channels exchanged, padded so that the sizes fit."""
    flipped = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
    return method.convolve(dz, flipped, np.float32(0), len(w) - 1 - pad, 1.0, 1, shape)[0]


def _shape(x, w, pad):
    """The shape of z."""
    n, height, width, _ = x.shape
    return n, height + 2 * pad - w.shape[0] + 1, width + 2 * pad - w.shape[1] + 1, w.shape[3]


def _split(a):
    return np.maximum(a, np.float32(0)), np.minimum(a, np.float32(0))


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
