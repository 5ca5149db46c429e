"""The convolutions of a training step depth first, on stamps of 21x21 (step_chain.cu).

Forward is one launch, and the way back to the dz of each layer another. Before each a small one packs the
weights as the lanes take them.
"""

import numpy as np

from rotinv.kernels.cuda import chain
from rotinv.kernels.cuda.launch import THREADS, blocks_for

_BACKWARD_STAGES = 66  # see chain.cuh
_FIRST, _LATER, _LAST = (24, 24), (12, 12), (6, 6)  # sizes of maps
# What a kernel's name ends in, and the bytes of a block's shared memory forward and backward; the first that
# the device has the memory for.
_KINDS = (("", 102912, 101888), ("_small", 96768, 95744))


def takes(on, form):
    """Whether the device has the memory for it, and a network of this form the sizes."""
    return chain.has_its_convolutions(form) and _KINDS[-1][1] <= on.most_shared


def forward(on, slope, x, weights):
    """What the convolutions find in stamps (n, 21, 21, c).

    Gives of each layer its input, its output after activation and pooling, the winners of the pooling or
    None, and the height and width of its maps before pooling.
    """
    n, channels = len(x), x.shape[3]
    kind, shared, _ = _kind(on)
    packed, biases = chain.pack(on, weights, channels, 1)
    shapes = (27, 27, channels), (*_FIRST, 32), (*_LATER, 32), (*_LATER, 64), (*_LATER, 64), (*_LAST, 64)
    maps = [on.empty((4 * n, *shape)) for shape in shapes]
    index2, index5 = (on.empty(maps[i].shape, np.uint8) for i in (2, 5))
    args = x, packed, biases, *maps, index2, index5, slope, channels, n
    on.launch(f"step_forward{kind}", 4 * n, chain.CHAIN_THREADS, *args, shared=shared)
    winners, sizes = (None, index2, None, None, index5), (_FIRST, _FIRST, _LATER, _LATER, _LATER)
    return list(zip(maps[:5], maps[1:], winners, sizes, strict=True))


def backward(on, slope, dz, weights, convolved):
    """dz of each layer, that of the last one given; `convolved` is what forward found."""
    kind, _, shared = _kind(on)
    packed = on.empty((_BACKWARD_STAGES * chain.STAGE,), np.uint8)
    words = packed.size // 4
    convolutions = [w for w, _ in weights[1:5]]
    on.launch("chain_pack_backward", blocks_for(words), THREADS, *convolutions, packed, words)
    outputs, index = [y for _, y, _, _ in convolved[:4]], convolved[1][2]
    all_dz = [on.empty((len(dz), *size, y.shape[3])) for _, y, _, size in convolved[:4]]
    args = dz, packed, *outputs, index, *all_dz, slope
    on.launch(f"step_backward{kind}", len(dz), chain.CHAIN_THREADS, *args, shared=shared)
    return [*all_dz, dz]


def _kind(on):
    return next(kind for kind in _KINDS if kind[1] <= on.most_shared)
