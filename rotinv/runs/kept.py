"""Files in a run's folder in which evaluate keeps thresholds and calibrators for other programs.

A file has one entry for the network alone, and one for each ensemble that the network belongs to. An entry is
found by the digest of the weights, so that a network that is trained anew has none.
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
    """Write an entry to the file of that name in each run's folder, in place of that of the same models.

    Raises UserError if a folder cannot be written.
    """
    key = _digests(models)
    whole = {"weights": key, "models": [model.name for model in models], **entry}
    for folder in dict.fromkeys(map(Path, folders)):
        with locks.held(folder, _PATIENCE):
            others = [one for one in _read(folder / file) if one["weights"] != key]
            files.write_json(folder / file, {"entries": [*others, whole]})


def find(file: str, folders: Sequence[str | Path], models: Sequence[Model]) -> dict[str, Any] | None:
    """The entry of these models together; None if there is none. Raises UserError for a damaged file."""
    key = _digests(models)
    return next((entry for entry in _read(Path(folders[0]) / file) if entry["weights"] == key), None)


def damaged(path: str | Path, reason: object) -> UserError:
    """The error of a file that holds something else than such entries."""
    return UserError(f"{path}: is not a file that evaluate keeps ({reason}); remove it, and evaluate again")


def _digests(models: Sequence[Model]) -> list[str]:
    """What tells weights apart, whatever order the models are named in."""
    return sorted(map(weights_digest, models))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        if all(isinstance(one["weights"], list) for one in entries):
            return list(entries)
        raise ValueError("an entry names no weights")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
