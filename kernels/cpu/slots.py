"""Sums over a batch by slots, parts of it: their number is fixed, so the number of threads changes no bit."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.vector.simd import LANES, load_part, store_part

SLOTS = 8
_PIECE = 1024  # numbers that a thread sums over the slots at a time


def add_slots(parts, total):
    """total = the sum of the slots, always in the same order."""
    _add_slots(np.ascontiguousarray(parts).reshape(-1), total.reshape(-1))


@kernel
def _add_slots(parts, total):
    size = total.size
    for chunk in prange((size + _PIECE - 1) // _PIECE):
        for i in range(chunk * _PIECE, min(size, (chunk + 1) * _PIECE), LANES):
            value = load_part(parts, i, size - i)
            for slot in range(1, SLOTS):
                value = value + load_part(parts, slot * size + i, size - i)
            store_part(total, i, value, size - i)
