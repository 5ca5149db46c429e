"""Plain stochastic gradient descent (SgdKernels)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel


def update(params, grads, rate):
    _update(params.reshape(-1), grads.reshape(-1), np.float32(rate))


@kernel
def _update(params, grads, rate):
    for i in prange(params.size):
        params[i] -= rate * grads[i]
