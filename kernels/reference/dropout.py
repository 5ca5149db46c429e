"""Dropout with a mask that depends on (seed, step, layer, index) only.

u_i = (h(h(h(h(seed) + step) + layer) + i) >> 40) 2^-24 is uniform in [0, 1), and element i is kept where u_i
>= rate. h is SplitMix64 (Steele, Lea & Flood 2014), on 64-bit integers that wrap around. So a run can be
repeated and resumed bit for bit on every device.
"""

import numpy as np


def forward(x, rate, seed, step, layer):
    return x * _scale(x.shape, rate, seed, step, layer)


def backward(dy, rate, seed, step, layer):
    return dy * _scale(dy.shape, rate, seed, step, layer)


def _scale(shape, rate, seed, step, layer):
    key = np.zeros(1, np.uint64)
    for word in (seed, step, layer):
        key = _mix(key + np.uint64(word))
    index = np.arange(np.prod(shape), dtype=np.uint64)
    uniform = (_mix(key + index) >> np.uint64(40)) * 2.0**-24
    return np.where(uniform >= rate, 1 / (1 - rate), 0.0).reshape(shape)


def _mix(v):
    v = v + np.uint64(0x9E3779B97F4A7C15)
    v = (v ^ (v >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    v = (v ^ (v >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return v ^ (v >> np.uint64(31))
