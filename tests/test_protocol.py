"""The extension rule, replayed on the original run, and the learning rate."""

import csv

import pytest

from rotinv.runs.protocol import PAPER, Progress, Schedule


def test_the_rule_replayed_on_the_original_run(real_data):
    """Deep-HiTS's own 88 validations: it stops at 440,000 with its best at 355,000 (error 0.00525)."""
    progress = Progress(PAPER.iterations)
    with (real_data / "deep_hits_validation_history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 88
    for row in rows:
        assert int(row["iteration"]) < progress.limit
        progress = progress.validated(PAPER, int(row["iteration"]), float(row["error"]))
    assert progress.limit == 440_000
    assert (progress.best_iteration, progress.best_error) == (355_000, 0.00525)


def test_small_falls_add_up_before_they_extend():
    schedule = Schedule(iterations=100, extend_by=100, validate_every=10)
    progress = Progress(100).validated(schedule, 10, 0.1)
    assert progress.limit == 110
    progress = progress.validated(schedule, 20, 0.0995)  # not below 0.99 x 0.1
    assert (progress.limit, progress.best_iteration) == (110, 20)
    progress = progress.validated(schedule, 30, 0.0985)  # below 0.99 x 0.1, the error at the last fall
    assert progress.limit == 130
    assert progress.validated(schedule, 40, 0.5).limit == 130


def test_a_fixed_run_is_never_extended():
    schedule = Schedule(iterations=50, extend_by=0)
    assert Progress(50).validated(schedule, 40, 0.1).limit == 50


@pytest.mark.parametrize("step, rate", [(0, 0.04), (99_999, 0.04), (100_000, 0.02), (350_000, 0.005)])
def test_the_rate_is_halved(step, rate):
    assert PAPER.learning_rate(step) == pytest.approx(rate)
