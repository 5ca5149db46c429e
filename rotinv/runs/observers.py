"""Observers of a training (training.Observer): a progress bar for one run, lines for several."""

import logging

from tqdm import tqdm

from rotinv.runs.history import Row
from rotinv.runs.protocol import Progress
from rotinv.runs.training import Run

_log = logging.getLogger(__name__)


class Lines:
    """A line for each validation, with the run's name: for several runs at once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stepped(self, row: Row, limit: int) -> None:
        """Says nothing: progress bars of several runs would overwrite one another."""

    def validated(self, row: Row, progress: Progress) -> None:
        """A validation."""
        _log.info(f"{self._name}: {_validation(row, progress)}")


class Bar:
    """A progress bar, with a line for each validation; a context manager."""

    def __init__(self, run: Run, *, hidden: bool) -> None:
        limit = run.progress.limit
        self._bar = tqdm(total=limit, initial=run.iteration, unit="it", mininterval=0.5, disable=hidden)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def stepped(self, row: Row, limit: int) -> None:
        """A row of the history."""
        self._bar.total = limit
        self._bar.set_postfix(loss=f"{row.loss:.4f}", rate=f"{row.learning_rate:g}", refresh=False)
        self._bar.update(row.iteration - self._bar.n)

    def validated(self, row: Row, progress: Progress) -> None:
        """A validation."""
        extended = f"  until {progress.limit}" if progress.limit != self._bar.total else ""
        _log.info(f"{_validation(row, progress)}{extended}")


def _validation(row: Row, progress: Progress) -> str:
    best = "  (best so far)" if progress.best_iteration == row.iteration else ""
    return f"iteration {row.iteration:>7}   validation error {row.validation_error:.3%}{best}"
