"""Finding sources in a difference image, and cutting stamps around them (recipe 18).

F = sum(p D / V) / sqrt(sum(p^2 / V))      SNR of a point source at each pixel, p the PSF
"""

from typing import NamedTuple

import numpy as np

from rotinv.survey import psf
from rotinv.survey.differencing import Difference, convolve
from rotinv.system.scratch import njit

THRESHOLD = 5.0  # |F| of a detection
STAMP = 21  # px
PEAK = 4  # px: a detection is the largest |F| of its 9 x 9 pixels


class Detections(NamedTuple):
    """Peaks of `|F|`, row by row; F is the matched filter's signal-to-noise ratio."""

    row: np.ndarray
    column: np.ndarray
    snr: np.ndarray  # F, signed


def filter_pair(pair: Difference, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """F, and the weight sqrt(sum(p^2 / V)) that converts a source's flux to its SNR (1/e-)."""
    p = psf.gaussian(fwhm / 2.355)
    weighted, inverse = _weigh(pair.template, pair.science, pair.variance)
    total, square = convolve(weighted, p, p), convolve(inverse, p * p, p * p)
    _normalise(total, square)
    return total, square


@njit(error_model="numpy")
def _weigh(template, science, variance):
    """D / V and 1 / V."""
    weighted, inverse = np.empty_like(variance), np.empty_like(variance)
    for i in range(variance.shape[0]):
        for j in range(variance.shape[1]):
            inverse[i, j] = np.float32(1) / variance[i, j]
            weighted[i, j] = (science[i, j] - template[i, j]) * inverse[i, j]
    return weighted, inverse


@njit(error_model="numpy")
def _normalise(total, square):
    """In place: total / sqrt(square), and sqrt(square)."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            square[i, j] = np.sqrt(square[i, j])
            total[i, j] /= max(square[i, j], np.float32(1e-9))


def detect(snr_map: np.ndarray) -> Detections:
    """Peaks above the threshold whose stamp lies completely in the image."""
    row, column = _peaks(snr_map)
    return Detections(row, column, snr_map[row, column])


@njit(error_model="numpy")
def _peaks(snr_map):
    height, width = snr_map.shape
    margin = STAMP // 2
    rows, columns = [], []
    for i in range(margin, height - margin):
        for j in range(margin, width - margin):
            value = abs(snr_map[i, j])
            if value > np.float32(THRESHOLD) and _is_highest(snr_map, i, j, value):
                rows.append(i)
                columns.append(j)
    return np.array(rows, np.int64), np.array(columns, np.int64)


@njit(error_model="numpy")
def _is_highest(snr_map, i, j, value):
    """Whether (i, j) has the largest |F| of its 9 x 9 pixels; the first wins a tie."""
    for k in range(i - PEAK, i + PEAK + 1):
        for m in range(j - PEAK, j + PEAK + 1):
            other = abs(snr_map[k, m])
            if other > value or (other == value and (k, m) < (i, j)):
                return False
    return True


def cut(pair: Difference, detections: Detections) -> np.ndarray:
    """Stamps (N, 21, 21, 4) float32: template, science, difference, SNR difference."""
    return _cut(*pair, detections.row, detections.column)


@njit(error_model="numpy")
def _cut(template, science, variance, rows, columns):
    stamps = np.empty((rows.size, STAMP, STAMP, 4), np.float32)
    for n in range(rows.size):
        for i in range(STAMP):
            for j in range(STAMP):
                row, column = rows[n] + i - STAMP // 2, columns[n] + j - STAMP // 2
                difference = science[row, column] - template[row, column]
                stamps[n, i, j, 0] = template[row, column]
                stamps[n, i, j, 1] = science[row, column]
                stamps[n, i, j, 2] = difference
                stamps[n, i, j, 3] = difference / np.sqrt(variance[row, column])
    return stamps
