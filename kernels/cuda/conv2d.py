"""Convolution, its activation and pooling, and their gradients, as matrix products in tiles (conv2d.cu,
conv2d_gradients.cu).

With precision "tf32" the three passes of training and scoring multiply on tensor cores (conv2d_tf32.cu). What
relevance needs, z+ and z- (`contributions`) and R_i (`redistribute`) of Eqs. 2 to 4, is always float32.
"""

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for

_ROWS, _DEPTH, _TAPS, _SUMMED = 128, 16, 64, 32  # of a block: see tiles.cuh, gradients.cuh and .cu
# For dw the pixels are divided among so many blocks, by the blocks' columns: about as many as run at once
# on an H200, but the same number on every GPU, so that the bits are the same.
_BLOCKS = {64: 512, 32: 768}
# Gradients with all taps in one block: by the channels of x, its threads and bytes of shared memory.
_WHOLE = {64: (384, 182272), 32: (192, 129024)}
_WHOLE_MAP, _WHOLE_BLOCKS = (12, 12), 100  # as above, the same number on every GPU


def forward(on, x, w, b, pad, slope, pool):
    n, height, width, c = x.shape
    size, o = len(w), w.shape[3]
    p, q = height + 2 * pad - size + 1, width + 2 * pad - size + 1
    y = on.empty((n, p // pool, q // pool, o))
    index = on.empty(y.shape, np.uint8) if pool == 2 else None
    rows = n * (p // pool) * (q // pool) * pool * pool
    sizes = rows, height, width, c, size, p, q, o
    _product(on, "forward", on.of_products, rows, o, x, w, b, y, index, pad, slope, pool, *sizes)
    return y, index


def epilogue_backward(on, dy, y, index, slope, shape):
    dz = on.empty(shape)
    sizes = (*shape[1:], dz.size)
    blocks = blocks_for(dz.size // 4 if shape[3] % 4 == 0 else dz.size)
    on.launch("conv2d_epilogue_backward", blocks, THREADS, dy, y, index, slope, dz, *sizes)
    return dz


def backward(on, x, w, y, index, dy, pad, slope, dw, db, wanted):
    n, height, width, _ = x.shape
    grow = 2 * pad - len(w) + 1
    identity = slope == 1 and index is None
    dz = (
        dy
        if identity
        else epilogue_backward(on, dy, y, index, slope, (n, height + grow, width + grow, w.shape[3]))
    )
    backward_params(on, x, dz, pad, dw, db)
    return backward_input(on, dz, w, pad, x.shape) if wanted else None


def backward_input(on, dz, w, pad, shape):
    dx = on.empty(shape)
    rows, sizes = _adjoint_sizes(dz, w, shape)
    _product(on, "backward_input", on.of_products, rows, shape[3], dz, w, dx, pad, rows, *sizes)
    return dx


def backward_params(on, x, dz, pad, dw, db):
    if _fits_whole(on, x, dz, pad, dw):
        return _whole_params(on, x, dz, dw, db)
    height, width, c = x.shape[1:]
    n, p, q, o = dz.shape
    size, rows = len(dw), _counted(n * p * q)
    columns = 32 if o <= 32 else 64
    tiles = -(-size * size * c // _TAPS), -(-o // columns)
    splits = min(max(1, _BLOCKS[columns] // (tiles[0] * tiles[1])), -(-rows // (4 * _DEPTH)))
    rows_of_split = -(-rows // (splits * _DEPTH)) * _DEPTH
    splits = -(-rows // rows_of_split)
    partial = on.empty((splits, size * size * c + 1, o))
    name = f"conv2d_gradients{_suffix(on.of_products)}_{columns}"
    sizes = rows, rows_of_split, height, width, c, size, p, q, o
    on.launch(name, (*tiles, splits), 128, x, dz, partial, pad, *sizes)
    _add_splits(on, partial, dw, db)


def _fits_whole(on, x, dz, pad, dw):
    """Whether the gradients have a kernel with all taps in one block (conv2d_gradients_whole.cu)."""
    c = x.shape[3]
    return (
        on.of_products == "tf32"
        and c in _WHOLE
        and on.most_shared >= _WHOLE[c][1]
        and x.shape[1:3] == dz.shape[1:3] == _WHOLE_MAP
        and (pad, dw.shape) == (1, (3, 3, c, 64))
    )


def _whole_params(on, x, dz, dw, db):
    n, c = len(x), x.shape[3]
    threads, shared = _WHOLE[c]
    blocks = min(_WHOLE_BLOCKS, n)
    partial = on.empty((blocks, 9 * c + 1, 64))
    on.launch(f"conv2d_gradients_whole_{c}", blocks, threads, x, dz, partial, n, shared=shared)
    _add_splits(on, partial, dw, db)


def _add_splits(on, partial, dw, db):
    """Write dw and db, the sums of (splits, k + 1, o) over the splits."""
    blocks = -(-(dw.size + db.size) // _SUMMED)
    sizes = len(partial), dw.size, db.size
    on.launch("conv2d_gradients_sum", blocks, THREADS, partial, dw, db, *sizes)


def contributions(on, x, w, b, pad):
    n, height, width, c = x.shape
    size, o = len(w), w.shape[3]
    p, q = height + 2 * pad - size + 1, width + 2 * pad - size + 1
    z_pos, z_neg = on.empty((n, p, q, o)), on.empty((n, p, q, o))
    sizes = n * p * q, height, width, c, size, p, q, o
    _product(on, "contributions", "fp32", n * p * q, o, x, w, b, z_pos, z_neg, pad, *sizes)
    return z_pos, z_neg


def sums(on, x, w, b, pad):
    n, height, width, c = x.shape
    size, o = len(w), w.shape[3]
    z = on.empty((n, height + 2 * pad - size + 1, width + 2 * pad - size + 1, o))
    sizes = height, width, c, size, *z.shape[1:], z.size
    on.launch("conv2d_sums", blocks_for(z.size), THREADS, x, w, b, z, pad, *sizes)
    return z


def epilogue(on, z_pos, z_neg, slope, pool):
    n, p, q, o = z_pos.shape
    y = on.empty((n, p // pool, q // pool, o))
    index = on.empty(y.shape, np.uint8) if pool == 2 else None
    blocks = blocks_for(y.size)
    on.launch("conv2d_epilogue", blocks, THREADS, z_pos, z_neg, slope, y, index, p, q, o, y.size)
    return y, index


def redistribute(on, x, w, c_pos, c_neg, pad):
    r = on.empty(x.shape)
    rows, sizes = _adjoint_sizes(c_pos, w, x.shape)
    args = x, w, c_pos, c_neg, r, pad, rows, *sizes
    _product(on, "redistribute", "fp32", rows, x.shape[3], *args, sides=2)  # x >= 0, x < 0
    return r


def _adjoint_sizes(dz, w, shape):
    """The number of pixels of x, and the sizes of the sum over the outputs that one pixel of x feeds."""
    n, height, width, c = shape
    return n * height * width, (*dz.shape[1:], len(w), height, width, c)


def _product(on, name, precision, rows, columns, *args, sides=1):
    """Launch a matrix product of `rows` x `columns`, in the widest blocks that fit; with 2 `sides`, one
    product for each."""
    least = 32 if precision == "tf32" else 8
    wide = next(wide for wide in (8, 32, 64) if wide >= least and (columns <= wide or wide == 64))
    grid = -(-_counted(rows) // _ROWS), -(-columns // wide), sides
    kernel = f"conv2d_{name}{_suffix(precision)}_{wide}"
    on.launch(kernel, grid, on.declared[kernel].bound, *args)


def _counted(rows):
    """The number of rows. Raises MemoryError if an int cannot count them and the block beyond them."""
    if rows >= 2**31 - 2 * _ROWS:
        raise MemoryError(f"{rows} pixels are more than an int counts: the batch is too large")
    return rows


def _suffix(precision):
    return "_tf32" if precision == "tf32" else ""
