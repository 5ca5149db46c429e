"""How good a classifier is: accuracy, precision, recall, F1, and FNR at fixed FPR (the DET curve).

A candidate is positive, an artifact negative. FPR: the share of artifacts accepted; FNR: the share of
candidates rejected.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

NOT_SCORED = -1  # the class of a stamp without a score, beside 0 and 1
FIGURES = ("accuracy", "precision", "recall", "f1")  # those of Table II
FPRS = (1e-3, 2e-3, 5e-3, 1e-2)  # where the DET curve is read


def classify(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """1 (candidate) where p(candidate) >= threshold, else 0."""
    return (np.asarray(probability) >= threshold).astype(np.uint8)


def confusion(label: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Counts of true and false positives and negatives."""
    label, predicted = np.asarray(label, bool), np.asarray(predicted, bool)
    return {
        "true_positives": int(np.sum(label & predicted)),
        "false_positives": int(np.sum(~label & predicted)),
        "true_negatives": int(np.sum(~label & ~predicted)),
        "false_negatives": int(np.sum(label & ~predicted)),
    }


def operating_points(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FPR and FNR at every threshold, and the threshold, from the strictest (FPR 0) to the loosest (FNR 0).

    A stamp is accepted where its probability is at least the threshold; the first, infinite, accepts none.
    Equal scores share a threshold. Raises ValueError if a class is absent.
    """
    label, probability = np.asarray(label, bool), np.asarray(probability)
    if label.all() or not label.any():
        raise ValueError("a DET curve needs stamps of both classes")
    order = np.argsort(-probability, kind="stable")
    accepted, threshold = label[order], probability[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(threshold)), len(label) - 1)
    fpr = np.cumsum(~accepted)[last_of_tie] / np.sum(~label)
    fnr = 1 - np.cumsum(accepted)[last_of_tie] / np.sum(label)
    return np.append(0.0, fpr), np.append(1.0, fnr), np.append(np.inf, threshold[last_of_tie])


def det_curve(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and FNR of operating_points."""
    fpr, fnr, _ = operating_points(label, probability)
    return fpr, fnr


def fnr_at_fpr(label: np.ndarray, probability: np.ndarray, fpr: float) -> float:
    """The lowest FNR of any threshold whose FPR is at most `fpr`."""
    fprs, fnrs = det_curve(label, probability)
    return float(fnrs[np.searchsorted(fprs, fpr, side="right") - 1])


def threshold_at_fpr(label: np.ndarray, probability: np.ndarray, fpr: float) -> float:
    """The loosest threshold whose FPR is at most `fpr`; infinity, which accepts none, if no score is."""
    fprs, _, thresholds = operating_points(label, probability)
    return float(thresholds[np.searchsorted(fprs, fpr, side="right") - 1])


def at_thresholds(
    label: np.ndarray, probability: np.ndarray, thresholds: dict[float, float]
) -> dict[str, dict[str, float | None]]:
    """The FPR and FNR on these stamps of thresholds that were chosen on others.

    `thresholds` has each threshold by the FPR that it was chosen for; so has the result. An infinite
    threshold, which accepts nothing, becomes None, and so does a rate of a class without stamps.
    """
    found: dict[str, dict[str, float | None]] = {}
    for fpr, threshold in thresholds.items():
        counts = confusion(label, classify(probability, threshold))
        fp, fn = counts["false_positives"], counts["false_negatives"]
        found[f"{fpr:g}"] = {
            "threshold": threshold if np.isfinite(threshold) else None,
            "fpr": _ratio(fp, fp + counts["true_negatives"]),
            "fnr": _ratio(fn, fn + counts["true_positives"]),
        }
    return found


def of_counts(counts: dict[str, int]) -> dict[str, float | None]:
    """FIGURES as fractions, from confusion's counts; one that does not exist (0/0) is None."""
    tp, fp = counts["true_positives"], counts["false_positives"]
    tn, fn = counts["true_negatives"], counts["false_negatives"]
    return {
        "accuracy": _ratio(tp + tn, tp + fp + tn + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def classification_rates(
    label: np.ndarray, probability: np.ndarray, fprs: Sequence[float] = FPRS
) -> dict[str, Any]:
    """The figures of one test set, as fractions, with the FNR at each of `fprs`; 0/0 is None."""
    counts = confusion(label, classify(probability))
    both = 0 < np.sum(label) < len(label)
    return {
        "stamps": len(label),
        **of_counts(counts),
        "confusion": counts,
        "fnr_at_fpr": {f"{f:g}": fnr_at_fpr(label, probability, f) if both else None for f in fprs},
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
