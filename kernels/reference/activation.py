"""act(z) = z where z > 0, slope z elsewhere."""

import numpy as np


def forward(z, slope):
    return np.where(z > 0, z, slope * z)


def backward(dy, y, slope):
    return np.where(y > 0, dy, slope * dy)
