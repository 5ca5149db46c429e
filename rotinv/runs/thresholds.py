"""Thresholds at fixed FPRs, kept in a run's folder for the model and its ensembles (see kept.py)."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotinv.runs import kept
from rotinv.runs.model import Model
from rotinv.system.errors import UserError

FILE = "thresholds.json"


def store(
    folders: Sequence[str | Path],
    models: Sequence[Model],
    found: Mapping[float, float],
    about: Mapping[str, Any],
) -> None:
    """Keep the thresholds by FPR in each run's folder, in place of those of the same models.

    `about` says where they are from. An infinite threshold, which accepts nothing, is kept as null.
    Raises UserError if a folder cannot be written.
    """
    values = {f"{fpr:g}": value if math.isfinite(value) else None for fpr, value in found.items()}
    kept.keep(FILE, folders, models, {**about, "thresholds": values})


def find(folders: Sequence[str | Path], models: Sequence[Model], fpr: float) -> float:
    """The threshold of a model, or of several together, at a FPR. Raises UserError if none is kept."""
    path = Path(folders[0]) / FILE
    entry = kept.find(FILE, folders, models)
    if entry is None:
        remedy = f"rotinv evaluate {shlex.join(map(str, folders))} STAMPS finds and keeps them"
        raise UserError(f"--at-fpr: {path} has no thresholds of these weights; {remedy}")
    values = entry.get("thresholds")
    if not isinstance(values, dict):
        raise kept.damaged(path, "an entry has no thresholds")
    if f"{fpr:g}" not in values:
        known = ", ".join(values)
        remedy = f"rotinv evaluate … --fpr {fpr:g} finds it"
        raise UserError(f"--at-fpr {fpr:g}: {path} has no such threshold, but those at {known}; {remedy}")
    if values[f"{fpr:g}"] is None:
        raise UserError(f"--at-fpr {fpr:g}: no threshold rejects enough artifacts; ask for a higher FPR")
    return float(values[f"{fpr:g}"])
