"""What a classifier's scores tell: figures with intervals, thresholds, where it errs, calibration."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv import metrics, significance
from rotinv.metrics import FPRS
from rotinv.scores import Scores
from rotinv.significance import Interval, wilson

SNR_EDGES = (-np.inf, 0, 6.5, 7, 7.5, 8, 9, 10, 12, 15, 20, 30, 50, 100, np.inf)
CALIBRATION_BINS = 10
_DENOMINATORS = {  # of which counts a figure is a share
    "accuracy": (("true_positives", "true_negatives"), ("false_positives", "false_negatives")),
    "precision": (("true_positives",), ("false_positives",)),
    "recall": (("true_positives",), ("false_negatives",)),
}


def evaluate(scores: Scores, draws: int = significance.DRAWS) -> dict[str, Any]:
    """The figures of metrics.evaluate, with `intervals`, `thresholds` by FPR, `by_snr`, `by_kind` and
    `calibration`; ready for JSON. What does not exist is None, or absent where nothing is known to bin by.
    """
    label, probability = scores.label, scores.probability
    found = metrics.evaluate(label, probability)
    candidates = int(np.sum(label))
    found |= {"candidates": candidates, "artifacts": len(label) - candidates}
    found["intervals"] = _intervals(scores, found, draws)
    both = 0 < candidates < len(label)
    found["thresholds"] = {
        f"{fpr:g}": _finite(metrics.threshold_at_fpr(label, probability, fpr)) if both else None
        for fpr in FPRS
    }
    if scores.snr is not None:
        found["by_snr"] = list(_by_snr(scores, scores.snr))
    if scores.kind is not None:
        found["by_kind"] = list(_by_kind(scores, scores.kind))
    found["calibration"] = calibration(label, probability)
    return found


def calibration(label: NDArray, probability: NDArray) -> dict[str, Any]:
    """The calibration curve: in bins of equal width of p(candidate), its mean and the share of candidates.

    `expected_error` is the mean, over stamps, of how far the two are apart in a stamp's bin (ECE, Guo et al.
    2017); `brier` the mean of (p - label)² (Brier 1950).
    """
    p, label = np.float64(probability), np.asarray(label)
    place = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins, error = [], 0.0
    for number in range(CALIBRATION_BINS):
        here = place == number
        count, candidates = int(here.sum()), int(label[here].sum())
        mean = float(p[here].mean()) if count else None
        bins.append(
            {
                "from": number / CALIBRATION_BINS,
                "to": (number + 1) / CALIBRATION_BINS,
                "stamps": count,
                "mean_probability": mean,
                "candidates": candidates / count if count else None,
                "interval": wilson(candidates, count),
            }
        )
        error += abs(candidates - float(p[here].sum())) / len(p)
    return {"bins": bins, "expected_error": error, "brier": float(np.mean((p - label) ** 2))}


def _intervals(scores: Scores, found: dict[str, Any], draws: int) -> dict[str, Any]:
    counts = found["confusion"]
    intervals: dict[str, Any] = {"level": significance.LEVEL}
    for name, (right, wrong) in _DENOMINATORS.items():
        part = sum(counts[one] for one in right)
        intervals[name] = wilson(part, part + sum(counts[one] for one in wrong))
    intervals["f1"] = significance.f1_interval(counts, draws)
    intervals["fnr_at_fpr"] = dict.fromkeys(found["fnr_at_fpr"])
    if intervals["f1"] is not None:  # both classes are there
        resampled = significance.resampled_fnr(scores.label, scores.probability, FPRS, draws)
        intervals["fnr_at_fpr"] = {
            f"{fpr:g}": significance.fnr_interval(scores.label, scores.probability, fpr, resampled[:, 0, i])
            for i, fpr in enumerate(FPRS)
        }
    return intervals


def _by_snr(scores: Scores, snr: NDArray) -> Iterator[dict[str, Any]]:
    """Completeness of candidates and FPR of artifacts in each bin of SNR; unknown SNRs are in none."""
    accepted = metrics.classify(scores.probability) == 1
    for low, high in itertools.pairwise(SNR_EDGES):
        here = (snr >= low) & (snr < high)
        row: dict[str, Any] = {"from": _finite(low), "to": _finite(high)}
        for of_class, share, name in ((1, "completeness", "candidates"), (0, "fpr", "artifacts")):
            inside = here & (scores.label == of_class)
            row |= _share(inside, accepted, name, share)
        yield row


def _by_kind(scores: Scores, kind: NDArray) -> Iterator[dict[str, Any]]:
    """FPR of each kind of artifact that there is, the candidates (completeness) first."""
    accepted = metrics.classify(scores.probability) == 1
    for number in np.unique(kind):
        name = scores.kinds[number] if number < len(scores.kinds) else f"kind {number}"
        yield {"kind": name, **_share(kind == number, accepted, "stamps", "accepted")}


def _share(inside: NDArray, accepted: NDArray, count: str, share: str) -> dict[str, Any]:
    n, part = int(inside.sum()), int((inside & accepted).sum())
    interval: Interval | None = wilson(part, n)
    return {count: n, share: part / n if n else None, f"{share}_interval": interval}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
