"""Dropout with a mask that depends on (seed, step, layer, index) only (dropout.cu)."""

import math

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def forward(on, x, rate, seed, step, layer):
    y = on.empty(x.shape)
    seed, step = on.number(seed, np.uint64), on.number(step, np.uint64)
    draw = *threshold(rate), y, x.size
    on.launch("dropout_forward", blocks_for(x.size), THREADS, x, seed, step, layer, *draw)
    return y


def threshold(rate):
    """The least of 24 random bits with which an element is kept, and what it is then multiplied by."""
    return math.ceil(rate * 2**24), 1 / (1 - rate)  # u >= rate, in whole numbers


def backward(on, dy, rate, seed, step, layer):
    return forward(on, dy, rate, seed, step, layer)
