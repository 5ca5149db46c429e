"""From two exposures to a difference image: registration, PSF matching, subtraction, variance.

    difference = science - template        SNR difference = difference / sqrt(V)        (recipe 14-17)

V adds the pixels' own variances and forgets the covariances that resampling made, as the survey's
pipeline did: this is what lets peaks of correlated noise pass for detections. Matching smooths the
variance as it smooths the image, by the kernel and not by its square: so the classifiers of the real
survey find faint candidates as clear as real ones of the same SNR (the square makes them much fainter).
"""

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from rotinv.survey import psf
from rotinv.survey.detector import READ_NOISE

OPTIMISM = (
    0.75,
    1.0,
)  # of the variance planes, image by image: gains and flat fields are not known better (tuned)


class Matching(NamedTuple):
    """How a pair is brought together."""

    shift: tuple[float, float]  # px by which the science exposure lies off the template
    sigma: float  # px, of the Gaussian that matches the PSFs; 0: none
    on_template: bool  # the template is the better image and is the one convolved
    fwhm: float  # px, after matching
    optimism: float = 1.0  # the variances are believed to be this much of what the counts say


class Difference(NamedTuple):
    """The differenced pair, float32 (size, size); template and science as they were subtracted."""

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
    """Weights of the five pixels about each, of unit sum, that read an image `shift` px further on.

    Lanczos (a = 2): sinc(t) sinc(t / 2) for |t| < 2.
    """
    t = np.arange(-2, 3) - shift
    weights = np.where(np.abs(t) < 2, np.sinc(t) * np.sinc(t / 2), 0)
    return (weights / weights.sum()).astype(np.float32)


@nb.njit(cache=True)
def convolve(image, along_y, along_x):
    """Correlate float32 `image` with the outer product of two odd kernels; edge pixels are repeated."""
    height, width = image.shape
    ry, rx = along_y.size // 2, along_x.size // 2
    middle = np.zeros((height, width), np.float32)
    padded = np.empty(width + 2 * rx, np.float32)
    for i in range(height):
        padded[:rx] = image[i, 0]
        padded[rx : rx + width] = image[i]
        padded[rx + width :] = image[i, width - 1]
        row = middle[i]
        for t in range(along_x.size):
            weight = along_x[t]
            for j in range(width):
                row[j] += weight * padded[j + t]
    result = np.zeros((height, width), np.float32)
    for i in range(height):
        row = result[i]
        for t in range(along_y.size):
            source = middle[min(max(i + t - ry, 0), height - 1)]
            weight = along_y[t]
            for j in range(width):
                row[j] += weight * source[j]
    return result


def register(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Resample an image that lies `shift` px off, back onto the template's pixels."""
    return convolve(image, lanczos2(shift[0]), lanczos2(shift[1]))


def prepare_template(counts: np.ndarray, level: float, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Sky-subtracted template and its variance, matched if it is the better image."""
    return _smooth(
        counts - np.float32(level), _variance(counts), matching.sigma if matching.on_template else 0.0
    )


def prepare_science(counts: np.ndarray, level: float, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Sky-subtracted, registered science image and its variance, matched if it is the better image."""
    ky, kx = (lanczos2(s) for s in matching.shift)
    image = convolve(counts - np.float32(level), ky, kx)
    variance = convolve(_variance(counts), ky * ky, kx * kx)
    return _smooth(image, variance, 0.0 if matching.on_template else matching.sigma)


def _variance(counts: np.ndarray) -> np.ndarray:
    """Photon and read noise as estimated from the counts themselves (e-^2)."""
    return np.maximum(counts, np.float32(0)) + np.float32(READ_NOISE**2)


def _smooth(image: np.ndarray, variance: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    if sigma == 0:
        return image, variance
    k = psf.gaussian(sigma)
    return convolve(image, k, k), convolve(variance, k, k)
