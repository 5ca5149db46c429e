"""Pooling: the maximum or the mean of each window of size x size."""

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def max_forward(on, x, size):
    y = on.empty(_pooled(x.shape, size))
    index = on.empty(y.shape, np.uint8)
    _launch(on, "max_forward", x.shape, size, y.size, x, y, index)
    return y, index


def max_backward(on, dy, index, size, shape):
    dx = on.empty(shape)
    _launch(on, "max_backward", shape, size, dx.size, dy, index, dx)
    return dx


def average_forward(on, x, size):
    y = on.empty(_pooled(x.shape, size))
    _launch(on, "average_forward", x.shape, size, y.size, x, y)
    return y


def average_backward(on, dy, size, shape):
    dx = on.empty(shape)
    _launch(on, "average_backward", shape, size, dx.size, dy, dx)
    return dx


def average_relevance(on, x, r, size):
    rx = on.empty(x.shape)
    _launch(on, "average_relevance", x.shape, size, x.size, x, r, rx)
    return rx


def zero_pad(on, x, pad):
    """x (n, h, w, c) with `pad` pixels of zeros on each side. A layer uses it."""
    n, height, width, c = x.shape
    y = on.empty((n, height + 2 * pad, width + 2 * pad, c))
    _launch(on, "zero_pad", x.shape, pad, y.size, x, y)
    return y


def _pooled(shape, size):
    n, height, width, c = shape
    return n, height // size, width // size, c


def _launch(on, name, shape, size, count, *arrays):
    on.launch(f"pool2d_{name}", blocks_for(count), THREADS, *arrays, size, *shape[1:], count)
