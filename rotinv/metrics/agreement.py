"""How a network's scores agree with the survey's own: rank correlation, and areas under the ROC curve (AUC).

The AUC is the chance that a real stamp has a higher score than a bogus one. Where there are labels, both the
network's and the survey's are against these; else the network's is against the survey's score, cut where the
survey itself cuts it (CUTS).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from rotinv.metrics.scores import SurveyScores
from rotinv.metrics.significance import LEVEL, Interval
from rotinv.system.messages import counted

CUTS = {  # by the name of the score: from where its survey, or a broker of it, takes an alert as real
    "drb": (0.5, "Duev et al. 2019"),
    "rb": (0.55, "Fink's filter"),
    "reliability": (0.5, "Rubin sends no alerts below"),
}
_OTHER_CUT = (0.5, "no customary cut is known")
_Z = float(scipy.special.ndtri((1 + LEVEL) / 2))

Found = dict[str, Any]


def agreement(
    probability: Mapping[str, NDArray],
    survey: SurveyScores,
    label: NDArray | None = None,
    cut: float | None = None,
) -> list[Found]:
    """How each model's p(candidate) (n,) agrees with a survey's score, ready for JSON.

    One entry for each kind of score (drb, rb, reliability …), over the stamps that have it and a
    probability: `score`, `versions`, `stamps`, `cut` and its `source`, `real` and `bogus` (labels, or sides
    of the cut), `survey_auc` against labels, and in `models` by name `spearman` and `auc`. A figure is
    {"value", "interval"}; what does not exist is None. `cut` replaces the customary one.
    """
    return [
        _of_one(name, here, probability, survey, label, cut)
        for name, here in by_score(probability, survey).items()
    ]


def by_score(probability: Mapping[str, NDArray], survey: SurveyScores) -> dict[str, NDArray[np.bool_]]:
    """Which stamps (n,) have each kind of the survey's scores, by its name, and p(candidate) by all of the
    models."""
    names = np.array([str(version).partition(" ")[0] for version in survey.version])
    good = np.isfinite(survey.score) & (names != "")
    for p in probability.values():
        good &= np.isfinite(p)
    return {str(name): good & (names == name) for name in np.unique(names[good])}


def _of_one(
    name: str,
    here: NDArray[np.bool_],
    probability: Mapping[str, NDArray],
    survey: SurveyScores,
    label: NDArray | None,
    cut: float | None,
) -> Found:
    own = np.asarray(survey.score[here], np.float64)
    at, source = CUTS.get(name, _OTHER_CUT) if cut is None else (cut, "as asked")
    real = own >= at if label is None else np.asarray(label)[here] == 1
    return {
        "score": name,
        "versions": sorted(set(map(str, survey.version[here]))),
        "stamps": len(own),
        "cut": None if label is not None else float(at),
        "source": None if label is not None else source,
        "real": int(real.sum()),
        "bogus": int((~real).sum()),
        "survey_auc": None if label is None else auc(own, real),
        "models": {
            key: {"spearman": spearman(p[here], own), "auc": auc(p[here], real)}
            for key, p in probability.items()
        },
    }


def spearman(x: NDArray, y: NDArray) -> Found | None:
    """Spearman's rank correlation with its interval; None where it is not defined.

    The interval is Fisher's, with the standard error of Bonett & Wright (2000), which is right up to 0.95.
    """
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rho = float(scipy.stats.spearmanr(x, y).statistic)
    if abs(rho) == 1:
        return {"value": rho, "interval": None}
    half = _Z * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-half, half]))
    return {"value": rho, "interval": Interval(float(low), float(high))}


def auc(score: NDArray, real: NDArray[np.bool_]) -> Found | None:
    """The AUC of scores (n,) with its interval; None where a class is absent.

    The standard error is that of DeLong et al. (1988), by ranks (Sun & Xu 2014); the interval is taken on the
    logit, so that it stays within 0 and 1. There is none at an AUC of 0 or 1, or of fewer than two stamps of
    a class.
    """
    score, real = np.asarray(score, np.float64), np.asarray(real, bool)
    n, m = int(real.sum()), int((~real).sum())
    if not n or not m:
        return None
    ranks = scipy.stats.rankdata(score)
    # of each real stamp, the share of bogus ones below it; of each bogus stamp, the share of real ones above
    above = (ranks[real] - scipy.stats.rankdata(score[real])) / m
    below = 1 - (ranks[~real] - scipy.stats.rankdata(score[~real])) / n
    value = float(above.mean())
    if min(n, m) < 2 or value in (0, 1):
        return {"value": value, "interval": None}
    error = np.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m)
    half = _Z * error / (value * (1 - value))
    low, high = scipy.special.expit(scipy.special.logit(value) + np.array([-half, half]))
    return {"value": value, "interval": Interval(float(low), float(high))}


def agreement_lines(found: list[Found]) -> Iterator[str]:
    """The figures as text."""
    for one in found:
        yield ""
        versions = ", ".join(one["versions"])
        yield f"agreement with the survey's own score, {versions} ({counted(one['stamps'], 'stamp')})"
        classes = f"{one['real']:,} real, {one['bogus']:,} bogus"
        if one["cut"] is None:
            yield f"  AUC against the labels: {classes}"
            own = f"the survey's {one['score']}"
            yield f"  {own:<56}AUC {_figure(one['survey_auc'])}"
        else:
            yield f"  AUC against {one['score']} cut at {one['cut']:g} ({one['source']}): {classes}"
        for name, figures in one["models"].items():
            spearman_text, auc_text = _figure(figures["spearman"]), _figure(figures["auc"])
            yield f"  {name:<22}Spearman {spearman_text:<25}AUC {auc_text}"


def _figure(found: Found | None) -> str:
    if found is None:
        return "undefined"
    low_high = found["interval"]
    bracket = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
    return f"{found['value']:.3f}{bracket}"
