"""Finding sources in a difference image, and cutting stamps about them (recipe 18).

F = sum(p D / V) / sqrt(sum(p^2 / V))      SNR of a point source at each pixel, p the PSF
"""

from typing import NamedTuple

import numba as nb
import numpy as np

from rotinv.survey import psf
from rotinv.survey.differencing import Difference, convolve

THRESHOLD = 5.0  # |F| of a detection
STAMP = 21  # px
PEAK = 4  # px: a detection is the largest |F| of its 9 x 9 pixels


class Detections(NamedTuple):
    """Peaks of |F|, in the order of rows."""

    row: np.ndarray
    column: np.ndarray
    snr: np.ndarray  # F, signed


def filter_pair(pair: Difference, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """F, and the weight sqrt(sum(p^2 / V)) by which a source's flux becomes its SNR (1/e-)."""
    p = psf.gaussian(fwhm / 2.355)
    inverse = 1 / pair.variance
    weight = np.sqrt(convolve(inverse, p * p, p * p))
    return convolve((pair.science - pair.template) * inverse, p, p) / np.maximum(weight, 1e-9), weight


def detect(snr_map: np.ndarray) -> Detections:
    """Peaks above the threshold whose whole stamp lies in the image."""
    row, column = _peaks(snr_map)
    return Detections(row, column, snr_map[row, column])


@nb.njit(cache=True)
def _peaks(snr_map):
    height, width = snr_map.shape
    margin = STAMP // 2
    rows, columns = [], []
    for i in range(margin, height - margin):
        for j in range(margin, width - margin):
            value = abs(snr_map[i, j])
            if value <= THRESHOLD:
                continue
            highest = True
            for k in range(i - PEAK, i + PEAK + 1):
                for m in range(j - PEAK, j + PEAK + 1):
                    other = abs(snr_map[k, m])
                    if other > value or (other == value and (k, m) < (i, j)):
                        highest = False
            if highest:
                rows.append(i)
                columns.append(j)
    return np.array(rows, np.int64), np.array(columns, np.int64)


def cut(pair: Difference, found: Detections) -> np.ndarray:
    """Stamps (N, 21, 21, 4) float32: template, science, difference, SNR difference."""
    offsets = np.arange(STAMP) - STAMP // 2
    rows = (found.row[:, None] + offsets)[:, :, None]
    columns = (found.column[:, None] + offsets)[:, None, :]
    template, science = pair.template[rows, columns], pair.science[rows, columns]
    difference = science - template
    return np.stack(
        [template, science, difference, difference / np.sqrt(pair.variance[rows, columns])], axis=-1
    )
