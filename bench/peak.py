"""The machine's peak, measured: fused multiply-adds on registers only, in every thread."""

import numpy as np
from numba import prange
from operations import Operation

from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.vector.simd import LANES, fma, splat, store

_ROUNDS = 1_000_000
_CHAINS = 10  # independent sums: more than latency times units, fewer than registers


def peak(threads: int) -> Operation:
    """Independent fused multiply-adds, and how many operations they are."""
    out = np.empty(threads * LANES, np.float32)
    return Operation(lambda: _spin(_ROUNDS, threads, out), 2.0 * LANES * _CHAINS * _ROUNDS * threads)


@kernel
def _spin(rounds, threads, out):
    for thread in prange(threads):
        x, y = splat(np.float32(0.999)), splat(np.float32(0.001))
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = splat(np.float32(thread))
        a1, a2, a3, a4, a5 = a1 + y, a2 + x, a3 + x + y, a4 + x + x, a5 + y + y
        a6, a7, a8, a9 = a6 + x + x + y, a7 + x + y + y, a8 + x + x + x, a9 + y + y + y
        for _ in range(rounds):
            a0, a1, a2, a3, a4 = fma(a0, x, y), fma(a1, x, y), fma(a2, x, y), fma(a3, x, y), fma(a4, x, y)
            a5, a6, a7, a8, a9 = fma(a5, x, y), fma(a6, x, y), fma(a7, x, y), fma(a8, x, y), fma(a9, x, y)
        total = (((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))) + (a8 + a9)
        store(out, thread * LANES, total)
