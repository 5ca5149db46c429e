"""What is measured in the pixels of stamps: noise and its correlation, widths of stars, signal-to-noise."""

import numpy as np
from scipy import optimize

STAR_FWHM, STAR_REACH = 3.6, 5  # px: a typical star, and where its light is summed
QUIET = 2.0  # times the median variance: patches above it show a source, not noise


def pixel_snr(snr_difference: np.ndarray) -> np.ndarray:
    """The SNR (N,) of a star in the middle of stamps (N, 21, 21) of D / sqrt(V): sum(p D / sqrt V) / sqrt(sum
    p^2)."""
    r = np.arange(21) - 10
    square = r[:, None] ** 2 + r**2
    p = np.exp(-square / (2 * (STAR_FWHM / 2.355) ** 2)) * (square <= STAR_REACH**2)
    return np.einsum("nij,ij->n", snr_difference, p) / np.sqrt((p * p).sum())


def noise(pixels: np.ndarray) -> float:
    """The median over patches (N, rows, columns) of each one's noise: 1.4826 times the median absolute
    deviation."""
    flat = pixels.reshape(len(pixels), -1)
    off = np.abs(flat - np.median(flat, axis=1, keepdims=True))
    return float(np.median(1.4826 * np.median(off, axis=1)))


def concentration(difference: np.ndarray) -> float:
    """How much brighter the middle of stamps (N, 21, 21) is than their top rows; NaN if there are none."""
    middle, top = (np.abs(part).mean((1, 2)) for part in (difference[:, 8:13, 8:13], difference[:, :3]))
    return float(np.median(middle / np.maximum(top, 1e-30))) if len(difference) else float("nan")


def correlation(pixels: np.ndarray, image: np.ndarray, lag: int) -> tuple[float, float]:
    """The correlation at `lag` px along rows of `pixels` (N, rows, columns): mean and standard error.

    The error is taken over the images (N,) that the patches come from, since an image's shift decides its
    correlation.
    """
    x = pixels - np.median(pixels, axis=(1, 2), keepdims=True)
    square = np.square(x, dtype=float).mean((1, 2))
    values = []
    for number in np.unique(image):
        patches = x[(image == number) & (square > 0)]
        quiet = patches[
            square[(image == number) & (square > 0)] <= QUIET * np.median(square[image == number])
        ]
        if len(quiet):
            product = np.multiply(quiet[:, :, lag:], quiet[:, :, :-lag], dtype=float)
            values.append(product.mean() / np.square(quiet, dtype=float).mean())
    if len(values) < 2:
        return float("nan"), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def fwhm(image: np.ndarray) -> float:
    """FWHM (px) of the Gaussian that fits the central 9 x 9 pixels best; NaN if none fits."""
    middle = image.shape[0] // 2
    core = image[middle - 4 : middle + 5, middle - 4 : middle + 5].astype(float)
    y, x = np.mgrid[-4:5, -4:5]

    def residual(parameters: np.ndarray) -> np.ndarray:
        height, y0, x0, sigma, floor = parameters
        return (height * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2)) + floor - core).ravel()

    fit = optimize.least_squares(
        residual,
        [core[4, 4], 0, 0, 1.5, 0],
        x_scale=[max(abs(core[4, 4]), 1), 1, 1, 1, 1],
        max_nfev=50,  # a star takes about ten
    )
    return 2.3548 * abs(fit.x[3]) if fit.success else float("nan")
