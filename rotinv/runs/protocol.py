"""The training protocol of the paper (Sec. IV): how long to train, at which rate, which weights to keep.

The learning rate is halved at fixed intervals, and the validation error is measured at fixed intervals. The
best weights so far are kept. Each time the error falls below 0.99 times what it was at the last such fall,
training goes on for at least a given number of iterations more.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The protocol's numbers. Iterations count batches of `batch` stamps."""

    batch: int = 50
    rate: float = 0.04
    halve_every: int = 100_000
    iterations: int = 100_000  # at first, before any extension
    extend_by: int = 100_000  # 0: never
    improvement: float = 0.99  # the run is extended where the error falls below this share of the last fall's
    validate_every: int = 10_000
    dropout: float = 0.5

    def learning_rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps."""
        return self.rate * 0.5 ** (step // self.halve_every)


PAPER = Schedule()
QUICK = Schedule(halve_every=500, iterations=1_000, extend_by=250, validate_every=250)
# For weights that are good already: ends after 200 iterations without such a fall of the error.
FINETUNE = Schedule(rate=0.01, halve_every=400, iterations=200, extend_by=200, validate_every=50)
SCHEDULES = {"quick": QUICK, "paper": PAPER, "finetune": FINETUNE}


@dataclass(frozen=True)
class Progress:
    """How far a run has come: the iteration at which it ends, and its best validation so far."""

    limit: int
    reference_error: float = math.inf  # at the last fall that extended the run
    best_error: float = math.inf
    best_iteration: int = -1

    def validated(self, schedule: Schedule, iteration: int, error: float) -> "Progress":
        """The progress after a validation: perhaps extended, perhaps with a new best."""
        limit, reference = self.limit, self.reference_error
        if error < schedule.improvement * reference:
            reference = error
            if schedule.extend_by:
                limit = max(limit, iteration + schedule.extend_by)
        if error < self.best_error:
            return Progress(limit, reference, error, iteration)
        return Progress(limit, reference, self.best_error, self.best_iteration)
