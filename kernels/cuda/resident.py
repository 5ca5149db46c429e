"""A data set's stamps in the device's memory; batches are taken from it by row numbers."""

import math
import threading

from rotinv.kernels.cuda.launch import THREADS, blocks_for

_TAKING_ROOM = threading.Lock()  # trials that begin together must not count on the same free memory


class Stamps:
    """Room for stamps of `shape` (n, h, w, c) on the device `on` (rotinv.nn.contract.Resident)."""

    def __init__(self, on, shape):
        self._on, self._there = on, on.empty(shape)

    def put(self, start, stamps):
        self._on.fill_in(self._there[start : start + len(stamps)], stamps)

    def take(self, rows):
        rows = self._on.asindex(rows)
        y = self._on.empty((len(rows), *self._there.shape[1:]))
        sizes = y.size // len(rows), y.size
        self._on.launch("stamps_take", blocks_for(y.size), THREADS, self._there, rows, y, *sizes)
        return y


def resident(on, shape):
    """Room for stamps of `shape`, or None if the memory does not suffice
    (rotinv.nn.contract.Kernels.resident)."""
    with _TAKING_ROOM:
        return Stamps(on, shape) if 4 * math.prod(shape) <= on.room() else None
