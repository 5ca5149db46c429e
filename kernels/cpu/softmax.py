"""Softmax p_k = exp(z_k) / sum exp(z) and the cross-entropy -weight_label log p_label (SoftmaxKernels)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import inline, kernel


def forward(z):
    p = np.empty(z.shape, np.float32)
    _forward(z, p)
    return p


def cross_entropy(z, label, weight):
    loss, dz = np.empty(len(z), np.float32), np.empty(z.shape, np.float32)
    _cross_entropy(z, label.astype(np.int64, copy=False), weight, loss, dz)
    return loss, dz


@kernel
def _forward(z, p):
    for n in prange(len(z)):
        _row(z[n], p[n])


@kernel
def _cross_entropy(z, label, weight, loss, dz):
    for n in prange(len(z)):
        largest, total = _row(z[n], dz[n])
        if not 0 <= label[n] < z.shape[1]:  # not a class: reading there would be outside z
            loss[n] = np.nan
            continue
        w = weight[label[n]]
        loss[n] = w * (np.log(total) - (z[n, label[n]] - largest))
        dz[n, label[n]] -= np.float32(1)
        for k in range(z.shape[1]):
            dz[n, k] = w * dz[n, k] / np.float32(len(z))


@inline
def _row(z, p):
    """Write p; return max z and sum exp(z - max z). No exponent is above 0, so that none overflows."""
    largest = z[0]
    for k in range(1, z.size):
        # Not `z[k] > largest`: so a NaN is kept.
        largest = largest if largest >= z[k] or largest != largest else z[k]
    total = np.float32(0)
    for k in range(z.size):
        p[k] = np.exp(z[k] - largest)
        total += p[k]
    for k in range(z.size):
        p[k] /= total
    return largest, total
