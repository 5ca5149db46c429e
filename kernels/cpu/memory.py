"""Ask glibc to keep freed memory, because a kernel's fresh arrays must not fault their pages in anew.

By default malloc maps large blocks and returns them on free: each call then pays a page fault for every
4 KiB it touches, which more than doubles the time of a convolution.
"""

import ctypes

import numpy as np

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h

LINE = 64  # bytes of a cache line, and of the widest vector


def empty(shape):
    """A fresh float32 array that starts a cache line, so that no vector of it lies across two."""
    size = int(np.prod(shape))
    spare = np.empty(size + LINE // 4, np.float32)
    start = -spare.ctypes.data // 4 % (LINE // 4)
    return spare[start : start + size].reshape(shape)


def keep_freed_pages() -> None:
    """Serve large blocks from the heap and never shrink it; nothing where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl and macOS lack mallopt, Windows the handle
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)
