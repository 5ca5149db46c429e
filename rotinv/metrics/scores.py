"""Tables of scores: what the program score writes (CSV, Parquet, FITS or HDF5), or HDF5 with `label`,
`p_candidate` and perhaps `snr`. A table without labels has the survey's own scores in their place."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics.rates import NOT_SCORED
from rotinv.metrics.score_tables import TEXT, Table, read_table
from rotinv.stamps.classes import Classes, check_labels
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import create_hdf5
from rotinv.system.messages import once

_SURVEY = ("survey_score", TEXT)
_COLUMNS = ("label", "snr", "class", *_SURVEY)  # besides the probability, which has two names
_log = logging.getLogger("rotinv")
_NEEDED = "a table of rotinv score with label and probability, or HDF5 with label and p_candidate"


class SurveyScores(NamedTuple):
    """A survey's own scores (n,) of stamps, NaN where there is none; the score's name and version (n,)."""

    score: NDArray[np.floating]
    version: NDArray[Any]


class ClassScores(NamedTuple):
    """Labels (n,) of more than two classes, and the probability (n, classes) of each."""

    classes: Classes
    label: NDArray[np.uint8]
    probability: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Scores:
    """Labels (n,), 1 of candidates and 0 of all others, and p(candidate) (n,) of stamps; their SNR and their
    kind where known.

    `by_class` is there of networks of more than two classes. `survey` are the survey's own scores, where
    known. `missing` is how many more stamps the table had, which have no score.
    """

    label: NDArray[np.uint8]
    probability: NDArray[np.floating]
    snr: NDArray[np.floating] | None = None
    kind: NDArray[np.uint8] | None = None
    kinds: tuple[str, ...] = ()
    missing: int = 0
    survey: SurveyScores | None = None
    by_class: ClassScores | None = None


class Unlabelled(NamedTuple):
    """p(candidate) (n,) of stamps without labels, by the model's name, and their survey's own scores."""

    probability: dict[str, NDArray[np.floating]]
    survey: SurveyScores
    missing: int = 0


def read_any(path: str | Path, on_bad: str = "error") -> Scores | Unlabelled:
    """A table of scores, with labels or without. Stamps to which the program score gave none are left out.

    Raises UserError if it is missing, damaged, not of numbers, or has neither labels nor a survey's own
    scores, and for a score that is NaN without the program having said so, unless `on_bad` is "drop".
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name {_NEEDED}; a run needs STAMPS after it")
    table = read_table(path)
    found = table.columns
    columns = {name: found[name] for name in _COLUMNS if name in found}
    if (p := "probability" if "probability" in found else "p_candidate") in found:
        columns["p_candidate"] = found[p]
    if "p_candidate" not in columns or not {"label", *_SURVEY[:1]} & set(columns):
        raise UserError(f"{path}: is no table of scores; name {_NEEDED}; a stamp store needs a RUN before it")
    return _checked(path, columns, table, on_bad)


def read(path: str | Path, on_bad: str = "error") -> Scores:
    """A table of scores and labels. Raises UserError as `read_any` does, and if it has no labels."""
    found = read_any(path, on_bad)
    if isinstance(found, Unlabelled):
        raise UserError(f"{path}: has no labels; name {_NEEDED}")
    return found


def write(path: str | Path, scores: Scores, overwrite: bool = False) -> None:
    """Write the labels, probabilities and SNRs as HDF5. Raises UserError as create_hdf5 does."""
    with create_hdf5(path, overwrite=overwrite) as file:
        file["label"], file["p_candidate"] = scores.label, scores.probability
        if scores.snr is not None:
            file["snr"] = scores.snr


def _checked(path: Path, columns: dict[str, NDArray[Any]], table: Table, on_bad: str) -> Scores | Unlabelled:
    given, version = columns.pop("class", None), columns.pop(TEXT, None)
    count = len(columns["p_candidate"])
    for name, column in columns.items():
        if column.dtype.kind not in "fiub" or column.ndim != 1 or len(column) != count:
            raise UserError(f"{path}: {name} is {column.dtype} {column.shape}, not numbers ({count},)")
    kept = _scored(path, columns["p_candidate"], given, on_bad)
    if not kept.any():
        raise UserError(f"{path}: has no scores at all")
    columns = {name: column[kept] for name, column in columns.items()}
    probability, survey, missing = columns["p_candidate"], None, int(np.sum(~kept))
    if "survey_score" in columns:
        named = np.full(count, "survey_score") if version is None else np.asarray(version)
        survey = SurveyScores(columns["survey_score"], named[kept])
    if "label" not in columns and survey is not None:
        return Unlabelled({path.name: probability}, survey, missing)
    label = check_labels(f"{path}: label", columns["label"])
    by_class = _by_class(path, table, kept)
    return Scores(label, probability, columns.get("snr"), missing=missing, survey=survey, by_class=by_class)


def _by_class(path: Path, table: Table, kept: NDArray[np.bool_]) -> ClassScores | None:
    """The classes of a table of more than two; None of others.

    FITS writes some letters of names otherwise, so that columns which are not there by name are taken in
    their order. Raises UserError if the columns are not those of the classes.
    """
    if "label_class" not in table.columns:
        return None
    if len(table.about) < 2:
        once(_log, f"{path}: has lost its metadata, which name its classes; only candidates are told apart")
        return None
    classes = Classes.of(table.about["classes"].split(","), table.about["candidate"])
    given = [name for name in table.columns if name.startswith("p_")]
    named = [f"p_{name}" for name in classes.names]
    if len(given) != len(named):
        raise UserError(f"{path}: has the columns {', '.join(given)}, and its classes are {classes}")
    columns = named if set(named) == set(given) else given
    p = np.stack([table.columns[name][kept] for name in columns], axis=1)
    label = check_labels(f"{path}: label_class", table.columns["label_class"][kept], classes)
    return ClassScores(classes, label, p)


def _scored(
    path: Path, probability: NDArray[Any], given: NDArray[Any] | None, on_bad: str
) -> NDArray[np.bool_]:
    """Which rows have a score. Raises UserError for one that is no probability."""
    without = np.isnan(probability)
    if on_bad == "error" and given is not None and given.shape == without.shape:
        without &= given == NOT_SCORED
    elif on_bad == "error":
        without[:] = False
    wrong = np.flatnonzero(~without & ~((probability >= 0) & (probability <= 1)))
    if len(wrong):
        remedy = "; --on-bad drop leaves it out" if np.isnan(probability[wrong[0]]) else ""
        raise UserError(
            f"{path}: the probability of row {wrong[0]} is {probability[wrong[0]]:g}; it must be from 0 to 1"
            f"{remedy}"
        )
    return ~without
