"""Softmax p_k = exp(z_k) / sum exp(z) and the cross-entropy -log p_label."""

import numpy as np


def forward(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z, label):
    n = np.arange(len(z))
    shifted = z - z.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[n, label]
    dz = forward(z)
    dz[n, label] -= 1
    return loss, dz / len(z)
