"""What a classifier's scores tell: figures with intervals, thresholds, where it errs, calibration."""

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import rates, significance
from rotinv.metrics.agreement import agreement, agreement_lines
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.curves import draw_det, span, working_point
from rotinv.metrics.one_against_rest import against_rest
from rotinv.metrics.one_against_rest import lines as class_lines
from rotinv.metrics.rates import FIGURES, FPRS
from rotinv.metrics.scores import Scores
from rotinv.metrics.significance import Interval, wilson
from rotinv.system.errors import UserError
from rotinv.system.messages import counted
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


Found = Mapping[str, Any]


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


def report_lines(found: Found, each: Mapping[str, Found]) -> Iterator[str]:
    """The figures of each model by name, then what `found` has of thresholds, SNR, kinds and calibration."""
    classes = (counted(found[f"{name}s"], name) for name in ("candidate", "artifact"))
    yield f"{counted(found['stamps'], 'stamp')}: {', '.join(classes)}"
    yield f"brackets: {found['intervals']['level']:.0%} intervals (Wilson; F1 and FNR: bootstrap over stamps)"
    for name, one in each.items():
        yield ""
        yield name
        yield from _rate_lines(one)
    last = list(each)[-1]
    yield from _section(f"at fixed FPR, {last}", _threshold_lines(found))
    if "by_snr" in found:
        yield from _section(f"by SNR, {last}, at threshold 0.5", _snr_lines(found["by_snr"]))
    if "by_kind" in found:
        yield from _section(
            f"by kind, {last}, share accepted at threshold 0.5", _kind_lines(found["by_kind"])
        )
    if by_class := found.get("by_class"):
        title = f"each class against the rest, {last}, by the most probable class"
        yield from _section(title, class_lines(by_class))
    yield from _section(f"calibration, {last}", _calibration_lines(found["calibration"]))
    if calibrated := found.get("calibrated"):
        title = f"the same, calibrated by {calibrated['kind']} on the validation split"
        yield from _section(title, _calibration_lines(calibrated))
    yield from agreement_lines(found.get("agreement", []))


def kept_lines(kept: Found) -> Iterator[str]:
    """The thresholds that are kept, the split they are of, and their FPR and FNR on the stamps evaluated."""
    stamps = f"'{kept['split']}' ({counted(kept['stamps'], 'stamp')})"
    title = f"kept thresholds, of {stamps}, and what they come to on '{kept['on']}'"
    yield from _section(title, _kept_lines(kept["at_fpr"]))


def _kept_lines(rows: Found) -> Iterator[str]:
    yield f"  {'for FPR':>7}  {'FPR':>10}  {'FNR':>10}  threshold"
    for fpr, row in rows.items():
        at = "none" if row["threshold"] is None else f"{row['threshold']:.9g}"
        yield f"  {float(fpr):>7.1%}  {percent(row['fpr']):>10}  {percent(row['fnr']):>10}  {at}"


def percent(value: float | None, digits: int = 3) -> str:
    """A share in percent; what does not exist is said to be undefined."""
    return "undefined" if value is None else f"{value:.{digits}%}"


def bracket(interval: Sequence[float] | None, digits: int = 3) -> str:
    """An interval of shares in percent."""
    return "" if interval is None else f"[{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"


def _section(title: str, rows: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from rows


def _rate_lines(found: Found) -> Iterator[str]:
    for name in FIGURES:
        yield f"  {name:<14}{percent(found[name]):>10}  {bracket(found['intervals'][name])}"


def _threshold_lines(found: Found) -> Iterator[str]:
    yield f"  {'FPR':>6}  {'FNR':>10}  {'':22}threshold"
    for fpr, fnr in found["fnr_at_fpr"].items():
        threshold = found["thresholds"][fpr]
        at = "none" if threshold is None else f"{threshold:.9g}"
        interval = bracket(found["intervals"]["fnr_at_fpr"][fpr])
        yield f"  {_fpr(float(fpr)):>6}  {percent(fnr):>10}  {interval:<22}{at}"


def _fpr(fpr: float) -> str:
    """A FPR in percent, with a digit after the point, or as many as it needs."""
    text = f"{100 * fpr:.6g}"
    return f"{text if '.' in text else text + '.0'}%"


def _snr_lines(rows: Sequence[Found]) -> Iterator[str]:
    yield f"  {'SNR':<12}{'candidates':>11}  {'completeness':<27}{'artifacts':>10}  FPR"
    for row in rows:
        if row["candidates"] or row["artifacts"]:
            complete = _with_interval(row, "completeness", row["candidates"])
            wrong = _with_interval(row, "fpr", row["artifacts"])
            yield (
                f"  {span(row):<12}{row['candidates']:>11,}  {complete:<27}{row['artifacts']:>10,}  {wrong}"
            ).rstrip()


def _kind_lines(rows: Sequence[Found]) -> Iterator[str]:
    for row in rows:
        share = _with_interval(row, "accepted", row["stamps"])
        yield f"  {row['kind']:<26}{row['stamps']:>10,}  {share}"


def _with_interval(row: Found, name: str, count: int) -> str:
    return f"{percent(row[name], 2):>8} {bracket(row[f'{name}_interval'], 2)}" if count else ""


def _calibration_lines(found: Found) -> Iterator[str]:
    yield f"  expected error {found['expected_error']:.5f}, Brier score {found['brier']:.5f}"
    yield f"  {'p(candidate)':<14}{'stamps':>9}  {'mean p':>8}  candidates"
    for row in found["bins"]:
        if row["stamps"]:
            share = f"{percent(row['candidates'], 2):>8} {bracket(row['interval'], 2)}"
            where = f"{row['from']:g} to {row['to']:g}"
            yield f"  {where:<14}{row['stamps']:>9,}  {row['mean_probability']:>8.4f}  {share}"
