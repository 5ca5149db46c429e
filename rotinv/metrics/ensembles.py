"""Ensembles of networks: the rules that join their probabilities, and how good each size and rule is.

A rule makes one score (n,) from the p(candidate) (m, n) that m models give n stamps. The ensemble says
"candidate" where the score is at least 0.5, and its DET curve is that of the score.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rotinv.metrics import rates
from rotinv.metrics.significance import mean_std

Rule = Callable[[NDArray], NDArray]
_LEAST = 2.0**-24  # the float32 next below 1 is 1 - 2^-24; the logit of 1 itself is infinite


def majority(each: NDArray) -> NDArray:
    """The median of the probabilities.

    With an odd number of models it is at least a threshold exactly where most of the models are: it is the
    majority's vote (the paper's CAPE) at any threshold. With an even number it is the mean of the middle two.
    """
    return np.median(each, axis=0)


def mean_probability(each: NDArray) -> NDArray:
    """The mean of the probabilities."""
    return np.asarray(np.mean(each, axis=0, dtype=np.float64))


def mean_logit(each: NDArray) -> NDArray:
    """The probability whose logit is the mean of the logits; 0 and 1 count as 2^-24 and 1 - 2^-24."""
    logits = special.logit(np.clip(np.asarray(each, np.float64), _LEAST, 1 - _LEAST))
    return special.expit(logits.mean(axis=0))


def any_of(each: NDArray) -> NDArray:
    """The largest probability: a candidate where any model says so."""
    return np.max(each, axis=0)


def all_of(each: NDArray) -> NDArray:
    """The least probability: a candidate where all models say so."""
    return np.min(each, axis=0)


RULES: dict[str, Rule] = {
    "majority": majority,
    "mean probability": mean_probability,
    "mean logit": mean_logit,
    "any": any_of,
    "all": all_of,
}


class Row(NamedTuple):
    """How good ensembles of `size` models are by one rule.

    `figures` has the mean and the std (ddof 1) of each figure over all choices of so many models; the choices
    share models. Figures are fractions; what does not exist is None, as the std of a single choice.
    """

    size: int
    rule: str
    choices: int
    figures: dict[str, tuple[float | None, float | None]]


def choices(models: int, size: int) -> list[tuple[int, ...]]:
    """All sets of `size` out of so many models, each as the models' numbers from 0."""
    return list(itertools.combinations(range(models), size))


def table(label: NDArray, each: NDArray, sizes: Sequence[int], fpr: float = 1e-2) -> list[Row]:
    """Accuracy, precision, recall, F1 and FNR at `fpr` of ensembles of each size, by each rule.

    `label` (n,) is 1 for candidates, `each` (m, n) is p(candidate) by each model. Raises ValueError if a
    class is absent.
    """
    rows = []
    for size in sizes:
        for name, rule in RULES.items():
            found = [_figures(label, rule(each[list(members)]), fpr) for members in choices(len(each), size)]
            figures = {key: mean_std([one[key] for one in found]) for key in found[0]}
            rows.append(Row(size, name, len(found), figures))
    return rows


def _figures(label: NDArray, score: NDArray, fpr: float) -> dict[str, float | None]:
    counts = rates.confusion(label, rates.classify(score))
    return {**rates.of_counts(counts), "fnr": rates.fnr_at_fpr(label, score, fpr)}
