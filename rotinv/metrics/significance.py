"""How sure a figure is, and whether two differ: Wilson's interval, bootstrap, Welch's and McNemar's tests.

Intervals are of 95% unless said otherwise. The bootstrap draws as many candidates and as many artifacts as
there are, because the number of each was chosen when the test set was made.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # which loads a part of it where that is first used: all would take a third of a start
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
DRAWS = 1000  # of a bootstrap
DDOF = 1  # of the std over trials, which are a sample of all that could have been trained


class Interval(NamedTuple):
    """From `low` to `high`."""

    low: float
    high: float


class Welch(NamedTuple):
    """Welch's t-test of two means: p is two-sided; `difference` is the second mean less the first."""

    p: float
    t: float
    df: float
    difference: float
    interval: Interval


class Difference(NamedTuple):
    """The mean difference of two measurements of the same stamps."""

    mean: float
    interval: Interval


class McNemar(NamedTuple):
    """McNemar's exact test of two classifiers on the same stamps.

    `only_first` and `only_second` count the stamps that only that one gets right; p is two-sided;
    `difference` is the second's accuracy less the first's, with its interval given how many they differ on.
    """

    only_first: int
    only_second: int
    p: float
    difference: float
    interval: Interval


def wilson(part: int, whole: int, level: float = LEVEL) -> Interval | None:
    """Wilson's score interval of a share part / whole (Wilson 1927); None where whole is 0."""
    if not whole:
        return None
    z = float(scipy.special.ndtri((1 + level) / 2))
    share, reach = part / whole, z * z / whole
    middle = (share + reach / 2) / (1 + reach)
    half = z / (1 + reach) * np.sqrt(share * (1 - share) / whole + reach / whole / 4)
    low, high = float(middle - half), float(middle + half)
    return Interval(low if part else 0.0, high if part < whole else 1.0)  # exactly, in spite of rounding


def percentiles(draws: NDArray, level: float = LEVEL) -> Interval:
    """The interval that holds the share `level` of a bootstrap's draws (n,), as many below it as above."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def f1_interval(counts: dict[str, int], draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """The bootstrap interval of F1, from metrics.confusion's counts; None where a class is absent."""
    positives = counts["true_positives"] + counts["false_negatives"]
    negatives = counts["true_negatives"] + counts["false_positives"]
    if not positives or not negatives:
        return None
    rng = np.random.default_rng(seed)
    tp = rng.binomial(positives, counts["true_positives"] / positives, draws)
    fp = rng.binomial(negatives, counts["false_positives"] / negatives, draws)
    return percentiles(2 * tp / (tp + fp + positives))


def resampled_fnr(
    label: NDArray, scores: ArrayLike, fprs: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """FNR at each FPR of each of `scores` (models, n) on resampled stamps: (draws, models, fprs).

    A draw resamples the same stamps for all models, so that their differences may be taken. The threshold is
    found anew in each. Raises ValueError if a class is absent.
    """
    label = np.asarray(label, bool)
    ranked = [_Ranked.of(label, np.asarray(one)) for one in np.atleast_2d(np.asarray(scores))]
    places = [np.flatnonzero(label == kind) for kind in (False, True)]
    rng = np.random.default_rng(seed)
    found = np.empty((draws, len(ranked), len(fprs)))
    weight = np.empty(len(label))
    for draw in range(draws):
        for place in places:
            weight[place] = np.bincount(rng.integers(len(place), size=len(place)), minlength=len(place))
        for model, one in enumerate(ranked):
            found[draw, model] = one.fnr_at(weight, fprs)
    return found


class _Ranked(NamedTuple):
    """One model's stamps from the highest score down; equal scores end together."""

    order: NDArray[np.int64]
    candidate: NDArray[np.bool_]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, label: NDArray[np.bool_], scores: NDArray) -> "_Ranked":
        if label.all() or not label.any():
            raise ValueError("FNR at a FPR needs stamps of both classes")
        order = np.argsort(-scores, kind="stable")
        return cls(order, label[order], np.append(np.flatnonzero(np.diff(scores[order])), len(label) - 1))

    def fnr_at(self, weight: NDArray, fprs: Sequence[float]) -> NDArray[np.float64]:
        """The lowest FNR of any threshold whose FPR is at most each of `fprs`, stamps counted by weight."""
        w = weight[self.order]
        accepted = np.cumsum(w * self.candidate)[self.ends]
        passed = np.cumsum(w * ~self.candidate)[self.ends]
        place = np.searchsorted(passed / passed[-1], fprs, side="right")
        return 1 - np.append(0.0, accepted)[place] / accepted[-1]


def fnr_interval(fnr: float, candidates: int, draws: NDArray, level: float = LEVEL) -> Interval:
    """The interval of a FNR at a FPR, from its draws (n,) by resampled_fnr.

    Where few candidates are rejected the draws hardly vary, and not at all where none is: so it is never
    narrower than Wilson's of the candidates that are rejected.
    """
    own, drawn = wilson(round(fnr * candidates), candidates, level), percentiles(draws, level)
    assert own is not None  # resampled_fnr has seen candidates
    return Interval(min(own.low, drawn.low), max(own.high, drawn.high))


def mean_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean, and the std of ddof DDOF, which a single value does not have; none where a value is None."""
    if any(value is None for value in values):
        return None, None
    found = np.asarray(values, np.float64)
    return float(found.mean()), float(found.std(ddof=DDOF)) if len(found) > DDOF else None


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Welch's t-test (scipy.stats.ttest_ind); None where it does not exist: too few values, or no spread."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one sample may have no spread
        found = scipy.stats.ttest_ind(second, first, equal_var=False)
    interval = found.confidence_interval(LEVEL)
    difference = float(np.mean(second) - np.mean(first))
    low, high = float(interval.low), float(interval.high)
    return Welch(
        float(found.pvalue), float(found.statistic), float(found.df), difference, Interval(low, high)
    )


def paired(first: ArrayLike, second: ArrayLike) -> Difference | None:
    """The mean of second - first (n,) of the same stamps, by Student's t; None of fewer than two."""
    each = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    if len(each) < 2:
        return None
    mean = float(each.mean())
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return Difference(mean, Interval(mean - reach, mean + reach))


def mcnemar(label: NDArray, first: NDArray, second: NDArray) -> McNemar:
    """McNemar's exact test (1947) of the classes (n,) that two models give the same stamps.

    Of the stamps that only one of them gets right, it tests whether each gets half, by the binomial.
    """
    one, other = np.asarray(first) == label, np.asarray(second) == label
    only_first, only_second = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    differ, n = only_first + only_second, len(label)
    if not differ:
        return McNemar(0, 0, 1.0, 0.0, Interval(0.0, 0.0))
    p = float(scipy.stats.binomtest(only_second, differ).pvalue)
    share = wilson(only_second, differ)
    assert share is not None
    low, high = ((2 * end - 1) * differ / n for end in share)
    return McNemar(only_first, only_second, p, (only_second - only_first) / n, Interval(low, high))
