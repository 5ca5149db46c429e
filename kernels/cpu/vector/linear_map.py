"""A constant matrix times a tuple of vectors, written out as additions and multiply-adds."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rotinv.kernels.cpu.vector.simd import LANES, VECTOR, f32v, fused


def make_linear_map(matrix):
    """y = matrix x for tuples x and y of F32V vectors: an intrinsic for one constant matrix.

    Columns that are equal or opposite in every row come in pairs (those of the points +p and -p): their
    inputs are added and subtracted once for all rows. Rows that come in such pairs share their sums. What is
    left is one multiply-add per coefficient other than 0 and +-1.
    """
    matrix = np.asarray(matrix, np.float64)
    n_out, n_in = matrix.shape

    def combine(builder, row, x):
        """sum row_j x_j; None if there is no term."""
        total = None
        # Coefficients of 1 first: they need no multiplication, and one of them can start the sum.
        for j in sorted(np.flatnonzero(row), key=lambda j: row[j] != 1):
            if total is None:
                total = x[j] if row[j] == 1 else builder.fmul(_constant(row[j]), x[j])
            elif abs(row[j]) == 1:
                total = (builder.fadd if row[j] == 1 else builder.fsub)(total, x[j])
            else:
                total = fused(builder, _constant(row[j]), x[j], total)
        return total

    def codegen(context, builder, signature, args):
        x = [builder.extract_value(args[0], j) for j in range(n_in)]
        coefficients = matrix.copy()
        for j in range(n_in - 1):
            left, right = coefficients[:, j], coefficients[:, j + 1]
            if left.any() and right.any() and (np.abs(left) == np.abs(right)).all() and n_out <= n_in:
                same = left == right
                x[j], x[j + 1] = builder.fadd(x[j], x[j + 1]), builder.fsub(x[j], x[j + 1])
                coefficients[:, j], coefficients[:, j + 1] = left * same, left * ~same
        y, r = [], 0
        while r < n_out:
            row, following = coefficients[r], coefficients[min(r + 1, n_out - 1)]
            same, opposite = (row == following) & (row != 0), (row == -following) & (row != 0)
            if (np.abs(row) == np.abs(following)).all() and same.any() and opposite.any():
                even = combine(builder, row * same, x)
                odd = combine(builder, row * opposite, x)
                y += [builder.fadd(even, odd), builder.fsub(even, odd)]
                r += 2
            else:
                y.append(combine(builder, row, x))
                r += 1
        return cgutils.pack_array(builder, y)

    @intrinsic
    def linear_map(typingctx, x):
        return types.UniTuple(f32v, n_out)(types.UniTuple(f32v, n_in)), codegen

    return linear_map


def _constant(value):
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)
