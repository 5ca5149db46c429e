"""Pooling: the maximum or the mean of each window of size x size."""

import numpy as np


def max_forward(x, size):
    windows = _windows(x, size)
    index = windows.argmax(axis=3)  # the first maximum, row by row
    return np.take_along_axis(windows, index[:, :, :, None], axis=3)[:, :, :, 0], index.astype(np.uint8)


def max_backward(dy, index, size, shape):
    place = np.arange(size * size).reshape(1, 1, 1, -1, 1)
    return _unfold(np.where(index[:, :, :, None] == place, dy[:, :, :, None], 0), size, shape)


def average_forward(x, size):
    return _windows(x, size).mean(axis=3)


def average_backward(dy, size, shape):
    share = np.repeat(dy[:, :, :, None] / size**2, size * size, axis=3)
    return _unfold(share, size, shape)


def average_relevance(x, r, size):
    windows = _windows(x, size)
    total = windows.sum(axis=3, keepdims=True)
    per_unit = np.divide(r[:, :, :, None], total, out=np.zeros_like(total), where=total != 0)
    return _unfold(windows * per_unit, size, x.shape)


def _windows(x, size):
    """(n, p, q, size size, c): the pixels of each window, row by row."""
    n, height, width, c = x.shape
    p, q = height // size, width // size
    windows = x[:, : p * size, : q * size].reshape(n, p, size, q, size, c)
    return windows.transpose(0, 1, 3, 2, 4, 5).reshape(n, p, q, size * size, c)


def _unfold(windows, size, shape):
    """The adjoint of _windows."""
    n, p, q, _, c = windows.shape
    x = np.zeros(shape, windows.dtype)
    pixels = windows.reshape(n, p, q, size, size, c).transpose(0, 1, 3, 2, 4, 5)
    x[:, : p * size, : q * size] = pixels.reshape(n, p * size, q * size, c)
    return x
