"""The windows that convolutions and poolings look at: with strides, dilations and padding.

Maps are (n, c, h, w), as ONNX has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

Pair = tuple[int, int]  # down and across


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as float64; an array of one stays an array."""
    return np.asarray(values, np.float64)


@dataclass(frozen=True)
class Windows:
    """Which windows there are on a map of h x w pixels.

    Attributes
    ----------
    kernel, strides, dilations : (int, int)
        Down and across.
    begin, end : (int, int)
        The padding above and to the left, below and to the right.
    beyond : (int, int)
        What the last windows reach beyond the padding at the end (ONNX's ceil_mode).
    """

    kernel: Pair
    strides: Pair
    dilations: Pair
    begin: Pair
    end: Pair
    beyond: Pair = (0, 0)

    def of(self, x: NDArray, fill: float = 0) -> NDArray:
        """The windows (n, c, p, q, i, j) of maps (n, c, h, w), whose padding has the value `fill`."""
        after = [e + b for e, b in zip(self.end, self.beyond, strict=True)]
        border = [(0, 0), (0, 0), *zip(self.begin, after, strict=True)]
        padded = np.pad(x, border, constant_values=fill)
        spread = sliding_window_view(padded, self.extent, axis=(2, 3))
        (down, across), (i, j) = self.strides, self.dilations
        return spread[:, :, ::down, ::across, ::i, ::j]

    def fold(self, windows: NDArray, shape: Sequence[int]) -> NDArray:
        """The adjoint of `of`: add windows (n, c, p, q, i, j) to the pixels (n, c, h, w) that they come
        from."""
        n, c, h, w = shape
        tall = h + self.begin[0] + self.end[0] + self.beyond[0]
        wide = w + self.begin[1] + self.end[1] + self.beyond[1]
        padded = np.zeros((n, c, tall, wide), windows.dtype)
        p, q = windows.shape[2:4]
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows = self._places(0, i, p)
                columns = self._places(1, j, q)
                padded[:, :, rows, columns] += windows[..., i, j]
        top, left = self.begin
        return padded[:, :, top : top + h, left : left + w].copy()

    @property
    def extent(self) -> Pair:
        """How many pixels a window spans, down and across."""
        down, across = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        return down, across

    def _places(self, axis: int, tap: int, count: int) -> slice:
        """The pixels of the padded map that are the given tap of `count` windows."""
        first, step = tap * self.dilations[axis], self.strides[axis]
        return slice(first, first + (count - 1) * step + 1, step)
