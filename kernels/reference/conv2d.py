"""Convolution, z = b + sum x w over the taps, as a matrix product whose rows are the windows of x (see
dense.py).

Eqs. 2 to 4 are those of dense.py for each window; a pixel's relevance is the sum over the windows that it is
in.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rotinv.kernels.reference import activation, dense, pool2d


def forward(x, w, b, pad, slope, pool):
    z = _as_maps(dense.forward(_windows(x, w.shape, pad), _matrix(w), b, 1), x, w, pad)
    return _activated(z, slope, pool)


def epilogue_backward(dy, y, index, slope, shape):
    dz = activation.backward(dy, y, slope)
    return dz if index is None else pool2d.max_backward(dz, index, 2, shape)


def backward(x, w, y, index, dy, pad, slope, dw, db, wanted):
    z_shape = (*_windows_shape(x, w.shape, pad), w.shape[3])
    dz = _as_rows(epilogue_backward(dy, y, index, slope, z_shape))
    dense.backward_params(_windows(x, w.shape, pad), dz, _matrix(dw), db)
    return _fold(dense.backward_input(dz, _matrix(w)), w.shape, pad, x.shape) if wanted else None


def contributions(x, w, b, pad):
    z_pos, z_neg = dense.contributions(_windows(x, w.shape, pad), _matrix(w), b)
    return _as_maps(z_pos, x, w, pad), _as_maps(z_neg, x, w, pad)


def sums(x, w, b, pad):
    return _as_maps(dense.sums(_windows(x, w.shape, pad), _matrix(w), b), x, w, pad)


def epilogue(z_pos, z_neg, slope, pool):
    return _activated(z_pos + z_neg, slope, pool)


def redistribute(x, w, c_pos, c_neg, pad):
    windows = _windows(x, w.shape, pad)
    r = dense.redistribute(windows, _matrix(w), _as_rows(c_pos), _as_rows(c_neg))
    return _fold(r, w.shape, pad, x.shape)


def _activated(z, slope, pool):
    """act(z), max-pooled if `pool` is 2, and the index of the winners."""
    y = activation.forward(z, slope)
    return (y, None) if pool == 1 else pool2d.max_forward(y, pool)


def _matrix(w):
    """w as (i j c, o): a view, so that dw can be written through it."""
    return w.reshape(-1, w.shape[3])


def _as_rows(maps):
    """(n, p, q, o) -> (n, pq, o)."""
    return maps.reshape(len(maps), -1, maps.shape[3])


def _as_maps(rows, x, w, pad):
    """(n, pq, o) -> (n, p, q, o)."""
    return rows.reshape(*_windows_shape(x, w.shape, pad), w.shape[3])


def _windows_shape(x, w_shape, pad):
    """(n, p, q): how many windows there are."""
    n, height, width, _ = x.shape
    return n, height + 2 * pad - w_shape[0] + 1, width + 2 * pad - w_shape[1] + 1


def _windows(x, w_shape, pad):
    """The windows of x as rows: (n, p q, i j c)."""
    i, j, c, _ = w_shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(padded, (i, j), axis=(1, 2))  # (n, p, q, c, i, j)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(len(x), -1, i * j * c)


def _fold(rows, w_shape, pad, shape):
    """The adjoint of _windows: add each window back to the pixels that it came from."""
    i, j, c, _ = w_shape
    n, height, width, _ = shape
    p, q = height + 2 * pad - i + 1, width + 2 * pad - j + 1
    rows = rows.reshape(n, p, q, i, j, c)
    padded = np.zeros((n, height + 2 * pad, width + 2 * pad, c), rows.dtype)
    for di in range(i):
        for dj in range(j):
            padded[:, di : di + p, dj : dj + q] += rows[:, :, :, di, dj]
    return padded[:, pad : pad + height, pad : pad + width].copy()
