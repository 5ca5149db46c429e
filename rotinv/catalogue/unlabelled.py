"""Scores of stamps that have no labels, beside their survey's own: what metrics/agreement.py compares."""

from collections.abc import Callable

import numpy as np

from rotinv.catalogue.scorer import Scorer
from rotinv.catalogue.sources import Source, ahead
from rotinv.metrics.scores import SurveyScores, Unlabelled
from rotinv.runs.predictions import vote_name
from rotinv.system.errors import UserError

_SURVEY = ("survey_score", "survey_score_version")


def score_unlabelled(
    scorer: Scorer, source: Source, progress: Callable[[int], object] = lambda stamps: None
) -> Unlabelled:
    """p(candidate) of a source's stamps by each network and, of several, by their vote; NaN: no score.

    Raises UserError if the source does not keep the survey's own scores.
    """
    if not set(_SURVEY) <= set(source.known):
        raise UserError(f"{source.paths[0]}: has no labels, and no scores of a survey's own to compare with")
    of = {name: f"probability_{name}" for name in scorer.names}
    if len(of) > 1:
        of[vote_name(len(of))] = "probability"
    kept: dict[str, list] = {column: [] for column in (*of.values(), *_SURVEY)}
    for block in ahead(source.blocks(0, len(source))):
        rows = scorer.rows(block)
        for column, parts in kept.items():
            parts.append(rows[column])
        progress(len(block.index))
    whole = {column: np.concatenate(parts) for column, parts in kept.items()}
    survey = SurveyScores(*(whole[column] for column in _SURVEY))
    return Unlabelled({name: whole[column] for name, column in of.items()}, survey)
