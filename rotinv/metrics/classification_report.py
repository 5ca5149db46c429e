"""What a classifier's scores tell: figures with intervals, thresholds, where it errs, calibration."""

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import rates, significance
from rotinv.metrics.agreement import agreement
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.curves import draw_det, working_point
from rotinv.metrics.one_against_rest import against_rest
from rotinv.metrics.rates import FIGURES, FPRS
from rotinv.metrics.report_text import Found, report_lines
from rotinv.metrics.scores import Scores
from rotinv.metrics.significance import Interval, wilson
from rotinv.system.errors import UserError
from rotinv.system.tables import astropy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SNR_EDGES = (-np.inf, 0, 6.5, 7, 7.5, 8, 9, 10, 12, 15, 20, 30, 50, 100, np.inf)
CALIBRATION_BINS = 10
_DENOMINATORS = {  # a figure is the first counts' sum, divided by the sum of all its counts
    "accuracy": (("true_positives", "true_negatives"), ("false_positives", "false_negatives")),
    "precision": (("true_positives",), ("false_positives",)),
    "recall": (("true_positives",), ("false_negatives",)),
}


def evaluate(
    scores: Scores,
    fprs: Sequence[float] = FPRS,
    draws: int = significance.DRAWS,
    calibrator: Calibrator | None = None,
) -> dict[str, Any]:
    """What scores of labelled stamps tell, ready for JSON.

    The figures of rates.classification_rates, with `intervals`, `thresholds` by FPR, `by_snr`, `by_kind` and
    `calibration`; with a calibrator also `calibrated`, the calibration of what it gives. What does not exist
    is None, or absent where nothing is known to bin by.
    """
    label, probability = scores.label, scores.probability
    found = rates.classification_rates(label, probability, fprs)
    candidates = int(np.sum(label))
    found |= {"candidates": candidates, "artifacts": len(label) - candidates}
    found["intervals"] = _intervals(scores, found, fprs, draws)
    both = 0 < candidates < len(label)
    found["thresholds"] = {
        f"{fpr:g}": _finite(rates.threshold_at_fpr(label, probability, fpr)) if both else None for fpr in fprs
    }
    if scores.snr is not None:
        found["by_snr"] = list(_by_snr(scores, scores.snr))
    if scores.kind is not None:
        found["by_kind"] = list(_by_kind(scores, scores.kind))
    if scores.by_class:
        found["by_class"] = against_rest(scores.by_class)
    found["calibration"] = calibration(label, probability)
    if calibrator:
        found["calibrated"] = {"kind": calibrator.kind, **calibration(label, calibrator(probability))}
    return found


def calibration(label: NDArray, probability: NDArray) -> dict[str, Any]:
    """The calibration curve: in bins of equal width of p(candidate), its mean and the share of candidates.

    `expected_error` is the mean, over stamps, of how far the two are apart in a stamp's bin (ECE, Guo et al.
    2017); `brier` the mean of (p - label)² (Brier 1950).
    """
    p, label = np.asarray(probability, np.float64), np.asarray(label)
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


def _intervals(scores: Scores, found: dict[str, Any], fprs: Sequence[float], draws: int) -> dict[str, Any]:
    counts = found["confusion"]
    intervals: dict[str, Any] = {"level": significance.LEVEL}
    for name, (right, wrong) in _DENOMINATORS.items():
        part = sum(counts[one] for one in right)
        intervals[name] = wilson(part, part + sum(counts[one] for one in wrong))
    intervals["f1"] = significance.f1_interval(counts, draws)
    intervals["fnr_at_fpr"] = dict.fromkeys(found["fnr_at_fpr"])
    if intervals["f1"] is not None:  # both classes are there
        resampled = significance.resampled_fnr(scores.label, scores.probability, fprs, draws)
        intervals["fnr_at_fpr"] = {
            name: significance.fnr_interval(fnr, found["candidates"], resampled[:, 0, i])
            for i, (name, fnr) in enumerate(found["fnr_at_fpr"].items())
        }
    return intervals


def _by_snr(scores: Scores, snr: NDArray) -> Iterator[dict[str, Any]]:
    """Completeness of candidates and FPR of artifacts in each bin of SNR; unknown SNRs are in none."""
    accepted = rates.classify(scores.probability) == 1
    for low, high in itertools.pairwise(SNR_EDGES):
        here = (snr >= low) & (snr < high)
        row: dict[str, Any] = {"from": _finite(low), "to": _finite(high)}
        for of_class, share, name in ((1, "completeness", "candidates"), (0, "fpr", "artifacts")):
            inside = here & (scores.label == of_class)
            row |= _share(inside, accepted, name, share)
        yield row


def _by_kind(scores: Scores, kind: NDArray) -> Iterator[dict[str, Any]]:
    """FPR of each kind of artifact that there is, the candidates (completeness) first."""
    accepted = rates.classify(scores.probability) == 1
    for number in np.unique(kind):
        name = scores.kinds[number] if number < len(scores.kinds) else f"kind {number}"
        yield {"kind": name, **_share(kind == number, accepted, "stamps", "accepted")}


def _share(inside: NDArray, accepted: NDArray, count: str, share: str) -> dict[str, Any]:
    n, part = int(inside.sum()), int((inside & accepted).sum())
    interval: Interval | None = wilson(part, n)
    return {count: n, share: part / n if n else None, f"{share}_interval": interval}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


class Evaluation(dict[str, Any]):
    """The figures of `evaluate` for the last of several models, which is their vote, and of each in `models`.

    Printed, it is a report with intervals, errors by SNR and kind, and calibration.
    """

    def __init__(
        self,
        scored: str,
        scores: Mapping[str, Scores],
        fprs: Sequence[float] = FPRS,
        fitted: Mapping[str, Calibrator] | None = None,
    ) -> None:
        """Of the models' scores by name; `scored` says of which stamps, `fitted` are the models'
        calibrators."""
        calibrator = (fitted or {}).get
        found = {name: evaluate(one, fprs, calibrator=calibrator(name)) for name, one in scores.items()}
        super().__init__(scored=scored, **list(found.values())[-1], models=found)
        last = list(scores.values())[-1]
        if last.survey is not None:
            each = {name: one.probability for name, one in scores.items()}
            self["agreement"] = agreement(each, last.survey, last.label)
        self._scores = dict(scores)

    def curves(self) -> dict[str, tuple[NDArray, NDArray]]:
        """The DET curve of each model: FPR and FNR. Raises UserError if the stamps are of one class only."""
        if not (self["candidates"] and self["artifacts"]):
            raise UserError(
                f"{self['scored']}: has stamps of one class only, and a DET curve needs both classes"
            )
        return {name: rates.det_curve(one.label, one.probability) for name, one in self._scores.items()}

    def to_table(self) -> Any:
        """The figures of each model with their 95% intervals, as an astropy Table; NaN where there is none.

        Raises UserError if astropy is not installed (extra `alerts`).
        """
        rows = [
            {"model": name, "figure": figure, "value": value, "low": low, "high": high}
            for name, found in self["models"].items()
            for figure, value, low, high in _figures(found)
        ]
        return astropy_table(rows, {"scored": self["scored"], "level": self["intervals"]["level"]})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the models' DET curves and their working points at the threshold 0.5; gives the axes, which
        are new ones of pyplot without `ax`."""
        points = {name: working_point(found["confusion"]) for name, found in self["models"].items()}
        return draw_det(self.curves(), points, ax)

    def __str__(self) -> str:
        return "\n".join([self["scored"], *report_lines(self, self["models"])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _figures(found: Found) -> Iterator[tuple[str, float, float, float]]:
    """Each figure's name, value and interval; NaN where there is none."""
    shown = {name: (found[name], found["intervals"][name]) for name in FIGURES}
    for fpr, fnr in found["fnr_at_fpr"].items():
        shown[f"fnr at fpr {fpr}"] = fnr, found["intervals"]["fnr_at_fpr"][fpr]
    for name, (value, interval) in shown.items():
        low, high = interval or (np.nan, np.nan)
        yield name, np.nan if value is None else value, low, high
