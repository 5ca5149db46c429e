"""Plain stochastic gradient descent."""

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def update(on, params, grads, rate):
    rate = on.number(rate, np.float32)
    on.launch("sgd_update", blocks_for(params.size), THREADS, params, grads, rate, params.size)
