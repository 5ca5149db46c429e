"""Dropout with a mask that depends on (seed, step, layer, index) only.

u_i = (h(h(h(h(seed) + step) + layer) + i) >> 40) 2^-24 is uniform in [0, 1), and element i is kept where u_i
>= rate. h is SplitMix64 (Steele, Lea & Flood 2014), on 64-bit integers that wrap around.
"""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import inline, kernel


def forward(x, rate, seed, step, layer):
    y = np.empty(x.shape, np.float32)
    words = np.array([seed, step, layer], np.uint64)
    _forward(x.reshape(-1), float(rate), words, np.float32(1 / (1 - rate)), y.reshape(-1))
    return y


def backward(dy, rate, seed, step, layer):
    return forward(dy, rate, seed, step, layer)


@kernel
def _forward(x, rate, words, scale, y):
    key = np.uint64(0)
    for word in words:
        key = _mix(key + word)
    for i in prange(x.size):
        u = np.float64(_mix(key + np.uint64(i)) >> np.uint64(40)) * 2.0**-24
        y[i] = x[i] * (scale if u >= rate else np.float32(0))  # times 0, so that NaN stays NaN


@inline
def _mix(v):
    v = v + np.uint64(0x9E3779B97F4A7C15)
    v = (v ^ (v >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    v = (v ^ (v >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return v ^ (v >> np.uint64(31))
