"""Scoring with CAP and Deep-HiTS depth first: a stamp's maps never leave its multiprocessor (chain.cu).

Products are of halves or of tf32, on tensor cores; sums, biases and all after the first dense layer are
float32. The weights are packed anew by each call, which takes some microseconds where 2,000 stamps take
hundreds.
"""

import numpy as np

from rotinv.kernels.cuda.launch import THREADS, blocks_for

_SIDE, _MOST_CHANNELS, _BORDER = 21, 4, 3  # of stamps, and the zeros around them
_CONVOLUTIONS = (
    (4, 32, 0, 1),
    (3, 32, 1, 2),
    (3, 64, 1, 1),
    (3, 64, 1, 1),
    (3, 64, 1, 2),
)  # taps, filters, pad, pool
_FEATURES, _UNITS, _BIASES = 36 * 64, 64, 32 + 32 + 3 * 64
STAGE = 6144  # bytes of packed weights, see chain.cuh
CHAIN_THREADS, _HEAD_THREADS, _HEAD_ROWS = 192, 256, 32  # of a block
_HEAD_SHARED = (8 + 2) * 32 * 72 * 4  # bytes, see head.cu
# By precision: kernel, images of a block, bytes of shared memory; the first that the device has the memory
# for.
_KERNELS = {
    "fp16": (("chain_fp16", 2, 102912), ("chain_fp16_one", 1, 61184)),
    "tf32": (("chain_tf32", 1, 102912), ("chain_tf32_small", 1, 96768)),
}
_STAGES = {"fp16": (4, 30), "tf32": (8, 60)}  # of packed weights: those of each image, those of all


def takes(on, form):
    """Whether there is a kernel for networks of this form (rotinv.nn.depth_first.Form)."""
    return (
        _kernel(on) is not None
        and on.most_shared >= _HEAD_SHARED
        and has_its_convolutions(form)
        and form.dense[:-1] == (_UNITS, _UNITS)
    )


def has_its_convolutions(form):
    """Whether a network of this form has the convolutions of chain.cu, and their sizes."""
    return (
        form.in_shape[:2] == (_SIDE, _SIDE)
        and form.in_shape[2] <= _MOST_CHANNELS
        and form.border == _BORDER
        and form.convolutions == _CONVOLUTIONS
    )


def forward(on, form, x, weights, each):
    n, classes = len(x), form.dense[-1]
    logits, units = on.empty((n, classes)), on.empty((n, _UNITS))
    alone = on.empty((4, n, classes)) if each else None
    if n == 0:
        return logits, alone, units
    features, powers = _features(on, x, weights[:5], form.slope)
    rotations = 4 if form.mean or each else 1
    (w1, b1), *rest = weights[5:]
    words = w1.size // (2 if on.precision == "fp16" else 1)
    packed = on.empty((4 * words,), np.uint8)
    on.launch(f"head_pack_{on.precision}", blocks_for(words), THREADS, w1, packed, words)
    arrays = features, packed, b1, *(array for pair in rest for array in pair), powers, logits, alone, units
    name = f"head_{'mean' if form.mean else 'concat'}_{on.precision}"
    blocks = -(-n * rotations // _HEAD_ROWS)
    sizes = form.slope, n, rotations, classes
    on.launch(name, blocks, _HEAD_THREADS, *arrays, *sizes, shared=_HEAD_SHARED)
    return logits, alone, units


def _features(on, x, weights, slope):
    """What the convolutions make of stamps (n, 4, 36, 64), and the power of two that each layer has (5,)."""
    name, images, shared = _kernel(on)
    powers, channels = on.empty((5,)), x.shape[3]
    if on.precision == "fp16":
        on.launch("chain_powers", 1, 1024, *_arrays(weights), channels, powers)
    else:
        on.launch("fill", 1, THREADS, powers, 1.0, powers.size)
    packed, biases = pack(on, weights, channels, images, powers)
    features = on.empty((len(x), 4, 36, 64), np.float16 if on.precision == "fp16" else np.float32)
    on.launch(
        name,
        len(x) * 4 // images,
        CHAIN_THREADS,
        x,
        packed,
        biases,
        features,
        slope,
        channels,
        shared=shared,
    )
    return features, powers


def pack(on, weights, channels, images, powers=None):
    """The weights as the lanes take them, for blocks of so many images, and the biases.

    `powers` are those of chain_pack.cu; without them all are 1.
    """
    of_image, of_all = _STAGES[on.precision]
    packed, biases = on.empty(((images * of_image + of_all) * STAGE,), np.uint8), on.empty((_BIASES,))
    words = packed.size // 4
    args = *_arrays(weights), channels, images, powers, packed, biases, words
    on.launch(f"chain_pack_{on.precision}", blocks_for(words), THREADS, *args)
    return packed, biases


def _arrays(weights):
    return [w for w, _ in weights] + [b for _, b in weights]


def _kernel(on):
    """The kernel of the device's precision that its memory suffices for; None where there is none."""
    fitting = (kernel for kernel in _KERNELS.get(on.precision, ()) if kernel[2] <= on.most_shared)
    return next(fitting, None)
