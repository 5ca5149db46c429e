"""z of a convolution, summed in float64 and rounded once: for rules that divide by z where z+ and z- cancel.

A product of two float32 numbers is exact in float64, so that only the sum rounds, and far below float32. The
vectors run along the output channels; neighbouring pixels share the weights that are loaded. No pixel's sum
depends on its neighbours, so equal windows have equal sums.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.jit import inline, kernel

PIXELS = 4  # neighbouring pixels of a row that are summed together


def sums(x, w, b, pad, shape):
    """z (of `shape`) as Conv2dKernels.sums."""
    z = memory.empty(shape)
    weights = w.astype(np.float64).reshape(-1, w.shape[3])
    _sum(x, weights, *w.shape[:2], b.astype(np.float64), pad, z)
    return z


@kernel
def _sum(x, w, si, sj, b, pad, z):
    n, p_z, q_z, o = z.shape
    height, width, c = x.shape[1:]
    for row in prange(n * p_z):
        image, p = row // p_z, row % p_z
        padded = np.zeros((si, q_z + sj + PIXELS - 2, c))
        for i in range(max(0, pad - p), min(si, height + pad - p)):
            first, last = max(0, -pad), min(width, q_z + sj - 1 - pad)
            padded[i, first + pad : last + pad] = x[image, p + i - pad, first:last]
        total = np.empty((PIXELS, o))
        for q in range(0, q_z, PIXELS):
            total[:] = b
            for i in range(si):
                for j in range(sj):
                    for channel in range(c):
                        _add(padded[i, q + j : q + j + PIXELS, channel], w[(i * sj + j) * c + channel], total)
            for r in range(min(PIXELS, q_z - q)):
                z[image, p, q + r] = total[r]


@inline
def _add(pixels, w, total):
    """total[r][o] += pixels[r] w[o]."""
    one, two, three, four = pixels[0], pixels[1], pixels[2], pixels[3]
    for o in range(w.size):
        total[0, o] += one * w[o]
        total[1, o] += two * w[o]
        total[2, o] += three * w[o]
        total[3, o] += four * w[o]
