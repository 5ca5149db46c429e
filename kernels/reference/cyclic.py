"""The quarter-turn operations: slice, align, stack, roll, and the mean, maximum and RMS over four
rotations."""

import numpy as np


def slice(x):
    return np.concatenate([_turn(x, k) for k in range(4)])


def slice_backward(dy):
    return _sum([_turn(part, -k) for k, part in enumerate(_quarters(dy))])


def align(x):
    return np.concatenate([_turn(part, -k) for k, part in enumerate(_quarters(x))])


def align_backward(dy):
    return np.concatenate([_turn(part, k) for k, part in enumerate(_quarters(dy))])


def stack(x):
    return np.concatenate(_quarters(x), axis=-1)


def stack_backward(dy):
    return np.concatenate(np.split(dy, 4, axis=-1))


def roll(x):
    quarters = _quarters(x)
    return np.concatenate([np.concatenate(quarters[k:] + quarters[:k], axis=-1) for k in range(4)])


def roll_backward(dy):
    parts = [np.split(quarter, 4, axis=-1) for quarter in _quarters(dy)]  # parts[k][j] is dx of x_(k+j)
    return np.concatenate([_sum([parts[(m - j) % 4][j] for j in range(4)]) for m in range(4)])


def mean(x):
    return _sum(_quarters(x)) / 4


def mean_backward(dy):
    return np.concatenate([dy / 4] * 4)


def mean_relevance(x, r):
    total = _sum(_quarters(x))
    per_unit = np.divide(r, total, out=np.zeros_like(total), where=total != 0)
    return x * np.concatenate([per_unit] * 4)


def max(x):
    quarters = np.stack(_quarters(x))
    index = quarters.argmax(axis=0)
    return np.take_along_axis(quarters, index[None], axis=0)[0], index.astype(np.uint8)


def max_backward(dy, index):
    return np.concatenate([np.where(index == k, dy, 0) for k in range(4)])


def rms(x):
    return np.sqrt(_sum([part * part for part in _quarters(x)]) / 4)


def rms_backward(dy, x, y):
    per_unit = np.divide(dy, 4 * y, out=np.zeros_like(y), where=y != 0)
    return x * np.concatenate([per_unit] * 4)


def _turn(x, k):
    """r^k x: maps turned counter-clockwise by k quarters; vectors have nothing to turn."""
    return np.rot90(x, k, axes=(1, 2)) if x.ndim == 4 else x


def _quarters(x):
    return np.split(x, 4)


def _sum(parts):
    """(0 + 2) + (1 + 3): rotating the four among themselves does not change a bit."""
    return (parts[0] + parts[2]) + (parts[1] + parts[3])
