"""Convolution, its activation and pooling, and their gradients, as matrix products in tiles (conv2d.cu,
conv2d_gradients.cu).

With precision "tf32" the three passes of training and scoring multiply on tensor cores (conv2d_tf32.cu). What
relevance needs, z+ and z- (`contributions`) and R_i (`redistribute`) of Eqs. 2 to 4, is always float32.
"""

from typing import Any, NamedTuple

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for

_ROWS, _DEPTH, _TAPS, _SUMMED = 128, 16, 64, 32  # of a block: see tiles.cuh, gradients.cuh and .cu
# For dw the pixels are divided among so many blocks, by the blocks' columns: about as many as run at once
# on an H200, but the same number on every GPU, so that the bits are the same.
_BLOCKS = {64: 512, 32: 768}


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


class Below(NamedTuple):
    """The layer below one whose dx is computed: its output y, the winners of its pooling or None, the slope
    of its activation, and the height and width of its maps before pooling."""

    y: Any
    index: Any
    slope: float
    map_size: tuple[int, int]


def backward_input(on, dz, w, pad, shape, below=None):
    """dx of `shape`; or, given the layer below, its dz: what epilogue_backward makes of dx."""
    n, height, width, c = shape
    below = below or Below(None, None, 1.0, (height, width))
    dx = on.empty((n, *below.map_size, c))
    rows, sizes = _adjoint_sizes(dz, w, shape)
    args = dz, w, below.y, below.index, below.slope, dx, pad, rows, *sizes, *below.map_size
    _product(on, "backward_input", on.of_products, rows, c, *args)
    return dx


def backward_params(on, x, dz, pad, dw, db):
    splits, _ = splits_for(dz.size // dz.shape[3], dw.shape)
    partial = on.empty((splits, dw.size + db.size))
    write_partial_sums(on, x, dz, pad, dw.shape, splits, partial)
    _add_splits(on, partial, dw, db)


def splits_for(rows, shape):
    """Into how many splits the pixels are divided for the gradients of weights of a shape, and how many each
    has."""
    size, _, c, o = shape
    columns = _gradient_columns(o)
    tiles = -(-size * size * c // _TAPS) * -(-o // columns)
    splits = min(max(1, _BLOCKS[columns] // tiles), -(-_counted(rows) // (4 * _DEPTH)))
    rows_of_split = -(-rows // (splits * _DEPTH)) * _DEPTH
    return -(-rows // rows_of_split), rows_of_split


def write_partial_sums(on, x, dz, pad, shape, splits, partial):
    """Write each split's sums for dw of a shape and db, (splits, k + 1, o)."""
    height, width, c = x.shape[1:]
    n, p, q, o = dz.shape
    size, rows, columns = shape[0], n * p * q, _gradient_columns(o)
    grid = -(-size * size * c // _TAPS), -(-o // columns), splits
    name = f"conv2d_gradients{_suffix(on.of_products)}_{columns}"
    sizes = rows, splits_for(rows, shape)[1], height, width, c, size, p, q, o
    on.launch(name, grid, 128, x, dz, partial, pad, *sizes)


def _gradient_columns(o):
    return 32 if o <= 32 else 64


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
