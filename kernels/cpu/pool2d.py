"""Pooling: the maximum or the mean of each window of size x size (Pool2dKernels)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel


def max_forward(x, size):
    y = _pooled(x, size)
    index = np.empty(y.shape, np.uint8)
    _max_forward(x, size, y, index)
    return y, index


def max_backward(dy, index, size, shape):
    dx = np.zeros(shape, np.float32)
    _max_backward(dy, index, size, dx)
    return dx


def average_forward(x, size):
    y = _pooled(x, size)
    _average_forward(x, size, np.float32(size * size), y)
    return y


def average_backward(dy, size, shape):
    dx = np.zeros(shape, np.float32)
    _average_backward(dy, size, np.float32(size * size), dx)
    return dx


def average_relevance(x, r, size):
    total = _pooled(x, size)
    _average_forward(x, size, np.float32(1), total)
    rx = np.zeros(x.shape, np.float32)
    _average_relevance(x, r, total, size, rx)
    return rx


def _pooled(x, size):
    """An empty array for the pooled maps of x."""
    n, height, width, c = x.shape
    return np.empty((n, height // size, width // size, c), np.float32)


@kernel
def _max_forward(x, size, y, index):
    n, p_count, q_count, c = y.shape
    for image in prange(n):
        for p in range(p_count):
            for q in range(q_count):
                for k in range(c):
                    y[image, p, q, k] = x[image, p * size, q * size, k]
                    index[image, p, q, k] = 0
                for place in range(1, size * size):
                    h, w = p * size + place // size, q * size + place % size
                    for k in range(c):
                        value, best = x[image, h, w, k], y[image, p, q, k]
                        # The first maximum wins, and the first NaN, as in numpy.argmax.
                        if best == best and not value <= best:
                            y[image, p, q, k] = value
                            index[image, p, q, k] = place


@kernel
def _max_backward(dy, index, size, dx):
    n, p_count, q_count, c = dy.shape
    for image in prange(n):
        for p in range(p_count):
            for q in range(q_count):
                for k in range(c):
                    place = np.int64(index[image, p, q, k])
                    if place >= size * size:  # not a place in the window
                        continue
                    dx[image, p * size + place // size, q * size + place % size, k] = dy[image, p, q, k]


@kernel
def _average_forward(x, size, area, y):
    """The sum over each window / area."""
    n, p_count, q_count, c = y.shape
    for image in prange(n):
        for p in range(p_count):
            for q in range(q_count):
                y[image, p, q, :] = 0
                for place in range(size * size):
                    h, w = p * size + place // size, q * size + place % size
                    for k in range(c):
                        y[image, p, q, k] += x[image, h, w, k]
                for k in range(c):
                    y[image, p, q, k] /= area


@kernel
def _average_backward(dy, size, area, dx):
    n, p_count, q_count, c = dy.shape
    for image in prange(n):
        for h in range(p_count * size):
            for w in range(q_count * size):
                for k in range(c):
                    dx[image, h, w, k] = dy[image, h // size, w // size, k] / area


@kernel
def _average_relevance(x, r, total, size, rx):
    n, p_count, q_count, c = total.shape
    for image in prange(n):
        for h in range(p_count * size):
            for w in range(q_count * size):
                for k in range(c):
                    p, q = h // size, w // size
                    whole = total[image, p, q, k]
                    if whole != 0:
                        rx[image, h, w, k] = x[image, h, w, k] * (r[image, p, q, k] / whole)
