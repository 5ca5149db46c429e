"""Numba float32: the reference's equations, written by hand for the vector units of a CPU.

jit.py compiles and caches, simd.py is the vector type, tile.py the register tile; then a module a family.
"""

from rotinv.kernels.cpu import memory

memory.keep_freed_pages()
