"""Dense layer, z = b + x w, and z+, z- and R_i of the paper's Eqs. 2 to 4.

With z_ij = x_i w_ij, z+_j is the sum of the positive z_ij and z-_j of the negative ones, each with its side
of the bias. A product is positive where both factors are positive or both negative, so with x = x+ + x- and
w = w+ + w-: z+ = x+ w+ + x- w- + b+ and z- = x+ w- + x- w+ + b-. Neither is computed as z less the other,
which would cancel.

x is (n, c), or (n, pq, c) of a convolution, one window a row. BLAS adds in an order that depends on a
matrix's shape, and within a matrix on a row's place. So images are multiplied one at a time, for an image's
bits must not depend on its batch, and for z+ and z- even rows are: equal windows have equal sums, and
max-pooling sees that they tie.
"""

import numpy as np

from rotinv.kernels.reference import activation

TERMS = 64  # of a sum, in one product with a row


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
    """rows (…, c) @ matrix (c, o), one row and few terms at a time: too few for BLAS to start threads."""
    total = np.zeros((*rows.shape[:-1], matrix.shape[1]), rows.dtype)
    if not rows.any():  # there is often no negative x
        return total
    for first in range(0, len(matrix), TERMS):
        part = rows[..., None, first : first + TERMS] @ matrix[first : first + TERMS]
        total += part[..., 0, :]
    return total
