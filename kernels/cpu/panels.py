"""Weights packed into panels of output channels, as the register tile reads them (vector/tile.py)."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel
from rotinv.kernels.cpu.vector.simd import LANES, load_part, store
from rotinv.kernels.cpu.vector.tile import PANEL
from rotinv.kernels.cpu.vector.transposed import transpose_block


def whole(o):
    """How many channels the panels of o channels have."""
    return -(-o // PANEL) * PANEL


def panels(w):
    """The weights (…, o), cut into panels of PANEL output channels: a flat array (panels, …, PANEL), zeros
    beyond o."""
    o = w.shape[-1]
    k = w.size // o
    packed = np.empty(whole(o) * k, np.float32)
    _pack(np.ascontiguousarray(w).reshape(-1), k, o, packed)
    return packed


def panels_transposed(w):
    """The panels of the transpose of a matrix (o, k)."""
    o, k = w.shape
    packed = np.empty(whole(o) * k, np.float32)
    _pack_transposed(np.ascontiguousarray(w).reshape(-1), k, o, packed)
    return packed


@kernel
def _pack(w, k, o, packed):
    for panel in prange((o + PANEL - 1) // PANEL):
        first = panel * PANEL
        for i in range(k):
            for v in range(0, PANEL, LANES):
                part = load_part(w, i * o + first + v, o - first - v)
                store(packed, (panel * k + i) * PANEL + v, part)


@kernel
def _pack_transposed(w, k, o, packed):
    for panel in prange((o + PANEL - 1) // PANEL):
        first = panel * PANEL
        for i in range(0, k, LANES):
            for v in range(0, PANEL, LANES):
                transpose_block(w, (first + v) * k + i, k, o - first - v, k - i,
                                packed, (panel * k + i) * PANEL + v, PANEL, k - i, LANES)  # fmt: skip
