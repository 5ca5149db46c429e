"""Calibrators of trained networks, kept in the runs' folders (see kept.py)."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotinv.metrics import calibrators
from rotinv.metrics.calibrators import Calibrator
from rotinv.runs import kept
from rotinv.runs.model import Model
from rotinv.system.errors import UserError

FILE = "calibrators.json"


def store(
    folders: Sequence[str | Path], models: Sequence[Model], calibrator: Calibrator, about: Mapping[str, Any]
) -> None:
    """Keep the calibrator of a model, or of several together. `about` says what it was fitted on.

    Raises UserError if a folder cannot be written.
    """
    kept.keep(FILE, folders, models, {**about, "calibrator": calibrator.as_json()})


def find(folders: Sequence[str | Path], models: Sequence[Model]) -> Calibrator:
    """The calibrator of a model, or of several together. Raises UserError if none is kept."""
    path = Path(folders[0]) / FILE
    entry = kept.find(FILE, folders, models)
    if entry is None:
        remedy = f"rotinv evaluate {shlex.join(map(str, folders))} STORE --calibrate isotonic"
        raise UserError(f"--calibrated: {path} has no calibrator of these weights; fit one by {remedy}")
    try:
        return calibrators.of_json(entry["calibrator"])
    except (ValueError, KeyError, TypeError) as error:
        raise kept.damaged(path, error) from error
