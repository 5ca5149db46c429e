"""The quarter-turn operations: slice, align, stack, roll, and the mean, maximum and RMS over four rotations.

Mean, maximum and RMS treat the four quarters of a batch as flat arrays x_0 to x_3 of `size` numbers each.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.vector.simd import LANES, load_part, store_part


def slice(x):
    n, h, _, c = x.shape
    y = np.empty((4 * n, h, h, c), np.float32)
    _turn(x.reshape(-1), n, h, c, 0, 1, y.reshape(-1))
    return y


def slice_backward(dy):
    n, h, _, c = dy.shape
    dx = np.empty((n // 4, h, h, c), np.float32)
    _sum_turned(dy, dx)
    return dx


def align(x):
    return x if x.ndim == 2 else _turned(x, -1)


def align_backward(dy):
    return dy if dy.ndim == 2 else _turned(dy, 1)


def stack(x):
    return np.concatenate(np.split(x, 4), axis=-1)


def stack_backward(dy):
    return np.concatenate(np.split(dy, 4, axis=-1))


def roll(x):
    quarters = np.split(x, 4)
    return np.concatenate([np.concatenate(quarters[k:] + quarters[:k], axis=-1) for k in range(4)])


def roll_backward(dy):
    parts = [np.split(quarter, 4, axis=-1) for quarter in np.split(dy, 4)]  # parts[k][j] is dx of x_(k+j)
    turned = [[parts[(m - j) % 4][j] for j in range(4)] for m in range(4)]
    return np.concatenate([(p[0] + p[2]) + (p[1] + p[3]) for p in turned])


def mean(x):
    y = _quarter(x, np.float32)
    _mean(x.reshape(-1), y.reshape(-1))
    return y


def mean_backward(dy):
    dx = np.empty((4 * len(dy), *dy.shape[1:]), np.float32)
    _mean_backward(dy.reshape(-1), dx.reshape(-1))
    return dx


def mean_relevance(x, r):
    rx = np.empty(x.shape, np.float32)
    _mean_relevance(x.reshape(-1), r.reshape(-1), rx.reshape(-1))
    return rx


def max(x):
    y, index = _quarter(x, np.float32), _quarter(x, np.uint8)
    _max(x.reshape(-1), y.reshape(-1), index.reshape(-1))
    return y, index


def max_backward(dy, index):
    dx = np.empty((4 * len(dy), *dy.shape[1:]), np.float32)
    _max_backward(dy.reshape(-1), index.reshape(-1), dx.reshape(-1))
    return dx


def rms(x):
    y = _quarter(x, np.float32)
    _rms(x.reshape(-1), y.reshape(-1))
    return y


def rms_backward(dy, x, y):
    dx = np.empty(x.shape, np.float32)
    _rms_backward(dy.reshape(-1), x.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx


def _quarter(x, dtype):
    """An empty array of the shape of one quarter of x."""
    return np.empty((len(x) // 4, *x.shape[1:]), dtype)


def _turned(x, direction):
    """Each quarter k of x turned by k quarters: counter-clockwise for direction 1, clockwise for -1."""
    y, (n, h, _, c) = np.empty(x.shape, np.float32), x.shape
    _turn(x.reshape(-1), n // 4, h, c, n // 4, direction, y.reshape(-1))
    return y


@inline
def turned_from(k, i, j, last):
    """The pixel of x that lies at (i, j) after k counter-clockwise quarter turns (as numpy.rot90)."""
    if k == 0:
        return i, j
    if k == 1:
        return j, last - i
    if k == 2:
        return last - i, last - j
    return last - j, i


@kernel
def _turn(x, n, h, channels, stride, direction, y):
    """y_k = r^(direction k) x_k, where r is a quarter turn and x_k begins at image k stride of x. With stride
    0 all four are turns of the same images."""
    for image in prange(4 * n):
        k = image // n
        for i in range(h):
            for j in range(h):
                si, sj = turned_from(direction * k % 4, i, j, h - 1)
                source = (((k * stride + image % n) * h + si) * h + sj) * channels
                target = ((image * h + i) * h + j) * channels
                for c in range(0, channels, LANES):
                    part = load_part(x, source + c, channels - c)
                    store_part(y, target + c, part, channels - c)


@kernel
def _sum_turned(dy, dx):
    """dx = (dy_0 + r^-2 dy_2) + (r^-1 dy_1 + r^-3 dy_3)."""
    n, h = len(dx), dx.shape[1]
    for image in prange(n):
        for i in range(h):
            for j in range(h):
                i1, j1 = turned_from(3, i, j, h - 1)
                i2, j2 = turned_from(2, i, j, h - 1)
                i3, j3 = turned_from(1, i, j, h - 1)
                for c in range(dx.shape[3]):
                    even = dy[image, i, j, c] + dy[2 * n + image, i2, j2, c]
                    odd = dy[n + image, i1, j1, c] + dy[3 * n + image, i3, j3, c]
                    dx[image, i, j, c] = even + odd


@inline
def _sum4(x, i, size):
    """(0 + 2) + (1 + 3): rotating the four among themselves does not change a bit."""
    return (x[i] + x[2 * size + i]) + (x[size + i] + x[3 * size + i])


@kernel
def _mean(x, y):
    for i in prange(y.size):
        y[i] = _sum4(x, i, y.size) / np.float32(4)


@kernel
def _mean_backward(dy, dx):
    for i in prange(dy.size):
        share = dy[i] / np.float32(4)
        for k in range(4):
            dx[k * dy.size + i] = share


@kernel
def _mean_relevance(x, r, rx):
    for i in prange(r.size):
        total = _sum4(x, i, r.size)
        per_unit = r[i] / total if total != 0 else np.float32(0)
        for k in range(4):
            rx[k * r.size + i] = x[k * r.size + i] * per_unit


@kernel
def _max(x, y, index):
    for i in prange(y.size):
        best, winner = x[i], 0
        for k in range(1, 4):
            value = x[k * y.size + i]
            # The first maximum wins, and the first NaN, as in numpy.argmax.
            if best == best and not value <= best:
                best, winner = value, k
        y[i] = best
        index[i] = winner


@kernel
def _max_backward(dy, index, dx):
    for i in prange(dy.size):
        for k in range(4):
            dx[k * dy.size + i] = dy[i] if index[i] == k else np.float32(0)


@kernel
def _rms(x, y):
    size = y.size
    for i in prange(size):
        even = x[i] * x[i] + x[2 * size + i] * x[2 * size + i]
        odd = x[size + i] * x[size + i] + x[3 * size + i] * x[3 * size + i]
        y[i] = np.sqrt((even + odd) / np.float32(4))


@kernel
def _rms_backward(dy, x, y, dx):
    for i in prange(dy.size):
        per_unit = dy[i] / (np.float32(4) * y[i]) if y[i] != 0 else np.float32(0)
        for k in range(4):
            dx[k * dy.size + i] = x[k * dy.size + i] * per_unit
