"""Operations on whole arrays in parallel; NumPy would use one thread, or make temporary arrays."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.vector.simd import LANES, load_part, splat, store, where_positive

_CHUNK = 1 << 15  # elements


def is_negative_anywhere(x):
    """Whether any element is below 0."""
    return _any_negative(x.reshape(-1))


def product(a, b):
    """a b, element by element."""
    out = np.empty(a.shape, np.float32)
    _product(a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


def join_channels(a, b):
    """[a | b] along the last axis."""
    out = np.empty((*a.shape[:-1], 2 * a.shape[-1]), np.float32)
    _join(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]), out.reshape(-1, out.shape[-1]))
    return out


def split_signs(a):
    """a+ and a-, zeros in place of the other sign."""
    return np.maximum(a, np.float32(0)), np.minimum(a, np.float32(0))


@kernel
def _any_negative(x):
    chunks = (x.size + _CHUNK - 1) // _CHUNK
    least = np.empty(chunks * LANES, np.float32)
    for chunk in prange(chunks):
        end = min(x.size, (chunk + 1) * _CHUNK)
        one = two = splat(np.float32(0))  # the least of each lane; a NaN is passed over
        for i in range(chunk * _CHUNK, end, 2 * LANES):
            a, b = load_part(x, i, end - i), load_part(x, i + LANES, end - i - LANES)
            one, two = where_positive(one - a, a, one), where_positive(two - b, b, two)
        store(least, chunk * LANES, where_positive(one - two, two, one))
    for value in least:
        if value < 0:
            return True
    return False


@kernel
def _product(a, b, out):
    for i in prange(a.size):
        out[i] = a[i] * b[i]


@kernel
def _join(a, b, out):
    n, c = a.shape
    for i in prange(n):
        for k in range(c):
            out[i, k] = a[i, k]
            out[i, c + k] = b[i, k]
