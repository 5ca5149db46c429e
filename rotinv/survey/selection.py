"""Which stamps are kept: as many of each signal-to-noise as the real survey has (recipe 19, 21).

The real distributions, measured on HiTS's 100,000 test stamps, are given as quantiles. Stamps between two
neighbouring quantiles form a bin. Images arrive one by one, and a stamp of bin b is kept with the probability

    chance_b = need_b / (yield_b K),    K = max over b of need_b / yield_b   images to come,

so that all bins are filled at the same time, and exactly. yield_b, stamps per image, is learned from the
images seen.
"""

import numpy as np

QUANTILES = np.array([0, 0.001, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.98, 0.99, 0.999, 1])
CANDIDATE_SNR = np.array([5.37, 5.97, 6.37, 7.01, 7.58, 9.13, 12.33, 19.26, 32.8, 45.9, 63.1, 75.5, 120, 208])
ARTIFACT_SNR = np.array([5.21, 5.61, 5.89, 6.21, 6.41, 6.89, 7.81, 11.3, 23.7, 57, 2426, 18411, 2.4e5, 7.5e6])
NEGATIVE = 0.3045  # share of artifacts with SNR < 0
BINS = QUANTILES.size - 1  # as many for candidates, for positive and for negative artifacts


def draw_candidate_snr(rng: np.random.Generator, count: int) -> np.ndarray:
    """The SNRs of candidates to insert: the real distribution by its inverse CDF, log-linear between
    quantiles."""
    return np.exp(np.interp(rng.random(count), QUANTILES, np.log(CANDIDATE_SNR)))


def bin_of(snr: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """The bin of each stamp: first those of candidates, then of artifacts with SNR > 0, then < 0; -1 outside
    the real range."""
    table = np.where(candidate[:, None], CANDIDATE_SNR, ARTIFACT_SNR)
    place = (np.abs(snr)[:, None] >= table).sum(axis=1) - 1
    inside = (place >= 0) & (place < BINS) & ((snr > 0) | ~candidate)
    block = np.where(candidate, 0, np.where(snr > 0, 1, 2))
    return np.where(inside, block * BINS + place, -1)


def quotas(count: int) -> np.ndarray:
    """How many of `count` stamps each bin gets: half are candidates, and the sum is exactly `count`."""
    shares = np.diff(QUANTILES)
    artifacts = count // 2
    sides = np.concatenate([(1 - NEGATIVE) * shares, NEGATIVE * shares])
    return np.concatenate([_apportion(count - artifacts, shares), _apportion(artifacts, sides)])


def _apportion(count: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `count` and are nearest to count * shares (largest remainders)."""
    exact = count * shares / shares.sum()
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: count - whole.sum()]] += 1
    return whole


class Selection:
    """Which stamps a split still needs, and how many of each bin an image yields."""

    def __init__(self, count: int, seen: np.ndarray, images: int) -> None:
        """`seen` (3 BINS,) is the number of stamps of each bin in `images` pilot images."""
        self.need = quotas(count)
        self.seen = seen.astype(float)
        self.images = images
        self.pilots = images

    @property
    def left(self) -> int:
        """How many stamps are still needed."""
        return int(self.need.sum())

    @property
    def used(self) -> int:
        """How many images of the split itself were seen."""
        return self.images - self.pilots

    def take(self, bins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The indices of the stamps of one image that are kept; `bins` (N,) are their bins."""
        chance = self._chances()
        self.images += 1
        self.seen += np.bincount(bins[bins >= 0], minlength=self.need.size)
        kept = []
        for n in rng.permutation(bins.size):
            b = bins[n]
            if b >= 0 and self.need[b] > 0 and rng.random() < chance[b]:
                self.need[b] -= 1
                kept.append(n)
        return np.sort(np.array(kept, np.int64))

    def _chances(self) -> np.ndarray:
        yields = np.maximum(self.seen, 0.5) / self.images
        images_left = max(1.0, float((self.need / yields).max()))
        return np.minimum(1, self.need / (yields * images_left))
