"""Dense layer, z = b + x w, and z+, z- and R_i of the paper's Eqs. 2 to 4.

With z_ij = x_i w_ij, z+_j is the sum of the positive z_ij and z-_j that of the negative ones, each with the
bias if it has that sign. A product is positive where both factors have the same sign, so with x = x+ + x- and
w = w+ + w-: z+ = x+ w+ + x- w- + b+ and z- = x+ w- + x- w+ + b-. Neither is computed as z less the other,
since the difference would cancel digits.

x is (n, c), or (n, pq, c) for a convolution, with one window a row. BLAS adds in an order that depends on a
matrix's shape, and on the row's place in it. An image's bits must not depend on the batch, so images are
multiplied one at a time. For z+ and z- even the rows are: then equal windows have equal sums, and max-pooling
finds that they tie.
"""

import numpy as np

from rotinv.kernels.reference import activation

TERMS = 64  # terms of a sum that one product takes


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
    z_pos = _row_by_row(x_pos, w_pos) + _row_by_row(x_neg, w_neg) + b_pos
    z_neg = _row_by_row(x_pos, w_neg) + _row_by_row(x_neg, w_pos) + b_neg
    return z_pos, z_neg


def sums(x, w, b):
    return _row_by_row(x, w) + b


def redistribute(x, w, c_pos, c_neg):
    x_pos, x_neg = _split(x)
    w_pos, w_neg = _split(w)
    to_pos = _product(c_pos, w_pos.T) + _product(c_neg, w_neg.T)  # where x is positive
    to_neg = _product(c_pos, w_neg.T) + _product(c_neg, w_pos.T)
    return x_pos * to_pos + x_neg * to_neg


def _split(a):
    return np.maximum(a, 0), np.minimum(a, 0)


def _product(rows, matrix):
    """rows (n, c) or (n, pq, c) @ matrix (c, o), one image at a time."""
    if rows.ndim == 2:
        return (rows[:, None] @ matrix)[:, 0]
    return rows @ matrix  # NumPy multiplies a stack of matrices one by one


def _row_by_row(rows, matrix):
    """rows (…, c) @ matrix (c, o), one row and at most TERMS terms at a time: too few for BLAS to start
    threads."""
    total = np.zeros((*rows.shape[:-1], matrix.shape[1]), rows.dtype)
    if not rows.any():  # as x- often is
        return total
    for first in range(0, len(matrix), TERMS):
        part = rows[..., None, first : first + TERMS] @ matrix[first : first + TERMS]
        total += part[..., 0, :]
    return total
