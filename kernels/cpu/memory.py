"""What kernels owe to memory: pages that stay, arrays that start a cache line, lines asked for in time.

By default malloc maps large blocks and returns them on free: each call then pays a page fault for every
4 KiB it touches, which more than doubles the time of a convolution. And a batch's maps do not fit a cache:
what a kernel reads or writes next it asks for while it still computes, or it waits for a third of its time.
"""

import ctypes

import numpy as np

from rotinv.kernels.cpu.jit import inline
from rotinv.kernels.cpu.vector.simd import prefetch, prefetch_to_write

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h

LINE = 64  # bytes of a cache line, and of the widest vector


def empty(shape):
    """A fresh float32 array that starts a cache line, so that no vector of it lies across two."""
    return scratch.py_func(int(np.prod(shape))).reshape(shape)


@inline
def scratch(size):
    """A fresh flat array, for use inside a kernel; not filled."""
    spare = np.empty(size + LINE // 4, np.float32)
    start = -spare.ctypes.data // 4 % (LINE // 4)
    return spare[start : start + size]


def keep_freed_pages() -> None:
    """Serve large blocks from the heap and never shrink it; nothing where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl and macOS lack mallopt, Windows the handle
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)


@inline
def ask_for(array, begin, end, size, part, parts):
    """Ask for one of so many parts of array[begin:end], of elements of `size` bytes, to be read soon."""
    step = LINE // size
    lines = (end - begin + step - 1) // step
    for line in range(part * lines // parts, (part + 1) * lines // parts):
        prefetch(array, begin + line * step)


@inline
def ask_to_write(array, begin, end, part, parts):
    """Ask for a part of a float32 array that is soon written: a store would have to fetch its line first."""
    lines = (end - begin + LINE // 4 - 1) // (LINE // 4)
    for line in range(part * lines // parts, (part + 1) * lines // parts):
        prefetch_to_write(array, begin + line * (LINE // 4))
