"""Dense layer, z = b + x w, and the sums of one sign that relevance needs.

A product x w is positive where both are positive or both negative, so with x = x+ + x- and w = w+ + w-:
z+ = x+ w+ + x- w- + b+ and z- = x+ w- + x- w+ + b-. Neither is had by subtraction, which would cancel.

Images are multiplied one at a time: BLAS picks its order by the shape, and an image's bits must not
depend on the batch. x is (n, c), or (n, pq, c) from a convolution's windows.
"""

import numpy as np

from rotinv.kernels.reference import activation


def forward(x, w, b, slope):
    return activation.forward(_product(x, w) + b, slope)


def backward_input(dz, w):
    return _product(dz, w.T)


def backward_params(x, dz, dw, db):
    c, o = dw.shape
    dw[...] = x.reshape(-1, c).T @ dz.reshape(-1, o)
    db[...] = dz.reshape(-1, o).sum(axis=0)


def contributions(x, w, b):
    x_pos, x_neg = _split(x)
    w_pos, w_neg = _split(w)
    b_pos, b_neg = _split(b)
    z_pos = _product(x_pos, w_pos) + _product(x_neg, w_neg) + b_pos
    z_neg = _product(x_pos, w_neg) + _product(x_neg, w_pos) + b_neg
    return z_pos, z_neg


def redistribute(x, w, c_pos, c_neg):
    x_pos, x_neg = _split(x)
    w_pos, w_neg = _split(w)
    to_pos = _product(c_pos, w_pos.T) + _product(c_neg, w_neg.T)  # where x is positive
    to_neg = _product(c_pos, w_neg.T) + _product(c_neg, w_pos.T)
    return x_pos * to_pos + x_neg * to_neg


def _split(a):
    return np.maximum(a, 0), np.minimum(a, 0)


def _product(rows, matrix):
    """rows (n, …, c) @ matrix (c, o), one image at a time."""
    if rows.ndim == 2:
        return (rows[:, None] @ matrix)[:, 0]
    return rows @ matrix  # NumPy multiplies a stack of matrices one by one
