"""Tables of scores: what the program score writes (CSV, Parquet, FITS or HDF5), or HDF5 with `label`,
`p_candidate` and perhaps `snr`. A table without labels has the survey's own scores in their place."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.metrics.rates import NOT_SCORED
from rotinv.stamps.classes import Classes, check_labels
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line, read_errors
from rotinv.system.hdf5 import create_hdf5, open_hdf5, reading_hdf5

# The names that the program score gives, and ours.
_SURVEY = ("survey_score", "survey_score_version")
_TEXT = _SURVEY[1]
_COLUMNS = {"probability": "p_candidate", **{name: name for name in ("label", "snr", "class", *_SURVEY)}}
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
    if not path.exists() or h5py.is_hdf5(path):
        found = _columns_of_hdf5(path)
    else:
        reader = {".parquet": _columns_of_parquet, ".fits": _columns_of_fits, ".fit": _columns_of_fits}
        found = reader.get(path.suffix.lower(), _columns_of_csv)(path)
    columns = {own: found[name] for name, own in (*_COLUMNS.items(), ("p_candidate",) * 2) if name in found}
    if "p_candidate" not in columns or not {"label", *_SURVEY[:1]} & set(columns):
        raise UserError(f"{path}: is no table of scores; name {_NEEDED}; a stamp store needs a RUN before it")
    return _checked(path, columns, on_bad)


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


def _columns_of_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    with open_hdf5(path) as file, reading_hdf5(path):
        names = [name for name in (*_COLUMNS, "p_candidate") if isinstance(file.get(name), h5py.Dataset)]
        texts = [name for name in names if h5py.check_string_dtype(file[name].dtype)]
        return {name: np.asarray(file[name].asstr() if name in texts else file[name]) for name in names}


def _columns_of_parquet(path: Path) -> dict[str, NDArray[Any]]:
    parquet = require_extra("pyarrow.parquet", "alerts", path)
    try:
        names = [name for name in _COLUMNS if name in parquet.read_schema(path).names]
        table = parquet.read_table(path, columns=names)
        return {name: table[name].to_numpy() for name in names}
    except Exception as error:  # Arrow's own kinds, for a file that is cut off or damaged
        raise UserError(f"{path}: is damaged or is no Parquet file ({first_line(error)})") from error


def _columns_of_fits(path: Path) -> dict[str, NDArray[Any]]:
    fits = require_extra("astropy.io.fits", "alerts", path)
    try:
        with fits.open(path) as file:
            table = file["SCORES"].data
            names = [name for name in _COLUMNS if name in table.names]
            return {name: table[name].astype(table[name].dtype.newbyteorder("=")) for name in names}
    except Exception as error:  # astropy's dozen kinds, for a file that is damaged
        raise UserError(f"{path}: is damaged, or no FITS table of scores ({first_line(error)})") from error


def _columns_of_csv(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with read_errors(path), path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason}); save the table as CSV UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV ({error})") from error
    columns = {}
    for name in [name for name in _COLUMNS if rows and name in rows[0]]:
        try:
            columns[name] = np.array([row[name] if name == _TEXT else float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: its column {name} does not hold numbers only ({error})") from error
    return columns


def _checked(path: Path, columns: dict[str, NDArray[Any]], on_bad: str) -> Scores | Unlabelled:
    given, version = columns.pop("class", None), columns.pop(_TEXT, None)
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
    return Scores(label, probability, columns.get("snr"), missing=missing, survey=survey)


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
