"""From two exposures to a difference image: registration, PSF matching, subtraction, variance.

    difference = science - template        SNR difference = difference / sqrt(V)        (recipe 14-17)

V adds the variances of the pixels and neglects the covariances that resampling causes, as the survey's
pipeline did; hence peaks of correlated noise are detected as sources. Matching smooths the variance with the
image's kernel, not with the kernel's square: then the real survey's classifiers find faint candidates as
easily as real ones of the same SNR (with the square they find them much harder).
"""

import math
from typing import NamedTuple

import numpy as np

from rotinv.survey import psf
from rotinv.survey.camera import READ_NOISE
from rotinv.system.scratch import njit

OPTIMISM = (
    0.7,
    1.0,
)  # of the variance planes, image by image: gains and flat fields are not known better (tuned)


class Matching(NamedTuple):
    """How the two exposures are aligned and their PSFs matched."""

    shift: tuple[float, float]  # px by which the science exposure lies off the template
    sigma: float  # px, of the Gaussian that matches the PSFs; 0: none
    on_template: bool  # the template is the better image and is the one convolved
    fwhm: float  # px, after matching
    optimism: float = 1.0  # the variances used are this fraction of what the counts say


class Difference(NamedTuple):
    """The differenced pair, float32 (size, size), with template and science as they were subtracted."""

    template: np.ndarray
    science: np.ndarray
    variance: np.ndarray


def draw_matching(rng: np.random.Generator, template: psf.Psf, science: psf.Psf) -> Matching:
    """A random sub-pixel shift, and the matching Gaussian with its error (recipe 14-15)."""
    shift = (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5))
    error = rng.normal(0, 0.05)
    if rng.random() < 0.15:
        error = rng.choice([-0.15, 0.15])  # leaves rings
    sigma = math.sqrt(abs(science.fwhm**2 - template.fwhm**2)) / 2.355
    sigma = 0.0 if sigma < 0.15 else sigma * (1 + error)
    optimism = rng.uniform(*OPTIMISM)
    return Matching(shift, sigma, template.fwhm < science.fwhm, max(template.fwhm, science.fwhm), optimism)


def lanczos2(shift: float) -> np.ndarray:
    """Weights of five neighbouring pixels, of unit sum, that interpolate an image at `shift` px from the
    middle one.

    Lanczos (a = 2): `sinc(t) sinc(t / 2)` for `|t| < 2`.
    """
    t = np.arange(-2, 3) - shift
    weights = np.where(np.abs(t) < 2, np.sinc(t) * np.sinc(t / 2), 0)
    return (weights / weights.sum()).astype(np.float32)


@njit(error_model="numpy", fastmath={"contract"})
def convolve(image, along_y, along_x):
    """Correlate float32 `image` with the outer product of two odd kernels; edge pixels are repeated."""
    height, width = image.shape
    ry, rx = along_y.size // 2, along_x.size // 2
    line = np.empty(width + 2 * rx, np.float32)
    result = np.empty((height, width), np.float32)
    middle = line[rx : rx + width]
    for i in range(height):
        middle[:] = 0
        for t in range(0, along_y.size - 3, 4):  # four rows at once, so that sums are stored less often
            _add_four(
                middle,
                along_y[t : t + 4],
                image[min(max(i + t - ry, 0), height - 1)],
                image[min(max(i + t + 1 - ry, 0), height - 1)],
                image[min(max(i + t + 2 - ry, 0), height - 1)],
                image[min(max(i + t + 3 - ry, 0), height - 1)],
            )
        for t in range(along_y.size // 4 * 4, along_y.size):
            _add_one(middle, along_y[t], image[min(max(i + t - ry, 0), height - 1)])
        line[:rx] = middle[0]
        line[rx + width :] = middle[width - 1]
        row = result[i]
        row[:] = 0
        for t in range(0, along_x.size - 3, 4):
            _add_four(row, along_x[t : t + 4], line[t:], line[t + 1 :], line[t + 2 :], line[t + 3 :])
        for t in range(along_x.size // 4 * 4, along_x.size):
            _add_one(row, along_x[t], line[t:])
    return result


@njit(error_model="numpy", fastmath={"contract"})
def _add_four(row, w, a, b, c, d):
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for j in range(row.size):
        row[j] += w0 * a[j] + w1 * b[j] + w2 * c[j] + w3 * d[j]


@njit(error_model="numpy", fastmath={"contract"})
def _add_one(row, w, a):
    for j in range(row.size):
        row[j] += w * a[j]


def register(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Resample an image that is shifted by `shift` px onto the template's pixels."""
    return convolve(image, lanczos2(shift[0]), lanczos2(shift[1]))


def prepare_template(counts: np.ndarray, level: float, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """The sky-subtracted template and its variance, smoothed to the other's PSF if it is the sharper
    image."""
    image, variance = _reduce(counts, np.float32(level), np.float32(READ_NOISE**2))
    if not (matching.sigma and matching.on_template):
        return image, variance
    k = psf.gaussian(matching.sigma)
    return convolve(image, k, k), convolve(variance, k, k)


def prepare_science(counts: np.ndarray, level: float, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """The sky-subtracted, registered science image and its variance, smoothed if it is the sharper image.

    Both steps are done at once, by the convolution of their kernels.
    """
    smooth = matching.sigma and not matching.on_template
    k = psf.gaussian(matching.sigma) if smooth else np.ones(1, np.float32)
    ky, kx = (lanczos2(s) for s in matching.shift)
    image, variance = _reduce(counts, np.float32(level), np.float32(READ_NOISE**2))
    image = convolve(image, np.convolve(ky, k), np.convolve(kx, k))
    return image, convolve(variance, np.convolve(ky * ky, k), np.convolve(kx * kx, k))


@njit(error_model="numpy")
def _reduce(counts, level, read_square):
    """Counts less the sky, and their variance (e-^2), of photons and read noise, as estimated from the
    counts."""
    image, variance = np.empty_like(counts), np.empty_like(counts)
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            image[i, j] = counts[i, j] - level
            variance[i, j] = max(counts[i, j], np.float32(0)) + read_square
    return image, variance
