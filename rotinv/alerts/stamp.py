"""One alert, of whatever survey, as the stamp that a network reads: every policy for what packets lack::

    SNR difference = difference / sqrt(variance), or difference / sigma with
    sigma = 1.4826 median |difference - its median|

The stamp is the 21 x 21 pixels about the alert's own pixel, never resampled. docs/alerts.md tells each policy
with its reason. Tally counts what became of alerts, block by block.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.store import CHANNELS

FLAGS = {  # name: (bit, what it says of an object)
    "negative": (1, "found in template - science: template and science change places"),
    "robust_noise": (2, "no variance: the SNR difference is the difference over its own robust noise"),
    "filled": (4, "pixels without a value were given the median of their channel"),
    "edge": (8, "a cut-out ends within the stamp: what lies beyond counts as pixels without a value"),
    "missing_cutout": (16, "a cut-out is missing: its channel has no values"),
    "unreadable": (32, "the packet or a cut-out of it cannot be read"),
    "gaps": (64, "too many pixels without a value, or one in the middle: the channel has no values"),
    "off_centre": (
        128,
        "a cut-out is not of the expected size and the packet does not say which side is cut",
    ),
    "constant": (256, "a channel is constant, and is read as zeros"),
    "not_scored": (512, "a channel that the network reads has no values: no score"),
}
BIT = {name: bit for name, (bit, _) in FLAGS.items()}
_MIDDLE = 5  # pixels: the source's own
_MOST_FILLED = 0.25  # of a channel's pixels
_GAUSSIAN = 1.4826  # standard deviations in a median absolute deviation

Pixels = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Packet:
    """What an alert says, with each cut-out as an array (rows, columns), or None where it has none."""

    survey: str
    object_id: str
    candidate_id: str
    snr: float = float("nan")
    template: Pixels | None = None
    science: Pixels | None = None
    difference: Pixels | None = None
    variance: Pixels | None = None  # of the difference
    negative: bool = False  # detected in template - science
    flipped: bool = False  # then: the difference's sign is already that of template - science
    side: int | None = None  # of a whole cut-out, pixels, where the survey has one size
    position: tuple[float, float] | None = None  # x, y in an image whose pixels count from 1
    image: tuple[int, int] | None = None  # that image's columns and rows
    flags: int = 0


def stamp_of(packet: Packet, size: int) -> tuple[NDArray[np.float32], int]:
    """The stamp (size, size, 4) in the order of CHANNELS, and its flags; NaN is a channel without values."""
    flags = packet.flags
    first, second, difference = packet.template, packet.science, packet.difference
    if packet.negative:
        flags |= BIT["negative"]
        first, second = second, first
        if difference is not None and not packet.flipped:
            difference = np.negative(difference, dtype=np.float64)
    stamp_of = np.empty((size, size, len(CHANNELS)))
    with np.errstate(all="ignore"):  # what is no number, or too large for float32, has no value
        for c, pixels in enumerate((first, second, difference)):
            stamp_of[:, :, c], found = _cut(packet, pixels, size)
            flags |= found
        noise, found = _noise(packet, size)
        flags |= found
        stamp_of[:, :, 3] = stamp_of[:, :, 2] / noise
        out = stamp_of.astype(np.float32)
    for c in range(len(CHANNELS)):
        flags |= _fill(out[:, :, c])
    if flags & (BIT["unreadable"] | BIT["missing_cutout"] | BIT["off_centre"]):
        flags &= ~BIT["gaps"]  # the reason is known
    return out, flags


def _noise(packet: Packet, size: int) -> tuple[Pixels | float, int]:
    """The standard deviation of the difference, of each pixel or of all; a variance not above 0 has none."""
    if packet.difference is None:
        return np.nan, 0
    if packet.variance is not None:
        variance, flags = _cut(packet, packet.variance, size)
        return np.sqrt(np.where(variance > 0, variance, np.nan)), flags
    known = packet.difference[np.isfinite(packet.difference)]
    sigma = _GAUSSIAN * _median(np.abs(known - _median(known))) if len(known) else 0
    return sigma if sigma > 0 else np.nan, BIT["robust_noise"]


def _median(values: Pixels) -> float:
    """The median of numbers, by a sort, which takes a third of the time of numpy's median."""
    ordered, count = np.sort(values), len(values)
    return (float(ordered[(count - 1) // 2]) + float(ordered[count // 2])) / 2


def _cut(packet: Packet, pixels: Pixels | None, size: int) -> tuple[Pixels, int]:
    """The size x size pixels of a cut-out about the alert, NaN where it has none, and the flags."""
    out = np.full((size, size), np.nan)
    if pixels is None:
        return out, 0 if packet.flags & BIT["unreadable"] else BIT["missing_cutout"]
    centre = _centre(packet, pixels.shape)
    if centre is None:
        return out, BIT["off_centre"]
    top, left = (at - size // 2 for at in centre)
    rows = slice(max(top, 0), min(top + size, pixels.shape[0]))
    columns = slice(max(left, 0), min(left + size, pixels.shape[1]))
    inner = pixels[rows, columns]
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inner
    return out, 0 if inner.shape == out.shape else BIT["edge"]


def _centre(packet: Packet, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The row and column of the alert's own pixel in a cut-out; None if it cannot be known.

    A whole cut-out of n pixels has it at n // 2. One that ends at an edge of the image lacks pixels on that
    side; which side it is, the position says.
    """
    whole = packet.side or shape[0]
    if shape == (whole, whole):
        return whole // 2, whole // 2
    if packet.position is None or packet.image is None or max(shape) > whole:
        return None
    row, column = (
        found - (whole - whole // 2) if at < length / 2 else whole // 2
        for found, at, length in zip(shape, packet.position[::-1], packet.image[::-1], strict=True)
    )
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def _fill(channel: NDArray[np.float32]) -> int:
    """Give the pixels without a value their channel's median, or all of them none; gives the flags."""
    known = np.isfinite(channel)
    if known.all():
        return 0
    start = (len(channel) - _MIDDLE) // 2
    middle = known[start : start + _MIDDLE, start : start + _MIDDLE]
    if not middle.all() or np.mean(~known) > _MOST_FILLED:
        channel[...] = np.nan
        return BIT["gaps"]
    channel[~known] = np.median(channel[known])
    return BIT["filled"]


_TOLD = 10  # problems that are told one by one


class Tally:
    """Counts of flags and of surveys."""

    def __init__(self) -> None:
        self.flags, self.surveys = Counter[str](), Counter[str]()

    def add(self, flags: NDArray[np.uint32], surveys: Iterable[str]) -> None:
        """Count the flags (n,) and the surveys' names (n,) of stamps."""
        for name, bit in BIT.items():
            self.flags[name] += int((flags & np.uint32(bit) != 0).sum())
        self.surveys.update(surveys)

    def lines(self, where: object) -> list[str]:
        """What a user is told: the flags, and a word where several surveys are mixed."""
        lines = []
        if flags := ", ".join(f"{count:,} {name}" for name, count in self.flags.items() if count):
            lines.append(f"{where}: flags: {flags}")
        if len(self.surveys) > 1:
            mixed = ", ".join(f"{count:,} {name or 'unnamed'}" for name, count in self.surveys.items())
            lines.append(f"{where}: several surveys, whose pixels differ in size and noise: {mixed}")
        return lines


def first_of(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - _TOLD
    return [*problems[:_TOLD], *([f"… and {more:,} more that cannot be read"] if more > 0 else [])]
