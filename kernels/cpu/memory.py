"""Ask glibc to keep freed memory, because a kernel's fresh arrays must not fault their pages in anew.

By default malloc maps large blocks and returns them on free: each call then pays a page fault for every
4 KiB it touches, which more than doubles the time of a convolution.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_pages() -> None:
    """Serve large blocks from the heap and never shrink it; nothing where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl and macOS lack mallopt, Windows the handle
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)
