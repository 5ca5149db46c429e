"""The survey to train on where the user has no data: simulated once, and kept in the user's cache folder."""

import os
from collections.abc import Callable
from pathlib import Path

from rotinv.survey.build import VERSION, make_survey
from rotinv.system import scratch
from rotinv.system.errors import UserError

COUNTS = {"train": 20_000, "validate": 2_500, "test": 5_000}  # stamps of each split
SEED = 1


def path() -> Path:
    """Where the survey is, or is to be made. Raises UserError if it is not there and cannot be made there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "rotinv"
    counts = "-".join(str(count) for count in COUNTS.values())
    place = cache / f"survey-{VERSION}-{counts}-seed{SEED}.h5"
    if not place.exists() and not scratch.writable(cache):
        raise UserError(
            f"{cache}: the simulated survey is kept there, but no file can be made; name a folder "
            "of yours in XDG_CACHE_HOME, or give --data FILE"
        )
    return place


def make(path: str | Path, workers: int, progress: Callable[[int], object]) -> None:
    """Simulate the survey; `progress` is told how many stamps were added."""
    try:
        make_survey(path, COUNTS, SEED, workers, "g", progress=progress)
    except UserError:
        if not Path(path).exists():  # another process may have made it meanwhile
            raise
