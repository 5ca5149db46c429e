"""The point-spread function of an exposure: an elliptical Moffat profile (Moffat 1969, A&A 3, 455).

I(r) = (beta - 1) / (pi alpha^2) (1 + r^2 / alpha^2)^-beta,   FWHM = 2 alpha sqrt(2^(1/beta) - 1)
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import fft

from rotinv.system.scratch import njit

FAINTEST = 0.6  # e-/px: a star's wings are drawn down to this, well below the sky's noise (tuned)
SCIENCE_FWHM = (
    3.15,
    0.15,
)  # px: mean, spread (tuned: stars in real stamps measure 3.3-3.6 px after matching)
TEMPLATE_EXCESS = (
    0.34,
    0.08,
)  # px: the template is the worse one: its noise is white, and matching correlates the science noise (tuned)
MAX_RADIUS = 150  # px: wings of the brightest stars end here (tuned, for speed)


class Psf(NamedTuple):
    """One exposure's point-spread function."""

    fwhm: float  # px
    beta: float  # Moffat's exponent: the smaller, the brighter the wings
    ellipticity: float  # 1 - minor / major axis
    angle: float  # radians, of the major axis from +x to +y


def draw_pair(rng: np.random.Generator) -> tuple[Psf, Psf]:
    """PSFs of a template and of a science exposure.

    They are narrower than recipe 3's (science 3.9 px, template 0.35 px less), and the template's is the wider
    one: tuned to what real stamps show, stars of 3.3-3.6 px, white noise in the template and correlated noise
    in the science image.
    """
    science = float(np.clip(rng.normal(*SCIENCE_FWHM), 3.0, 6.2))
    template = float(np.clip(science + rng.normal(*TEMPLATE_EXCESS), 3.0, 6.0))
    beta = rng.uniform(2.5, 4.5)
    shapes = [(rng.uniform(0, 0.12), rng.uniform(0, math.pi)) for _ in range(2)]
    return Psf(template, beta, *shapes[0]), Psf(science, beta, *shapes[1])


def shape_of(psf: Psf) -> np.ndarray:
    """(a, b, c, beta, peak): r^2/alpha^2 = a dx^2 + b dx dy + c dy^2, and the peak of unit flux (1/px)."""
    alpha = psf.fwhm / (2 * math.sqrt(2 ** (1 / psf.beta) - 1))
    ratio = 1 - psf.ellipticity
    major, minor = alpha / math.sqrt(ratio), alpha * math.sqrt(ratio)
    cos, sin = math.cos(psf.angle), math.sin(psf.angle)
    a = (cos / major) ** 2 + (sin / minor) ** 2
    b = 2 * sin * cos * (1 / major**2 - 1 / minor**2)
    c = (sin / major) ** 2 + (cos / minor) ** 2
    return np.array([a, b, c, psf.beta, (psf.beta - 1) / (math.pi * alpha**2)])


@njit()
def add_stars(image: np.ndarray, y: np.ndarray, x: np.ndarray, flux: np.ndarray, shape: np.ndarray) -> None:
    """Add point sources of `flux` e- at (y, x) px to `image`; `shape` is shape_of(psf)."""
    height, width = image.shape
    a, b, c, beta, peak = shape
    for n in range(y.size):
        reach = (max(flux[n] * peak / FAINTEST, 1.0) ** (1 / beta) / min(a, c)) ** 0.5
        radius = int(min(max(reach, 6.0), MAX_RADIUS))
        row, column = round(y[n]), round(x[n])
        for i in range(max(row - radius, 0), min(row + radius + 1, height)):
            dy = i - y[n]
            for j in range(max(column - radius, 0), min(column + radius + 1, width)):
                dx = j - x[n]
                r2 = a * dx * dx + b * dx * dy + c * dy * dy
                image[i, j] += flux[n] * peak * math.exp(-beta * math.log1p(r2))


def spectrum(psf: Psf, size: int, dy: float = 0.0, dx: float = 0.0) -> np.ndarray:
    """rfft2 of a source of unit flux at (dy, dx) in an image of (size, size) px: complex64 (size, size // 2 +
    1)."""
    radius = min(24, size // 2 - 1)
    small = np.zeros((2 * radius + 1, 2 * radius + 1))
    add_stars(small, np.array([radius + dy]), np.array([radius + dx]), np.array([1e6]), shape_of(psf))
    rows = np.zeros((2 * radius + 1, size), np.float32)  # the others are empty
    rows[:, : 2 * radius + 1] = small / small.sum()
    rows = np.roll(rows, -radius, axis=1)
    result = np.zeros((size, size // 2 + 1), np.complex64)
    result[: 2 * radius + 1] = fft.rfft(rows, axis=1)
    return fft.fft(np.roll(result, -radius, axis=0), axis=0, overwrite_x=True)


def gaussian(sigma: float) -> np.ndarray:
    """A one-dimensional Gaussian kernel of unit sum, cut at 4 sigma (px)."""
    radius = max(1, math.ceil(4 * sigma))
    x = np.arange(-radius, radius + 1)
    values = np.exp(-0.5 * (x / sigma) ** 2)
    return (values / values.sum()).astype(np.float32)
