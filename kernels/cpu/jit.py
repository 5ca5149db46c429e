"""How the functions here are compiled: `kernel` is for entry points, `part` and `inline` for what they call.

Numba's cache recompiles an entry point only when its own file changes. Here the cache also sees a hash of all
sources in this folder and below it, so that an edit in vector/simd.py reaches every kernel that uses it.
"""

import hashlib
from pathlib import Path

from numba import njit


def _folder_stamp() -> str:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


_STAMP = _folder_stamp()


def kernel(function):
    """Compile an entry point: parallel over its pranges, cached on disk, with IEEE arithmetic (no
    fastmath)."""
    # Only prange is made parallel: Numba's search for other parallelism takes time and finds nothing here.
    parts = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
    parallel = dict.fromkeys(parts, False) | {"prange": True}
    dispatcher = njit(parallel=parallel, cache=True, error_model="numpy", nogil=True)(function)
    dispatcher._cache._cache_file._source_stamp = _STAMP  # Numba >= 0.61 has no public way to do this
    return dispatcher


def inline(function):
    """Compile a part of a kernel into each of its callers."""
    return njit(forceinline=True, error_model="numpy")(function)


def part(function):
    """Compile a large part of a kernel once, to be called: it would be optimised again with each caller."""
    return njit(error_model="numpy")(function)
