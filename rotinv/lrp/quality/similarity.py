"""How alike two maps are, by rank (Spearman) and by structure (SSIM), and how complex one is (entropy)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

BINS = 100  # of the histogram whose entropy is a map's complexity
_SIGMA, _REACH = 1.5, 5  # of SSIM's Gaussian window, in pixels: 11 x 11 of them
_K1, _K2 = 0.01, 0.03  # SSIM's constants, in shares of the values' range


def spearman(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Spearman's rank correlation (n,) of maps (n, …) with maps of the same shape; 0 where one is
    constant."""
    first, second = (_centred_ranks(one) for one in (a, b))
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.divide((first * second).sum(axis=1), norms, out=np.zeros(len(a)), where=norms != 0)


def _centred_ranks(maps: NDArray) -> NDArray[np.float64]:
    ranks = stats.rankdata(maps.reshape(len(maps), -1), axis=1)
    return ranks - ranks.mean(axis=1, keepdims=True)


def ssim(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """The structural similarity (n,) of maps (n, h, w, c) with others (Wang et al. 2004).

    Each stamp's map is divided by its largest magnitude first; the range of values is 2, or 1 where neither
    map has a value below 0. The mean is taken over the channels and over the Gaussian windows that fit into
    the map.
    """
    a, b = _scaled(a), _scaled(b)
    extent = 2.0 if min(a.min(initial=0), b.min(initial=0)) < 0 else 1.0
    c1, c2 = (_K1 * extent) ** 2, (_K2 * extent) ** 2
    mean_a, mean_b = _windows(a), _windows(b)
    var_a, var_b = _windows(a * a) - mean_a**2, _windows(b * b) - mean_b**2
    covariance = _windows(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (above / below).mean(axis=(1, 2, 3))


def _scaled(maps: NDArray) -> NDArray[np.float64]:
    largest = np.abs(maps).max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(maps, np.float64) / np.where(largest == 0, 1, largest)


def _windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted mean over the window about each place whose window lies inside the map."""
    for axis in (1, 2):
        values = ndimage.gaussian_filter1d(values, _SIGMA, axis=axis, radius=_REACH)
    return values[:, _REACH:-_REACH, _REACH:-_REACH]


def entropy(maps: NDArray) -> NDArray[np.float64]:
    """The entropy (n,) in nats of the histogram of each map's values, in BINS bins from the least to the
    largest."""
    counts = [np.histogram(one, BINS)[0] for one in maps.reshape(len(maps), -1)]
    return np.asarray(stats.entropy(np.reshape(counts, (-1, BINS)), axis=1))
