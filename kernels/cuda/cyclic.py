"""The quarter-turn operations: slice, align, stack, roll, and the mean, maximum and RMS over four
rotations."""

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def slice(on, x):
    n, h, _, c = x.shape
    return _turned(on, x, (4 * n, h, h, c), 0, 1)


def slice_backward(on, dy):
    n, h, _, c = dy.shape
    dx = on.empty((n // 4, h, h, c))
    _launch(on, "slice_backward", dx.size, dy, dx, n // 4, h, c, dx.size)
    return dx


def align(on, x):
    return x if x.ndim == 2 else _turned(on, x, x.shape, len(x) // 4, -1)


def align_backward(on, dy):
    return dy if dy.ndim == 2 else _turned(on, dy, dy.shape, len(dy) // 4, 1)


def stack(on, x):
    *rest, c = x.shape[1:]
    y = on.empty((len(x) // 4, *rest, 4 * c))
    return _joined(on, "stack", x, y, y.size // (4 * c), c)


def stack_backward(on, dy):
    *rest, c = dy.shape[1:]
    dx = on.empty((4 * len(dy), *rest, c // 4))
    return _joined(on, "stack_backward", dy, dx, dy.size // c, c // 4)


def roll(on, x):
    *rest, c = x.shape[1:]
    y = on.empty((len(x), *rest, 4 * c))
    return _joined(on, "roll", x, y, x.size // (4 * c), c)


def roll_backward(on, dy):
    *rest, c = dy.shape[1:]
    dx = on.empty((len(dy), *rest, c // 4))
    return _joined(on, "roll_backward", dy, dx, dy.size // (4 * c), c // 4)


def mean(on, x):
    y = on.empty(_quarter(x))
    _launch(on, "mean", y.size, x, y, y.size)
    return y


def mean_backward(on, dy):
    dx = on.empty((4 * len(dy), *dy.shape[1:]))
    _launch(on, "mean_backward", dy.size, dy, dx, dy.size)
    return dx


def mean_relevance(on, x, r):
    rx = on.empty(x.shape)
    _launch(on, "mean_relevance", r.size, x, r, rx, r.size)
    return rx


def max(on, x):
    y, index = on.empty(_quarter(x)), on.empty(_quarter(x), np.uint8)
    _launch(on, "max", y.size, x, y, index, y.size)
    return y, index


def max_backward(on, dy, index):
    dx = on.empty((4 * len(dy), *dy.shape[1:]))
    _launch(on, "max_backward", dy.size, dy, index, dx, dy.size)
    return dx


def rms(on, x):
    y = on.empty(_quarter(x))
    _launch(on, "rms", y.size, x, y, y.size)
    return y


def rms_backward(on, dy, x, y):
    dx = on.empty(x.shape)
    _launch(on, "rms_backward", dy.size, dy, x, y, dx, dy.size)
    return dx


def _quarter(x):
    """The shape of one quarter of x."""
    return (len(x) // 4, *x.shape[1:])


def _turned(on, x, shape, stride, direction):
    """y of `shape`: y_k = r^(direction k) x_k, where r is a quarter turn and x_k begins at image k stride of
    x."""
    y = on.empty(shape)
    n, h, _, c = shape
    _launch(on, "turn", y.size, x, y, n // 4, stride, direction, h, c, y.size)
    return y


def _joined(on, name, x, y, rows, c):
    _launch(on, name, y.size, x, y, rows, c, y.size)
    return y


def _launch(on, name, count, *args):
    on.launch(f"cyclic_{name}", blocks_for(count), THREADS, *args)
