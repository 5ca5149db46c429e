"""From raw pixels to a network's input: the centre of a stamp, each channel scaled to [0, 1].

    x' = (x - min x) / (max x - min x)      per stamp and channel

Minimum and maximum do not depend on the order of the pixels, and every pixel is scaled by itself. So a stamp
gets the same bits wherever it is in a batch, and a turned stamp gets the same bits, turned.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError
from rotinv.system.scratch import njit

NORMALISATIONS = ("none", "minmax")  # what a store may hold: raw pixels, or pixels scaled already

_TOGETHER = 64  # numbers of a stamp that are scaled side by side

Stamps = NDArray[np.float32]  # (N, S, S, C)


def prepare(raw: NDArray[Any], normalisation: str = "none", side: int | None = None) -> tuple[Stamps, int]:
    """The stamps (N, S, S, C) as a network reads them, and how many of their channels are constant.

    Cuts out the centre of `side` pixels first. Pixels of a store marked 'minmax' are scaled already.
    Training, scoring and explaining all use this function.
    """
    if side is not None:
        raw = crop(raw, side)
    if normalisation == "minmax":
        return np.ascontiguousarray(raw, dtype=np.float32), 0
    return normalise(raw)


def normalise(raw: NDArray[Any]) -> tuple[Stamps, int]:
    """Scale each channel of each stamp (N, S, S, C) to [0, 1]; also returns the number of constant channels.

    A constant channel becomes zeros. A channel with a NaN or infinite pixel has such pixels in the result
    too.
    """
    pixels = np.ascontiguousarray(raw, dtype=np.float32)
    count, channels = pixels.shape[0], pixels.shape[-1]
    flat = pixels.reshape(
        count, pixels.shape[1] * pixels.shape[2], channels
    )  # -1 cannot be told of no stamps
    scaled = np.empty_like(flat)
    constant = _scale(flat, scaled)
    return scaled.reshape(pixels.shape), int(constant)


def crop(stamps: NDArray[Any], side: int) -> NDArray[Any]:
    """The centre `side` x `side` pixels of stamps (N, S, S, C), as a view.

    `side` must be odd if S is odd and even if S is even: otherwise no cut has the same centre. Raises
    UserError if it is not, or if it is larger than S.
    """
    size = stamps.shape[1]
    check_side(size, side)
    start = (size - side) // 2
    return stamps[:, start : start + side, start : start + side]


def check_side(size: int, side: int) -> None:
    """Raise UserError unless the centre of `side` pixels can be cut out of stamps of `size` pixels (see
    crop)."""
    if not 1 <= side <= size:
        raise UserError(
            f"crop {side}: the stamps have {size} x {size} pixels; give a number from 1 to {size}"
        )
    if (size - side) % 2:
        parity = "odd" if size % 2 else "even"
        raise UserError(
            f"crop {side}: stamps of {size} x {size} pixels have no centre of {side} x {side}; "
            f"give an {parity} number"
        )


@njit(nogil=True, error_model="numpy")  # "python" looks at each divisor, which keeps vectors from being used
def _scale(raw: Any, out: Any) -> int:
    """Scale raw (N, P, C) into out, in one thread, since the training has threads of its own.

    The difference is taken in float64, where that of two float32 numbers cannot overflow. Some pixels in a
    row are worked at together, so that the machine's vectors are full however few channels there are.
    """
    count, pixels, channels = raw.shape
    wide = channels * max(1, _TOGETHER // channels)
    low, high = np.empty(wide, np.float32), np.empty(wide, np.float32)
    minimum, span = np.empty(wide, np.float64), np.empty(wide, np.float64)
    constant = 0
    for n in range(count):
        _ranges(raw[n].reshape(-1), channels, low, high)
        for i in range(wide):
            minimum[i] = np.float64(low[i % channels]) + 0.0  # -0 becomes +0, whichever came first
            span[i] = np.float64(high[i % channels]) - minimum[i]
        _divide(raw[n].reshape(-1), minimum, span, out[n].reshape(-1))
        for c in range(channels):
            if span[c] == 0.0:
                constant += 1
                for p in range(pixels):
                    out[n, p, c] = raw[n, p, c] - raw[n, p, c]  # 0, but NaN for NaN
    return constant


@njit(nogil=True)
def _ranges(flat: Any, channels: int, low: Any, high: Any) -> None:
    """Write the least and the largest number of each channel of a stamp into the first of low and of high."""
    low[:], high[:] = np.inf, -np.inf
    for begin in range(0, len(flat), len(low)):
        part = flat[begin : begin + len(low)]
        for i in range(len(part)):
            x = part[i]
            low[i] = x if x < low[i] else low[i]
            high[i] = x if x > high[i] else high[i]
    for i in range(channels, len(low)):
        c = i % channels
        low[c] = low[i] if low[i] < low[c] else low[c]
        high[c] = high[i] if high[i] > high[c] else high[c]


@njit(nogil=True, error_model="numpy")
def _divide(flat: Any, minimum: Any, span: Any, scaled: Any) -> None:
    """Write a stamp's scaled numbers; where a span is 0 they are none."""
    for begin in range(0, len(flat), len(span)):
        part, to = flat[begin : begin + len(span)], scaled[begin : begin + len(span)]
        for i in range(len(part)):
            to[i] = np.float32((np.float64(part[i]) - minimum[i]) / span[i])
