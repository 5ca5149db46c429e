"""One alert, of whatever survey, as the stamp that a network reads: every policy for what packets lack::

    SNR difference = difference / sqrt(variance), or difference / sigma with
    sigma = 1.4826 median |difference - its median|

The stamp is the 21 x 21 pixels about the alert's own pixel, never resampled. docs/alerts.md tells each policy
with its reason. Tally counts what became of alerts, block by block.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.robust_noise import robust_noise
from rotinv.stamps.store import CHANNELS

FLAGS = {  # name: (bit, what it says of an object)
    "negative": (1, "found in template - science: template and science change places"),
    "robust_noise": (2, "no variance: the SNR difference is the difference over its own robust noise"),
    "filled": (4, "pixels without a value were given the median of their channel"),
    "edge": (8, "a cut-out ends within the stamp: what lies beyond counts as pixels without a value"),
    "missing_cutout": (16, "a cut-out is missing: its channel has no values"),
    "unreadable": (32, "the packet, a cut-out or a value of it cannot be read"),
    "gaps": (64, "too many pixels without a value, or one in the middle: the channel has no values"),
    "off_centre": (128, "a cut-out is not of the survey's size, and nothing says where in it the alert is"),
    "constant": (256, "a channel is constant, and is read as zeros"),
    "not_scored": (512, "a channel that the network reads has no values: no score"),
    "sign_unknown": (1024, "nothing says whether the difference is of science - template or turned"),
}
BIT = {name: bit for name, (bit, _) in FLAGS.items()}
_REASONS = BIT["unreadable"] | BIT["missing_cutout"] | BIT["off_centre"]  # why a channel has no values
_MIDDLE = 5  # pixels: the source's own
_MOST_FILLED = 0.25  # of a channel's pixels

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
    flipped: bool | None = False  # then: the difference is that of template - science already; None: unknown
    place: str = "middle"  # where the source is in a cut-out: see profiles.Profile
    side: int | None = None  # of a whole cut-out, pixels, where the survey has one size
    position: tuple[float, float] | None = None  # x, y: in the image, or, for "wcs", in the cut-out (from 0)
    image: tuple[int, int] | None = None  # the image's columns and rows
    ra: float = float("nan")  # degrees
    dec: float = float("nan")
    mjd: float = float("nan")  # days, in the survey's own scale of time
    band: str = ""
    magnitude: float = float("nan")  # of the difference
    flux: float = float("nan")  # of the difference, nJy
    survey_score: float = float("nan")  # the survey's own, of how likely the alert is real
    survey_score_version: str = ""
    pixel_flags: str = ""  # names, with blanks between
    flags: int = 0


def stamp_of(packet: Packet, size: int) -> tuple[NDArray[np.float32], int]:
    """The stamp (size, size, 4) in the order of CHANNELS, and its flags; NaN is a channel without values."""
    flags = packet.flags
    first, second, difference = packet.template, packet.science, packet.difference
    if packet.negative:
        flags |= BIT["negative"]
        first, second = second, first
        if difference is not None and packet.flipped is None:
            flags |= BIT["sign_unknown"]
            difference = np.full(difference.shape, np.nan)
        elif difference is not None and not packet.flipped:
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
    if not np.isfinite(out).all():
        for c in range(len(CHANNELS)):
            flags |= _fill(out[:, :, c])
    if flags & _REASONS or (packet.negative and packet.flipped is None):
        flags &= ~BIT["gaps"]  # the reason is known
    return out, flags


def _noise(packet: Packet, size: int) -> tuple[Pixels | float, int]:
    """The standard deviation of the difference, of each pixel or of all; a variance that is not above 0, or
    infinite, gives none."""
    if packet.difference is None:
        return np.nan, 0
    if packet.variance is not None:
        found, flags = _cut(packet, packet.variance, size)
        variance = np.asarray(found, np.float64)
        return np.sqrt(np.where((variance > 0) & np.isfinite(variance), variance, np.nan)), flags
    sigma = robust_noise(packet.difference)
    return sigma if sigma > 0 else np.nan, BIT["robust_noise"]


def _cut(packet: Packet, pixels: Pixels | None, size: int) -> tuple[Pixels | float, int]:
    """The size x size pixels of a cut-out about the alert, NaN where (or if) it has none, and the flags."""
    if pixels is None:
        return np.nan, 0 if packet.flags & BIT["unreadable"] else BIT["missing_cutout"]
    centre = _centre(packet, pixels.shape)
    if centre is None:
        return np.nan, BIT["off_centre"]
    top, left = (at - size // 2 for at in centre)
    if top >= 0 and left >= 0 and top + size <= pixels.shape[0] and left + size <= pixels.shape[1]:
        return pixels[top : top + size, left : left + size], 0
    out = np.full((size, size), np.nan)
    rows = slice(max(top, 0), min(top + size, pixels.shape[0]))
    columns = slice(max(left, 0), min(left + size, pixels.shape[1]))
    inner = pixels[rows, columns]
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inner
    return out, BIT["edge"]


def _centre(packet: Packet, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The row and column of the alert's own pixel in a cut-out; None if it cannot be known."""
    at = packet.position[::-1] if packet.position else (None, None)
    if packet.place in ("box", "wcs"):
        axes = [_in_box(length, x, packet.place) for length, x in zip(shape, at, strict=True)]
    else:
        whole = packet.side or shape[0]
        images = packet.image[::-1] if packet.place == "edge" and packet.image else (None, None)
        axes = [_in_side(found, whole, x, n) for found, x, n in zip(shape, at, images, strict=True)]
    row, column = axes
    if row is None or column is None or not (0 <= row < shape[0] and 0 <= column < shape[1]):
        return None
    return row, column


def _in_box(length: int, x: float | None, place: str) -> int | None:
    """The source's pixel along an axis of a box of `length` pixels about it.

    Rubin rounds the box's corner: the source is at x - floor(x - length / 2 + 1), which for an even length is
    length / 2 - 1 and a fraction, so that its pixel is that one or the next. For "wcs" x is in the box.
    """
    if x is None:
        return length // 2 if length % 2 and place == "box" else None
    within = x if place == "wcs" else x - math.floor(x - length / 2 + 1)
    return math.floor(within + 0.5)


def _in_side(length: int, whole: int, x: float | None, image: int | None) -> int | None:
    """The source's pixel along an axis of a cut-out whose whole side has it in the middle, at whole // 2.

    A shorter cut-out ends at an edge of the `image`: x, which counts from 1, then says which edge, and it
    must be as near to that as the cut-out is short (to a pixel, for x is measured on another grid).
    """
    middle = whole // 2
    if length == whole:
        return middle
    if x is None or image is None or length > whole:
        return None
    lacking = whole - length
    pixel = round(x)
    below, above = middle + 1 - pixel, whole - middle - 1 - (image - pixel)  # pixels beyond either edge
    if abs(lacking - below) <= 1 and above <= 0:
        return middle - lacking
    return middle if abs(lacking - above) <= 1 and below <= 0 else None


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
