"""act(z) = z where z > 0, slope z elsewhere (ActivationKernels)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel


def forward(z, slope):
    y = np.empty(z.shape, np.float32)
    flat = z.reshape(-1)
    masked(flat, flat, np.float32(slope), y.reshape(-1))
    return y


def backward(dy, y, slope):
    dz = np.empty(dy.shape, np.float32)
    masked(dy.reshape(-1), y.reshape(-1), np.float32(slope), dz.reshape(-1))
    return dz


@kernel
def masked(a, y, slope, out):
    """a where y > 0, slope a elsewhere. With a = y this is the activation itself."""
    for i in prange(a.size):
        out[i] = a[i] if y[i] > 0 else slope * a[i]
