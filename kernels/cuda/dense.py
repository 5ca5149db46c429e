"""Dense layer, z[n,o] = b[o] + sum_c x[n,c] w[c,o]. Its gradients are those of a convolution of one pixel.

`contributions` gives z+ and z- of Eqs. 2 to 4, `redistribute` the relevance R_i that follows from them.
"""

from rotinv.kernels.cuda import conv2d

_ROWS, _COLUMNS, _THREADS = 8, 32, 512  # of a block: see dense.cu


def forward(on, x, w, b, slope):
    (n, c), o = x.shape, w.shape[1]
    y = on.empty((n, o))
    on.launch("dense_forward", _blocks(n, o), _THREADS, x, w, b, slope, y, n, c, o)
    return y


def backward_input(on, dz, w):
    shape = len(dz), 1, 1, len(w)
    return conv2d.backward_input(on, _as_map(dz), w[None, None], 0, shape).reshape(len(dz), len(w))


def backward_params(on, x, dz, dw, db):
    conv2d.backward_params(on, _as_map(x), _as_map(dz), 0, dw[None, None], db)


def contributions(on, x, w, b):
    (n, c), o = x.shape, w.shape[1]
    z_pos, z_neg = on.empty((n, o)), on.empty((n, o))
    on.launch("dense_contributions", _blocks(n, o), _THREADS, x, w, b, z_pos, z_neg, n, c, o)
    return z_pos, z_neg


def sums(on, x, w, b):
    return conv2d.sums(on, _as_map(x), w[None, None], b, 0).reshape(len(x), len(b))


def redistribute(on, x, w, c_pos, c_neg):
    maps = _as_map(x), w[None, None], _as_map(c_pos), _as_map(c_neg)
    return conv2d.redistribute(on, *maps, 0).reshape(x.shape)


def _as_map(x):
    """(n, c) -> (n, 1, 1, c)."""
    return x[:, None, None]


def _blocks(n, o):
    return -(-n // _ROWS), -(-o // _COLUMNS)
