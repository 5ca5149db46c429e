"""Numba kernels in float32: the equations of the reference, written by hand for a CPU's vector units.

jit.py compiles and caches, vector/ has the vector registers and the tile of sums that all products share,
winograd/ the convolutions that take fewer products than direct sums;
each other module is a family of kernels, or a part of one.
"""

from rotinv.kernels.cpu import memory

memory.keep_freed_pages()
