"""Ensembles of networks: the rules that join their probabilities, and what each size and rule comes to.

A rule gives a score (n,) of the models' p(candidate) (m, n). The ensemble says candidate where the score is
at least 0.5; its DET curve is the score's.
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
_LEAST = 2.0**-24  # float32 has no number between 1 and 1 less this: nearer, a logit would be infinite


def majority(each: NDArray) -> NDArray:
    """The median. At any threshold that of an odd number of models is the majority's vote (the paper's
    CAPE); an even number that is split goes by the mean of the two middle ones."""
    return np.median(each, axis=0)


def mean_probability(each: NDArray) -> NDArray:
    """The mean of the probabilities."""
    return np.asarray(np.mean(each, axis=0, dtype=np.float64))


def mean_logit(each: NDArray) -> NDArray:
    """The probability of the mean of the logits; a probability of 0 or 1 counts as 2^-24 from there."""
    logits = special.logit(np.clip(np.asarray(each, np.float64), _LEAST, 1 - _LEAST))
    return special.expit(logits.mean(axis=0))


def any_of(each: NDArray) -> NDArray:
    """The largest: a candidate where any model says so."""
    return np.max(each, axis=0)


def all_of(each: NDArray) -> NDArray:
    """The least: a candidate where all models say so."""
    return np.min(each, axis=0)


RULES: dict[str, Rule] = {
    "majority": majority,
    "mean probability": mean_probability,
    "mean logit": mean_logit,
    "any": any_of,
    "all": all_of,
}


class Row(NamedTuple):
    """Means and stds (ddof 1) of an ensemble's figures over all choices of `size` models, which overlap.

    Figures are fractions, None where they do not exist; so is the std of a single choice.
    """

    size: int
    rule: str
    choices: int
    figures: dict[str, tuple[float | None, float | None]]


def choices(models: int, size: int) -> list[tuple[int, ...]]:
    """All sets of `size` of so many models, by their places."""
    return list(itertools.combinations(range(models), size))


def table(label: NDArray, each: NDArray, sizes: Sequence[int], fpr: float = 1e-2) -> list[Row]:
    """What each size and rule comes to, from p(candidate) of each model (m, n): accuracy, precision, recall,
    F1 and FNR at `fpr`. Raises ValueError if a class is absent."""
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
