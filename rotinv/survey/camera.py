"""The camera: noise, saturation and bleeding, cosmic rays, bad pixels and rows, lost edges, bad variances.

DECam: read noise 7 e-, full well about 1.3e5 e- (recipe, "Instrument" and 8-13). Images are in electrons.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from rotinv.survey import kinds
from rotinv.system.scratch import njit

READ_NOISE = 7.0  # e- (DECam)
FULL_WELL = 1.3e5  # e- (recipe 8)
SPIKES_ABOVE = 2e6  # e-: total flux of a star that shows diffraction spikes (recipe 8)
FIELD = 768.0**2  # px: the counts below are for a field of this area
# Cosmic rays per field that are left: the real survey's pipeline removed most (with CRBLASTER) before it
# resampled the images. Recipe 9 leaves all, 45; networks of the real survey took one in seven for a source.
COSMIC_RAYS = {"science": 6.0, "template": 2.0}
BAD_PIXELS = 180.0  # per field (recipe 10 has 30; more, for speed)
BAD_ROWS = 2.0  # segments per field (recipe 11)
COLLAPSED = 12.0  # spots of too small variance per field (recipe 12; tuned)
COLLAPSE = (
    -5.0,
    -1.0,
)  # log10 of the variance left (recipe 12: -1.7 to -1; tuned: |SNR| of 1e2 to 1e4 is common)
MASKED = 4.0  # spots of vanishing variance per field (recipe 12; tuned to 2.2% of the artifacts kept)
MASKED_VARIANCE = (-8.0, -5.0)  # log10 of e-^2: half at the lower end (recipe 12), half between (tuned)
FILTER_REACH = 5  # px: within this distance, a pixel of vanishing variance dominates the detection filter
LOST_SIDES = 0.6  # chance that a side of the pair is zero-filled (recipe 13; tuned)
GLOWS = 0.35  # chance that part of a lost side glows in the science image (tuned: edges in 1-2% of artifacts)
GLOW = (1.0, 8.0)  # of the noise, log-uniform: CCDs glow, or are over-corrected, at their edges (tuned)
AMPLIFIER_STEPS = 0.4  # chance of a step between amplifiers (recipe 13; tuned)
SKY_MESH = 32.0  # px: the sky is measured and subtracted on such scales (as SExtractor does by default)


def _normal_table() -> np.ndarray:
    """A table of 65,536 normal deviates, equally probable and of unit variance: 16 random bits choose one."""
    z = special.ndtri((np.arange(2**16) + 0.5) / 2**16)
    return (z / z.std()).astype(np.float32)


NORMAL = _normal_table()  # reaches 4.3 sigma: enough, since detection sums tens of pixels


class Spoiled(NamedTuple):
    """The defects of a differenced pair, drawn once and applied to each version of the pair."""

    spots: np.ndarray  # (N, 6): row, column, height, width, factor (0: masked), masked variance
    lost: tuple[slice, slice] | None  # the zero-filled side
    glow: np.ndarray  # e-/px: (along, across) that side of the science image, from the lost pixels inwards
    glow_start: int  # px along the side


def expose(rng: np.random.Generator, scene: np.ndarray, level: float) -> np.ndarray:
    """Counts (e-) of `scene` on a sky of `level` e-/px: photon and read noise, saturation."""
    draws = rng.integers(0, 2**64, -(-scene.size // 4), np.uint64).view(np.uint16)
    return _counts(scene, np.float32(level), draws, NORMAL, np.float32(READ_NOISE**2), np.float32(FULL_WELL))


@njit(error_model="numpy")
def _counts(scene, level, draws, normal, read_square, full_well):
    """Poisson(mean) + N(0, read noise), computed from one normal deviate z by the sum's Cornish-Fisher
    expansion

    mean + sigma z + mean / sigma^2 (z^2 - 1) / 6, sigma^2 = mean + read noise^2.
    """
    counts = np.empty_like(scene)
    width = scene.shape[1]
    for i in range(scene.shape[0]):
        for j in range(scene.shape[1]):
            mean = scene[i, j] + level
            square = mean + read_square
            z = normal[draws[i * width + j]]
            skew = mean / square * (z * z - np.float32(1)) / np.float32(6)
            counts[i, j] = min(mean + math.sqrt(square) * z + skew, full_well)
    return counts


def bleed(
    rng: np.random.Generator,
    counts: np.ndarray,
    kind_map: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    flux: np.ndarray,
    peak: float,
) -> None:
    """Bleed trails along rows, and diffraction spikes, of stars brighter than the full well (recipe 8).

    `peak` is the share of a star's flux in its central pixel.
    """
    for n in np.flatnonzero(flux * peak > FULL_WELL):
        excess = flux[n] * (1 - FULL_WELL / (flux[n] * peak))
        width = int(rng.integers(1, 4))  # px
        half = int(min(excess / FULL_WELL / width, counts.shape[1])) // 2 + 3
        row, column = round(y[n]), round(x[n])
        rows = slice(max(row - width // 2, 0), max(row - width // 2 + width, 0))
        columns = slice(max(column - half, 0), max(column + half + 1, 0))
        trail = counts[rows, columns]
        trail[:] = np.maximum(trail, FULL_WELL * rng.uniform(0.85, 1.0, trail.shape))
        marked = kind_map[max(row - 5, 0) : max(row + 6, 0), columns]
        np.maximum(marked, kinds.NUMBER["saturation"], out=marked)
        if flux[n] > SPIKES_ABOVE:
            _add_spikes(counts, row, column, flux[n], rng.uniform(0, math.pi / 2))
            kinds.paint(kind_map, y[n], x[n], 40, kinds.NUMBER["saturation"])


def _add_spikes(counts: np.ndarray, row: int, column: int, flux: float, angle: float) -> None:
    """A cross at one pixel: 1e-5 of the flux per pixel, falling as 1/r to 100 px (tuned)."""
    r = np.arange(3, 100)
    for turn in range(4):
        i = np.round(row + r * math.sin(angle + turn * math.pi / 2)).astype(int)
        j = np.round(column + r * math.cos(angle + turn * math.pi / 2)).astype(int)
        inside = (i >= 0) & (i < counts.shape[0]) & (j >= 0) & (j < counts.shape[1])
        counts[i[inside], j[inside]] += 1e-5 * flux * 10 / r[inside]


def add_cosmic_rays(rng: np.random.Generator, counts: np.ndarray, kind_map: np.ndarray, rate: float) -> None:
    """Tracks one pixel wide, length Exp(3) px, log10 of the peak 1.75 + Exp(.38) (recipe 9)."""
    count = rng.poisson(rate * counts.size / FIELD)
    y, x = rng.uniform(0, counts.shape[0], (2, count))
    angle, length = rng.uniform(0, math.pi, count), np.maximum(np.ceil(rng.exponential(3, count)), 1)
    peak = 10 ** (1.75 + rng.exponential(0.38, count))
    ray = np.repeat(np.arange(count), length.astype(np.int64))  # of each pixel
    step = np.arange(ray.size) - np.repeat(np.cumsum(length) - length, length.astype(np.int64))
    step /= np.maximum(np.abs(np.sin(angle)), np.abs(np.cos(angle)))[ray]
    i, j = (
        np.clip(np.round(start[ray] + step * along[ray]), 0, counts.shape[0] - 1).astype(np.int64)
        for start, along in ((y, np.sin(angle)), (x, np.cos(angle)))
    )
    np.add.at(counts, (i, j), (peak[ray] * rng.uniform(0.6, 1, ray.size)).astype(np.float32))
    kind_map[i, j] = np.maximum(kind_map[i, j], kinds.NUMBER["cosmic ray"])


def add_bad_pixels(rng: np.random.Generator, counts: np.ndarray, kind_map: np.ndarray) -> None:
    """Hot pixels, and dead ones (40%), log10 of the size 1.75 + Exp(.30) (recipe 10)."""
    count = rng.poisson(BAD_PIXELS * counts.size / FIELD)
    i, j = rng.integers(0, counts.shape[0], (2, count))
    dead = rng.random(count) < 0.4
    value = 10 ** (1.75 + rng.exponential(0.30, count))
    counts[i, j] = np.maximum(counts[i, j] + np.where(dead, -value, value), 0)
    kind = np.where(dead, kinds.NUMBER["dead pixel"], kinds.NUMBER["hot pixel"])
    kind_map[i, j] = np.maximum(kind_map[i, j], kind)


def add_bad_rows(rng: np.random.Generator, counts: np.ndarray, kind_map: np.ndarray) -> None:
    """Segments of rows or columns that are too bright, or too dark (60%) (recipe 11)."""
    for _ in range(rng.poisson(BAD_ROWS * counts.size / FIELD)):
        length, start = int(rng.integers(10, 121)), int(rng.integers(0, counts.shape[0]))
        across, width = int(rng.integers(0, counts.shape[0])), 1 if rng.random() < 0.8 else 2
        value = 10 ** rng.uniform(1.5, 3) * (-1 if rng.random() < 0.6 else 1)
        place = (slice(across, across + width), slice(start, start + length))
        if rng.random() < 0.5:
            place = place[::-1]
        counts[place] = np.maximum(counts[place] + np.float32(value), 0)
        kind_map[place] = np.maximum(kind_map[place], kinds.NUMBER["bad row"])


def add_amplifier_step(rng: np.random.Generator, counts: np.ndarray) -> None:
    """Add what remains of a step of 2-10 e- between amplifiers after the sky is subtracted (recipe 13)."""
    if rng.random() < AMPLIFIER_STEPS:
        column = int(rng.integers(counts.shape[1] // 4, 3 * counts.shape[1] // 4))
        x = np.arange(counts.shape[1]) - column
        step = rng.uniform(2, 10) * rng.choice([-0.5, 0.5])
        counts += (step * np.where(x < 0, -1, 1) * np.exp(-np.abs(x) / SKY_MESH)).astype(np.float32)


def draw_spoiled(rng: np.random.Generator, kind_map: np.ndarray, level: float) -> Spoiled:
    """Draw the variance defects and the lost side of a pair (recipe 12-13), and mark them.

    `level` is the sky of the science exposure, e-/px.
    """
    spots = _draw_spots(rng, kind_map)
    if rng.random() >= LOST_SIDES:
        return Spoiled(spots, None, np.zeros((0, 0), np.float32), 0)
    size = kind_map.shape[0]
    width = int(rng.integers(4, 40))  # px
    at_start, turned = rng.random() < 0.5, rng.random() < 0.5
    side = slice(0, width) if at_start else slice(size - width, size)
    glow, start = _draw_glow(rng, size, level)
    reach = slice(0, width + 8) if at_start else slice(size - width - 8, size)
    marked = kind_map[reach] if turned else kind_map[:, reach]
    np.maximum(marked, kinds.NUMBER["edge"], out=marked)
    return Spoiled(spots, (side, slice(None)) if turned else (slice(None), side), glow, start)


def _draw_spots(rng: np.random.Generator, kind_map: np.ndarray) -> np.ndarray:
    size, spots = kind_map.shape[0], []
    for kind, rate in (("collapsed variance", COLLAPSED), ("masked variance", MASKED)):
        for _ in range(rng.poisson(rate * size**2 / FIELD)):
            factor = 10 ** rng.uniform(*COLLAPSE) if kind == "collapsed variance" else 0.0
            masked = 10 ** rng.uniform(*MASKED_VARIANCE) if rng.random() < 0.5 else 10 ** MASKED_VARIANCE[0]
            row, column = rng.integers(0, size, 2)
            high, wide = rng.integers(1, 3, 2) if factor else rng.integers(1, 7, 2)
            spots.append((row, column, high, wide, factor, masked))
            reach = max(high, wide) // 2 + (1 if factor else FILTER_REACH)
            kinds.paint(kind_map, row + high // 2, column + wide // 2, int(reach), kinds.NUMBER[kind])
    return np.array(spots, float).reshape(-1, 6)


def _draw_glow(rng: np.random.Generator, size: int, level: float) -> tuple[np.ndarray, int]:
    """The glow along a stretch of one side, falling exponentially inwards, and where along the side it
    begins."""
    length = int(rng.integers(20, 101)) if rng.random() < GLOWS else 0
    noise = math.sqrt(level + READ_NOISE**2)
    peak = noise * math.exp(rng.uniform(*np.log(GLOW))) * (-1 if rng.random() < 0.4 else 1)
    inwards = np.exp(-np.arange(20) / rng.uniform(2, 6))
    along = np.sin(np.linspace(0, math.pi, length)) ** 2
    return (peak * np.outer(along, inwards)).astype(np.float32), int(rng.integers(0, size - 100))


def spoil(spoiled: Spoiled, science: np.ndarray, template: np.ndarray, variance: np.ndarray) -> None:
    """Apply the variance defects and the zero-filled side, in place."""
    for row, column, high, wide, factor, masked in spoiled.spots:
        spot = variance[int(row) : int(row + high), int(column) : int(column + wide)]
        spot[:] = spot * np.float32(factor) if factor else masked
    if spoiled.lost is not None:
        rows, columns = spoiled.lost
        turned = rows != slice(None)
        side, image = (rows, science.T) if turned else (columns, science)  # lost columns of `image`
        inwards = image[:, side.stop :] if side.start == 0 else image[:, : side.start][:, ::-1]
        length, depth = spoiled.glow.shape
        inwards[spoiled.glow_start : spoiled.glow_start + length, :depth] += spoiled.glow
        science[spoiled.lost] = template[spoiled.lost] = 0
        variance[spoiled.lost] = 1e12  # no weight
