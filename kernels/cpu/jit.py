"""How this folder's functions are compiled: `kernel` for entry points, `inline` for their parts.

Numba's cache watches only the file that defines an entry point. Here an entry point is stamped with a hash
of every file of the folder and its subfolders instead, so an edit in vector/simd.py takes effect in all that
use it.
"""

import hashlib
from pathlib import Path

from numba import njit


def _folder_stamp() -> str:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


_STAMP = _folder_stamp()


def kernel(function):
    """Compile an entry point: parallel over its pranges, cached on disk, IEEE arithmetic (no fastmath)."""
    # Only prange is made parallel: looking for other parallelism costs compile time and finds none here.
    parts = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
    parallel = dict.fromkeys(parts, False) | {"prange": True}
    dispatcher = njit(parallel=parallel, cache=True, error_model="numpy", nogil=True)(function)
    dispatcher._cache._cache_file._source_stamp = _STAMP  # Numba >= 0.61 offers no public way
    return dispatcher


def inline(function):
    """Compile a part of a kernel into each of its callers."""
    return njit(forceinline=True, error_model="numpy")(function)
