"""The robust noise of an image, sigma = 1.4826 median |x - median x|, without sorting it.

A median is found by halving. The bits of floats, read as whole numbers, have the order of the values, and to
count how many of some thousand whole numbers are at most a given one takes vectors a third of a microsecond.
So some 30 counts take less time than numpy's partition, whose branches no processor foresees.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rotinv.system.scratch import njit

_GAUSSIAN = 1.4826  # standard deviations in a median absolute deviation


def robust_noise(pixels: NDArray[Any]) -> float:
    """The standard deviation of pixels of any shape and kind of number, from those that are finite; 0 if none
    is.

    Deviations of float32 pixels are taken as float32, those of others as float64.
    """
    single = pixels.dtype.kind == "f" and pixels.dtype.itemsize == 4
    values = np.array(pixels, np.float32 if single else np.float64).reshape(-1)  # a copy, to be written over
    bits = values.view(np.int32 if single else np.int64)
    return _GAUSSIAN * float(_deviation(values, bits, bits.dtype.type(np.iinfo(bits.dtype).max)))


@njit(nogil=True)
def _deviation(values: Any, bits: Any, largest: Any) -> float:
    """The median absolute deviation of those values that are finite.

    `bits` is the same memory as whole numbers, and `largest` the largest of their kind.
    """
    count = 0
    for i in range(len(values)):
        value = values[i]
        values[count] = value
        count += np.isfinite(value)
    if count == 0:
        return 0.0
    values, bits = values[:count], bits[:count]
    median = values.dtype.type(_median(values, bits, largest))
    for i in range(count):
        values[i] = abs(values[i] - median)
    return _median(values, bits, largest)


@njit(nogil=True)
def _median(values: Any, bits: Any, largest: Any) -> float:
    """The median: of an even number of values the mean of the middle two. The values' order is kept."""
    _turn(bits, largest)
    low = _of_rank(bits, (len(bits) - 1) // 2)
    high = low if len(bits) % 2 else _of_rank(bits, len(bits) // 2)
    at_low, at_high = 0, 0
    for i in range(len(bits)):
        at_low = i if bits[i] == low else at_low
        at_high = i if bits[i] == high else at_high
    _turn(bits, largest)
    return (np.float64(values[at_low]) + np.float64(values[at_high])) / 2


@numba.njit(inline="always")
def _turn(bits: Any, largest: Any) -> None:
    """From the bits of floats to whole numbers in the floats' order, and back: all bits of a negative one but
    its sign are turned."""
    for i in range(len(bits)):
        bits[i] ^= largest if bits[i] < 0 else 0


@njit(nogil=True)
def _of_rank(numbers: Any, rank: int) -> Any:
    """The number that would stand at a place, counted from 0, if they were sorted: the least one that more
    than `rank` are at most."""
    low, high = np.int64(numbers.min()), np.int64(numbers.max())
    while low < high:
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, downwards, without an overflow
        if _at_most(numbers, numbers.dtype.type(middle)) > rank:
            high = middle
        else:
            low = middle + 1
    return numbers.dtype.type(low)


@njit(nogil=True)
def _at_most(numbers: Any, most: Any) -> int:
    """How many numbers are at most a given one of their kind, counted in 32 bits: more fit in a vector."""
    count = np.int32(0)
    for i in range(len(numbers)):
        count = np.int32(count + np.int32(numbers[i] <= most))
    return count
