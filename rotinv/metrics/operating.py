"""What a threshold means for a night of alerts, of which only a small share is real.

A labelled set fixes the two rates of a threshold, TPR (completeness) and FPR. A night of N alerts, of which a
share pi is real, then has

    accepted = N (pi TPR + (1 - pi) FPR)        precision = pi TPR / (pi TPR + (1 - pi) FPR)

whatever the share of candidates in the labelled set was.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import rates
from rotinv.metrics.significance import Interval, wilson
from rotinv.system.errors import UserError
from rotinv.system.messages import counted


class OperatingPoint(NamedTuple):
    """A threshold, and what a night looks like with it; intervals are Wilson's, of 95%.

    `asked` says which point it is ("FPR 1%", "the best 100"). The threshold is infinite where even the stamp
    with the highest score must not be accepted; precision is then None.
    """

    asked: str
    threshold: float
    completeness: float
    completeness_interval: Interval
    fpr: float
    fpr_interval: Interval
    precision: float | None
    precision_interval: Interval | None
    accepted: float  # alerts a night
    real: float  # of these


class Night(NamedTuple):
    """A night of `alerts` alerts, of which a share of `prevalence` is real."""

    prevalence: float
    alerts: int


def check_fpr(fpr: float, artifacts: int) -> None:
    """Raise UserError where the labelled artifacts are too few for a threshold: less than one is above it."""
    if fpr * artifacts < 1:
        raise UserError(
            f"FPR {fpr:g}: {counted(artifacts, 'artifact')} cannot fix a threshold for it, for less than one "
            f"of them would lie above; label at least {int(np.ceil(1 / fpr)):,}, or ask for a higher FPR"
        )


def at_fprs(
    label: NDArray, probability: NDArray, fprs: Sequence[float], night: Night
) -> list[OperatingPoint]:
    """The operating point at each FPR.

    Parameters
    ----------
    label : (n,), 1 of candidates and 0 of artifacts
    probability : (n,), p(candidate)
    fprs : the highest FPR of each point
    night : what the point is applied to

    Raises
    ------
    UserError
        Where the artifacts are too few for a FPR.
    ValueError
        If a class is absent.

    Examples
    --------
    >>> label = np.repeat([1, 0], 200)
    >>> p = np.concatenate([np.linspace(0.5, 1, 200), np.linspace(0, 0.6, 200)])
    >>> (point,) = at_fprs(label, p, [0.05], Night(prevalence=0.02, alerts=10_000))
    >>> print(f"{point.threshold:.3f}: {point.completeness:.3f} complete, {point.accepted:.0f} a night")
    0.570: 0.860 complete, 662 a night
    """
    curve = rates.operating_points(label, probability)
    counts = _counts(label)
    points = []
    for fpr in fprs:
        check_fpr(fpr, counts[1])
        place = int(np.searchsorted(curve[0], fpr, side="right")) - 1
        points.append(_point(f"FPR {100 * fpr:.6g}%", curve, place, counts, night))
    return points


def at_best(label: NDArray, probability: NDArray, most: Sequence[int], night: Night) -> list[OperatingPoint]:
    """The operating point that accepts at most so many alerts a night, for each of `most`: recall at K.

    Raises ValueError if a class is absent.
    """
    curve = rates.operating_points(label, probability)
    accepted = night.alerts * _share(night.prevalence, curve)
    counts = _counts(label)
    return [
        _point(f"the best {k:,}", curve, int(np.searchsorted(accepted, k, side="right")) - 1, counts, night)
        for k in most
    ]


def as_json(point: OperatingPoint) -> dict[str, Any]:
    """The point for JSON; a threshold that accepts nothing is None."""
    return point._asdict() | {"threshold": point.threshold if np.isfinite(point.threshold) else None}


def lines(points: Sequence[OperatingPoint], night: Night) -> list[str]:
    """The table of operating points as text."""
    head = f"a night of {counted(night.alerts, 'alert')}, {night.prevalence:.4g} of them real"
    rows = [f"  {'':<16}{'threshold':>12}  {'completeness':<27}{'precision':<27}{'accepted':>9}{'real':>8}"]
    for point in points:
        precision = "undefined"
        if point.precision is not None:
            precision = _share_text(point.precision, point.precision_interval)
        complete = _share_text(point.completeness, point.completeness_interval)
        at = "none" if np.isinf(point.threshold) else f"{point.threshold:.6g}"
        numbers = f"{point.accepted:>9,.0f}{point.real:>8,.0f}"
        rows.append(f"  {point.asked:<16}{at:>12}  {complete:<27}{precision:<27}{numbers}")
    return [head, *rows]


def _point(
    asked: str,
    curve: tuple[NDArray, NDArray, NDArray],
    place: int,
    counts: tuple[int, int],
    night: Night,
) -> OperatingPoint:
    """The operating point at a place of the DET curve; precision's interval takes both rates' ends."""
    fpr, fnr, threshold = (float(values[place]) for values in curve)
    candidates, artifacts = counts
    complete = wilson(round((1 - fnr) * candidates), candidates)
    wrong = wilson(round(fpr * artifacts), artifacts)
    assert complete is not None and wrong is not None  # operating_points has seen both classes
    real = night.alerts * night.prevalence * (1 - fnr)
    accepted = real + night.alerts * (1 - night.prevalence) * fpr
    precision, interval = None, None
    if np.isfinite(threshold) and accepted:
        precision = real / accepted
        low = _precision(night.prevalence, complete.low, wrong.high)
        interval = Interval(low, _precision(night.prevalence, complete.high, wrong.low))
    return OperatingPoint(
        asked, threshold, 1 - fnr, complete, fpr, wrong, precision, interval, accepted, real
    )


def _precision(prevalence: float, tpr: float, fpr: float) -> float:
    right, wrong = prevalence * tpr, (1 - prevalence) * fpr
    return right / (right + wrong) if right + wrong else 0.0


def _share(prevalence: float, curve: tuple[NDArray, NDArray, NDArray]) -> NDArray[np.float64]:
    """The share of a night's alerts that each threshold accepts."""
    fpr, fnr, _ = curve
    return prevalence * (1 - fnr) + (1 - prevalence) * fpr


def _counts(label: NDArray) -> tuple[int, int]:
    candidates = int(np.sum(np.asarray(label, bool)))
    return candidates, len(label) - candidates


def _share_text(value: float, interval: Interval | None) -> str:
    assert interval is not None
    return f"{value:>8.2%} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
