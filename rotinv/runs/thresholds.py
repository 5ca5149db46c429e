"""Thresholds at fixed FPRs, kept in a run's folder: an entry for the model and each ensemble it is in.

An entry belongs to weights, by their digest, and not to a folder's name: trained anew, a model has none.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotinv.runs.model import Model, weights_digest
from rotinv.system import files, locks
from rotinv.system.errors import UserError

FILE = "thresholds.json"
_PATIENCE = 10.0  # seconds to wait for another process that keeps its own


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
    key = _digests(models)
    values = {f"{fpr:g}": value if math.isfinite(value) else None for fpr, value in found.items()}
    entry = {"weights": key, "models": [model.name for model in models], **about, "thresholds": values}
    for folder in dict.fromkeys(map(Path, folders)):
        with locks.held(folder, _PATIENCE):
            others = [one for one in _read(folder / FILE) if one["weights"] != key]
            files.write_json(folder / FILE, {"entries": [*others, entry]})


def find(folders: Sequence[str | Path], models: Sequence[Model], fpr: float) -> float:
    """The threshold of a model, or of several together, at a FPR. Raises UserError if none is kept."""
    path, key = Path(folders[0]) / FILE, _digests(models)
    remedy = f"rotinv evaluate {shlex.join(map(str, folders))} STAMPS finds and keeps them"
    for entry in _read(path):
        if entry["weights"] != key:
            continue
        if f"{fpr:g}" not in entry["thresholds"]:
            known = ", ".join(entry["thresholds"])
            raise UserError(f"--at-fpr {fpr:g}: {path} has no such threshold, but those at {known}")
        value = entry["thresholds"][f"{fpr:g}"]
        if value is None:
            raise UserError(f"--at-fpr {fpr:g}: no threshold rejects enough artifacts; ask for a higher FPR")
        return float(value)
    raise UserError(f"--at-fpr: {path} has no thresholds of these weights; {remedy}")


def _digests(models: Sequence[Model]) -> list[str]:
    """What tells weights apart, whatever order the models are named in."""
    return sorted(map(weights_digest, models))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        if all(isinstance(one["weights"], list) and isinstance(one["thresholds"], dict) for one in entries):
            return list(entries)
        raise ValueError("an entry has no thresholds")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a file of thresholds ({error}); remove it") from error
