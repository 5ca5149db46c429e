"""The difference of two kinds of network: a paired bootstrap over stamps and over trials of each.

A draw resamples the test stamps, the same for all networks, and the trials of each kind by themselves. So its
interval tells how other stamps and other trainings would differ, where that of fixed trials tells of stamps
only, and a t-test over trials takes the stamps as given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rotinv.metrics import rates
from rotinv.metrics.significance import DRAWS, Interval, percentiles, resampled_fnr

POWER = 0.8  # the chance with which a difference that is called detectable would be found


class TrialDifference(NamedTuple):
    """The mean of the second kind's trials less the first's, with its 95% interval.

    A true difference of `detectable` would be found, at p < .05, with a probability of POWER.
    """

    mean: float
    interval: Interval
    detectable: float


def resampled_accuracy(
    label: NDArray, scores: NDArray, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """The accuracy of each of `scores` (models, n) at threshold 0.5 on resampled stamps: (draws, models).

    As many candidates and as many artifacts are drawn as there are, the same for all models.
    """
    right = np.stack([rates.classify(one) == label for one in scores]).astype(np.float64)
    places = [np.flatnonzero(label == kind) for kind in (0, 1)]
    rng = np.random.default_rng(seed)
    found = np.empty((draws, len(right)))
    weight = np.empty(len(label))
    for draw in range(draws):
        for place in places:
            weight[place] = np.bincount(rng.integers(len(place), size=len(place)), minlength=len(place))
        found[draw] = right @ weight / len(label)
    return found


def accuracy_difference(
    label: NDArray, first: NDArray, second: NDArray, draws: int = DRAWS, seed: int = 0
) -> TrialDifference:
    """The difference of accuracy of two kinds' scores, (trials, n) each."""
    every = np.concatenate([first, second])
    drawn = resampled_accuracy(label, every, draws, seed)
    mean = [float(np.mean(rates.classify(one) == label)) for one in every]
    return _difference(drawn, mean, len(first), seed)


def fnr_differences(
    label: NDArray, first: NDArray, second: NDArray, fprs: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> list[TrialDifference]:
    """The difference of the FNR at each FPR of two kinds' scores, (trials, n) each."""
    every = np.concatenate([first, second])
    drawn = resampled_fnr(label, every, fprs, draws, seed)
    found = []
    for place, fpr in enumerate(fprs):
        mean = [rates.fnr_at_fpr(label, one, fpr) for one in every]
        found.append(_difference(drawn[..., place], mean, len(first), seed))
    return found


def _difference(drawn: NDArray, found: Sequence[float], firsts: int, seed: int) -> TrialDifference:
    """From draws (draws, models) over stamps, and the figures (models,) on the stamps themselves."""
    rng = np.random.default_rng(seed)
    draws = _over_trials(drawn[:, firsts:], rng) - _over_trials(drawn[:, :firsts], rng)
    mean = float(np.mean(found[firsts:]) - np.mean(found[:firsts]))
    reach = float(special.ndtri(0.975) + special.ndtri(POWER))
    return TrialDifference(mean, percentiles(draws), reach * float(draws.std(ddof=1)))


def _over_trials(drawn: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """The mean over resampled trials of each draw (draws, trials).

    What drawing trials with replacement adds is widened by sqrt(m / (m - 1)) of m trials, since m of them
    scatter about their own mean by so much less than about the true one. A single trial is taken as it is.
    """
    trials = drawn.shape[1]
    mean = drawn.mean(axis=1)
    if trials == 1:
        return mean
    chosen = rng.integers(trials, size=drawn.shape)
    again = np.take_along_axis(drawn, chosen, axis=1).mean(axis=1)
    return mean + np.sqrt(trials / (trials - 1)) * (again - mean)
