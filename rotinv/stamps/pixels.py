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


@njit(nogil=True)
def _scale(raw: Any, out: Any) -> int:
    """Scale raw (N, P, C) into out, in one thread, since the training has threads of its own.

    The difference is taken in float64, where that of two float32 numbers cannot overflow.
    """
    count, pixels, channels = raw.shape
    constant = 0
    for n in range(count):
        for c in range(channels):
            low, high = np.float32(np.inf), np.float32(-np.inf)
            for p in range(pixels):
                x = raw[n, p, c]
                low = x if x < low else low
                high = x if x > high else high
            minimum = np.float64(low) + 0.0  # -0 becomes +0, whichever came first
            span = np.float64(high) - minimum
            if span == 0.0:
                constant += 1
                for p in range(pixels):
                    out[n, p, c] = raw[n, p, c] - raw[n, p, c]  # 0, but NaN for NaN
            else:
                for p in range(pixels):
                    out[n, p, c] = np.float32((np.float64(raw[n, p, c]) - minimum) / span)
    return constant
