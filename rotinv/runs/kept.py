"""Files in which `rotinv evaluate` keeps thresholds and calibrators in a run's folder, for other programs.

A file has one entry for the network alone, and one for each ensemble that the network belongs to. Entries are
found by the digests of the weights, so that a network that is trained anew has none.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotinv.runs.model import Model, weights_digest
from rotinv.system import files, locks
from rotinv.system.errors import UserError

_PATIENCE = 10.0  # seconds to wait while another process writes its own entry


def keep(file: str, folders: Sequence[str | Path], models: Sequence[Model], entry: Mapping[str, Any]) -> None:
    """Write an entry to the file of that name in each run's folder, in place of the entry for the same
    models.

    Raises UserError if a folder cannot be written.
    """
    key = _digests(models)
    whole = {"weights": key, "models": [model.name for model in models], **entry}
    for folder in dict.fromkeys(map(Path, folders)):
        with locks.held(folder, _PATIENCE):
            others = [old for old in _read(folder / file) if old["weights"] != key]
            files.write_json(folder / file, {"entries": [*others, whole]})


def find(file: str, folders: Sequence[str | Path], models: Sequence[Model]) -> dict[str, Any] | None:
    """The entry for these models together, or None. Raises UserError for a damaged file."""
    key = _digests(models)
    return next((entry for entry in _read(Path(folders[0]) / file) if entry["weights"] == key), None)


def damaged(path: str | Path, reason: object) -> UserError:
    """The error for a file that holds anything else than such entries."""
    return UserError(f"{path}: is not a file that evaluate keeps ({reason}); remove it, and evaluate again")


def _digests(models: Sequence[Model]) -> list[str]:
    """The digests of the models' weights, in an order that does not depend on that of the models."""
    return sorted(map(weights_digest, models))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with files.read_errors(path):
        text = path.read_bytes()
    try:
        entries = json.loads(text)["entries"]
        if all(isinstance(entry["weights"], list) for entry in entries):
            return list(entries)
        raise ValueError("an entry names no weights")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
