"""Tables of scores: CSV or HDF5 of the program score, and HDF5 with `label`, `p_candidate`, maybe `snr`."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.splits import check_labels
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors
from rotinv.system.hdf5 import create_hdf5, open_hdf5, reading_hdf5

_COLUMNS = {"label": "label", "probability": "p_candidate", "snr": "snr"}  # of the program score, and here
_NEEDED = "a CSV or HDF5 of rotinv score with label and probability, or HDF5 with label and p_candidate"


@dataclass(frozen=True, eq=False)
class Scores:
    """Labels (n,) and p(candidate) (n,) of stamps; their SNR and their kind where known."""

    label: NDArray[np.uint8]
    probability: NDArray[np.floating]
    snr: NDArray[np.floating] | None = None
    kind: NDArray[np.uint8] | None = None
    kinds: tuple[str, ...] = ()


def read(path: str | Path) -> Scores:
    """A table of scores. Raises UserError if it is missing, damaged, without labels or not of numbers."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name {_NEEDED}; a run needs STAMPS after it")
    if path.exists() and not h5py.is_hdf5(path):
        return _checked(path, _columns_of_csv(path))
    with open_hdf5(path) as file, reading_hdf5(path):
        found = {
            own: name for name, own in (*_COLUMNS.items(), ("p_candidate", "p_candidate")) if name in file
        }
        if not {"label", "p_candidate"} <= set(found):
            raise UserError(
                f"{path}: is no table of scores; name {_NEEDED}; a stamp store needs a RUN before it"
            )
        columns = {own: np.asarray(file[name]) for own, name in found.items()}
    return _checked(path, columns)


def write(path: str | Path, scores: Scores, overwrite: bool = False) -> None:
    """Write the labels, probabilities and SNRs as HDF5. Raises UserError as create_hdf5 does."""
    with create_hdf5(path, overwrite=overwrite) as file:
        file["label"], file["p_candidate"] = scores.label, scores.probability
        if scores.snr is not None:
            file["snr"] = scores.snr


def _columns_of_csv(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with disk_errors(path), path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error):
        rows = []
    names = [name for name in _COLUMNS if rows and name in rows[0]]
    if not {"label", "probability"} <= set(names):
        raise UserError(f"{path}: is no table of scores; name {_NEEDED}")
    columns = {}
    for name in names:
        try:
            columns[_COLUMNS[name]] = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: its column {name} does not hold numbers only ({error})") from error
    return columns


def _checked(path: Path, columns: dict[str, NDArray[Any]]) -> Scores:
    label, probability = columns["label"], columns["p_candidate"]
    for name, column in columns.items():
        if column.dtype.kind not in "fiub" or column.ndim != 1 or len(column) != len(label):
            raise UserError(f"{path}: {name} is {column.dtype} {column.shape}, not numbers ({len(label)},)")
    if not len(label):
        raise UserError(f"{path}: has no scores at all")
    wrong = np.flatnonzero(~((probability >= 0) & (probability <= 1)))
    if len(wrong):
        raise UserError(
            f"{path}: the probability of row {wrong[0]} is {probability[wrong[0]]:g}; it must be from 0 to 1"
        )
    return Scores(check_labels(f"{path}: label", label), probability, columns.get("snr"))
