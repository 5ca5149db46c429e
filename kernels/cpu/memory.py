"""Memory for kernels: freed pages are kept, arrays are aligned, and data is prefetched.

By default malloc maps large blocks anew and returns them on free. Each call then has a page fault for every 4
KiB that it touches, which more than doubles the time of a convolution. A batch's maps are also larger than
the caches, so a kernel prefetches what it will read or write next while it computes; without that it waits
for memory a third of the time.
"""

import ctypes

import numpy as np

from rotinv.kernels.cpu.jit import inline
from rotinv.kernels.cpu.vector.simd import prefetch, prefetch_to_write

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h

LINE = 64  # bytes of a cache line, and of the widest vector


def empty(shape):
    """A fresh float32 array that begins at a cache line, so that none of its vectors straddles two."""
    return scratch.py_func(int(np.prod(shape))).reshape(shape)


@inline
def scratch(size):
    """A fresh flat array, not filled, for use inside a kernel."""
    spare = np.empty(size + LINE // 4, np.float32)
    start = -spare.ctypes.data // 4 % (LINE // 4)
    return spare[start : start + size]


def keep_freed_pages() -> None:
    """Have malloc serve large blocks from the heap and never shrink it. Does nothing where there is no
    glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl and macOS lack mallopt, Windows the handle
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)


@inline
def ask_for(array, begin, end, size, part, parts):
    """Prefetch part number `part` of `parts` of array[begin:end], which is read soon; `size` is an element's
    bytes."""
    step = LINE // size
    lines = (end - begin + step - 1) // step
    for line in range(part * lines // parts, (part + 1) * lines // parts):
        prefetch(array, begin + line * step)


@inline
def ask_to_write(array, begin, end, part, parts):
    """Prefetch a part of a float32 array that is written soon: a store fetches its cache line first."""
    lines = (end - begin + LINE // 4 - 1) // (LINE // 4)
    for line in range(part * lines // parts, (part + 1) * lines // parts):
        prefetch_to_write(array, begin + line * (LINE // 4))
