"""Dropout with a mask that depends on (seed, step, layer, index) only (dropout.cu)."""

import math

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def forward(on, x, rate, seed, step, layer):
    y = on.empty(x.shape)
    seed, step = on.number(seed, np.uint64), on.number(step, np.uint64)
    least = math.ceil(rate * 2**24)  # u >= rate, in whole numbers
    scale = 1 / (1 - rate)
    on.launch("dropout_forward", blocks_for(x.size), THREADS, x, seed, step, layer, least, scale, y, x.size)
    return y


def backward(on, dy, rate, seed, step, layer):
    return forward(on, dy, rate, seed, step, layer)
