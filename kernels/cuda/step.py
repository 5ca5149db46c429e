"""A training step of CAP and Deep-HiTS in few kernels: forward, backward and update, in tf32.

On stamps of 21x21 the convolutions go depth first, forward and backward (step_chain.py), and one launch sums
all their gradients (step_gradients.cu). On others they go layer by layer: what makes dx of one writes dz of
the one below at once, and the gradients take a launch each. The dense layers take three launches
(step_head.cu). Gradients stay partial sums, which one kernel adds while it updates the parameters
(step_update.cu).
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from rotinv.kernels.cuda import conv2d, cyclic, dropout, pool2d, step_chain
from rotinv.kernels.cuda.launch import THREADS

_UNITS, _MOST_CLASSES, _STAMPS, _K_OF_BLOCK = 64, 64, 4, 32  # see step_head.cu, as the next
_FIRST_ROWS, _FIRST_FEATURES, _FIRST_SHARED = 32, 256, 8 * 32 * 72 * 4
_WARPS, _LANES = 8, 32  # see step_update.cu
# Of step_gradients.cu: its kernels with their bytes of shared memory, and of each layer how many partial sums
# a block writes, how many tiles an image has, and the number of blocks. These are in proportion to the work,
# 132 together, and the same on every GPU, so that the bits are too.
_GRADIENTS_KERNELS = (("step_gradients", 182272), ("step_gradients_one_buffer", 94208))
_GRADIENTS_THREADS = 384
_PARTS, _TILES, _BLOCKS = (12, 4, 2, 1, 1), (2, 2, 1, 1, 1), (13, 34, 17, 34, 34)


class _Convolved(NamedTuple):
    """A convolution's input, its output after activation and pooling, the pooling's winners or None, and the
    height and width of its maps before pooling."""

    x: Any
    y: Any
    index: Any
    map_size: tuple[int, int]


def takes(on, form):
    """Whether there are kernels for networks of this form (rotinv.nn.depth_first.Form).

    The dense layers' kernels read four weights at a time, which then must lie at multiples of 16 bytes: so
    filters have to come in fours.
    """
    return (
        on.of_products == "tf32"
        and on.most_shared >= _FIRST_SHARED
        and len(form.convolutions) == 5
        and all(filters % 4 == 0 for _, filters, _, _ in form.convolutions)
        and form.convolutions[-1][1] == _UNITS
        and form.convolutions[-1][3] == 2
        and form.dense[:-1] == (_UNITS, _UNITS)
        and form.dense[-1] <= _MOST_CLASSES
        and len(form.dropouts or ()) == 2
    )


def take(on, form, params, weights, x, label, weight, seed, step, rate):
    """Take the step; gives the loss (n,)."""
    seed, step, rate = on.number(seed, np.uint64), on.number(step, np.uint64), on.number(rate, np.float32)
    if len(x) == 0:
        return on.empty((0,))
    depth_first = step_chain.takes(on, form)
    convolved = _convolutions(on, form, x, weights, depth_first)
    counts, splits = [w.size + b.size for w, b in weights], _splits(weights, convolved, len(x), depth_first)
    sizes = [count * times for count, times in zip(counts, splits, strict=True)]
    partial = on.empty((sum(sizes),))
    partials = [
        partial[end - size : end] for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)
    ]
    loss, dz = _head(on, form, convolved[-1], weights[5:], partials[5:], label, weight, seed, step)
    if depth_first:
        all_dz = step_chain.backward(on, form.slope, dz, weights, convolved)
        _all_gradients(on, convolved, all_dz, partials)
    else:
        all_dz = _adjoints(on, form, dz, weights, convolved)
        _gradients(on, form, convolved, all_dz, weights, splits, partials)
    blocks = sum(map(_update_blocks, counts, splits))
    on.launch("step_update", blocks, THREADS, partial, rate, params, *counts, *splits)
    return loss


def _convolutions(on, form, x, weights, depth_first):
    """What the convolutions make of stamps (n, h, w, c), from the first on."""
    if depth_first:
        return [_Convolved(*found) for found in step_chain.forward(on, form.slope, x, weights[:5])]
    x, found = cyclic.slice(on, pool2d.zero_pad(on, x, form.border)), []
    for (w, b), (size, _, pad, pool) in zip(weights, form.convolutions, strict=False):
        y, index = conv2d.forward(on, x, w, b, pad, form.slope, pool)
        found.append(_Convolved(x, y, index, tuple(side + 2 * pad - size + 1 for side in x.shape[1:3])))
        x = y
    return found


def _adjoints(on, form, dz, weights, convolved):
    """dz of each convolution, that of the last one given."""
    all_dz = [dz]
    for i in range(len(convolved) - 1, 0, -1):
        below, pad = convolved[i - 1], form.convolutions[i][2]
        to = conv2d.Below(below.y, below.index, form.slope, below.map_size)
        all_dz.append(conv2d.backward_input(on, all_dz[-1], weights[i][0], pad, convolved[i].x.shape, to))
    return all_dz[::-1]


def _splits(weights, convolved, n, depth_first):
    """How many partial sums the gradients of each layer have."""
    blocks_of_head = -(-n // _STAMPS)
    dense = [1, blocks_of_head, blocks_of_head]
    if depth_first:
        return [*map(math.prod, zip(_blocks(4 * n), _PARTS, strict=True)), *dense]
    pixels = [len(at.x) * math.prod(at.map_size) for at in convolved]
    of_shape = (conv2d.splits_for(count, w.shape)[0] for count, (w, _) in zip(pixels, weights, strict=False))
    return [*of_shape, *dense]


def _blocks(images):
    """How many blocks of step_gradients each convolution has: none without a tile."""
    return [min(most, images * tiles) for most, tiles in zip(_BLOCKS, _TILES, strict=True)]


def _all_gradients(on, convolved, all_dz, partials):
    """Write the partial sums of all convolutions' gradients in one launch."""
    inputs = [at.x for at in convolved]
    images, blocks = len(inputs[0]), _blocks(len(inputs[0]))
    args = *inputs, *all_dz, *partials[:5], *blocks, inputs[0].shape[3], images
    name, shared = next(kernel for kernel in _GRADIENTS_KERNELS if kernel[1] <= on.most_shared)
    on.launch(name, sum(blocks), _GRADIENTS_THREADS, *args, shared=shared)


def _gradients(on, form, convolved, all_dz, weights, splits, partials):
    """Write the partial sums of the convolutions' gradients, layer by layer."""
    layers = zip(convolved, all_dz, form.convolutions, weights, splits, partials, strict=False)
    for at, dz, (_, _, pad, _), (w, _), times, to in layers:
        conv2d.write_partial_sums(on, at.x, dz, pad, w.shape, times, to)


def _head(on, form, last, weights, partials, label, weight, seed, step):
    """The loss, and dz of the last convolution; writes the gradients of the dense layers."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    n, images, features = len(label), len(last.y), last.y[0].size
    rows, total = images if form.mean else n, len(w1)
    splits = -(-total // _FIRST_FEATURES)
    z1, dz1, loss = on.empty((splits, rows, _UNITS)), on.empty((rows, _UNITS)), on.empty((n,))
    grid = -(-rows // _FIRST_ROWS), splits
    on.launch("step_head_first", grid, 256, last.y, w1, z1, rows, features, total, shared=_FIRST_SHARED)
    draws = [number for rate, key in form.dropouts for number in (key, *dropout.threshold(rate))]
    arrays = z1, b1, w2, b2, w3, b3, label, weight, seed, step, loss, dz1, *partials[1:]
    name = f"step_head_middle_{'mean' if form.mean else 'concat'}"
    sizes = form.slope, *draws, splits, n, len(b3)
    on.launch(name, -(-n // _STAMPS), 256, *arrays, *sizes)
    dz = on.empty((images, *last.map_size, _UNITS))
    args = last.y, last.index, w1, dz1, partials[0], dz, form.slope, rows, features, total, *last.map_size
    on.launch("step_head_gradients", total // _K_OF_BLOCK, 128, *args)
    return loss, dz


def _update_blocks(count, splits):
    """How many blocks add the gradients of a layer's parameters."""
    return -(-count // (_LANES if splits >= _WARPS else _LANES * _WARPS))
