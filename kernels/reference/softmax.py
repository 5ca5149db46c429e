"""Softmax p_k = exp(z_k) / sum exp(z) and the cross-entropy -weight_label log p_label."""

import numpy as np


def forward(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z, label, weight):
    is_class = (label >= 0) & (label < z.shape[1])
    n, k = np.arange(len(z)), np.where(is_class, label, 0)
    shifted = z - z.max(axis=1, keepdims=True)
    loss = weight[k] * (np.log(np.exp(shifted).sum(axis=1)) - shifted[n, k])
    dz = forward(z)
    dz[n, k] -= 1
    return np.where(is_class, loss, np.nan), weight[k, None] * dz / len(z)
