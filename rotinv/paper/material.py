"""The steps that make the material: the survey, the trials, and their scores of the test stamps."""

from pathlib import Path
from typing import Any

import numpy as np

from rotinv import survey
from rotinv.metrics import scores
from rotinv.paper.place import Place
from rotinv.runs import checkpoints, training, trials
from rotinv.runs.folder import CONFIG_FILE, LAST_FILE, read_config
from rotinv.runs.history import Row
from rotinv.runs.model import load_model, open_stamps_for
from rotinv.runs.predictions import labelled_scores
from rotinv.runs.protocol import Progress, Schedule
from rotinv.stamps.splits import usable
from rotinv.stamps.store import StampStore
from rotinv.survey import parts
from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.workers import Progress as Tell


def simulate(at: Place, made: dict[str, Any], workers: int, tell: Tell) -> None:
    """Simulate the survey, or go on with it; one that is whole already was cut off before it was noted."""
    counts = {name: made[name] for name in ("train", "validate", "test")}
    if at.data.exists():
        with StampStore(at.data) as store:
            if store.sizes == counts:
                parts.clear_made(at.data)
                return
        raise UserError(f"{at.data}: holds other stamps than the survey's; remove it")
    total, done = sum(counts.values()), 0

    def advance(stamps: int) -> None:
        nonlocal done
        done += stamps
        tell(done / total)

    survey.make_survey(at.data, counts, made["seed"], workers, made["band"], progress=advance)


def train_trial(at: Place, schedule: Schedule, arch: str, trial: int, tell: Tell) -> None:
    """Train a trial to the protocol's end, from where it was; its number is its seed."""
    folder, k = at.run(arch, trial), at.kernels(None if at.precision == "fp16" else at.precision)
    with StampStore(at.data) as store:
        config = trials.new_config(store, arch, schedule=schedule, seed=trial, on_bad=at.on_bad)
        data = trials.check(store, config)
        folder.mkdir(parents=True, exist_ok=True)
        with locks.held(folder):
            go = training.resume if (folder / CONFIG_FILE).exists() else training.begin
            run = go(k, config, folder)
            training.warm_up(run)
            trials.train_to_end(run, data, config, _Observer(tell))


class _Observer:
    """Tells which share of its iterations a training has done."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def stepped(self, row: Row, limit: int) -> None:
        self._tell(row.iteration / limit)

    def validated(self, row: Row, progress: Progress) -> None:
        pass


def share_done(at: Place, arch: str, trial: int) -> float:
    """The share of a trial that is done, by its last checkpoint; a trial may yet be extended."""
    folder = at.run(arch, trial)
    if not (folder / LAST_FILE).exists():
        return 0.0
    found = checkpoints.load(folder / LAST_FILE, read_config(folder).network())
    return min(1.0, found.iteration / found.progress.limit)


def score_trial(at: Place, arch: str, trial: int, tell: Tell) -> None:
    """Score the test stamps with a trial's best weights."""
    folder, k = at.run(arch, trial), at.kernels(at.precision)
    model = load_model(folder)
    split = open_stamps_for(model, at.data, "test")
    indices = usable(split, at.on_bad)
    done = 0

    def advance(stamps: int) -> None:
        nonlocal done
        done += stamps
        tell(done / len(indices))

    (found,) = labelled_scores(k, [model], split, indices, advance).values()
    trials.write_test(folder, found)
    scores.write(at.scores(arch, trial), found, overwrite=True)


def all_scores(at: Place, arch: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The test stamps' labels (n,) and p(candidate) (count, n) by each trial. Raises UserError for a file
    of scores that is damaged or of other stamps."""
    found = [scores.read(path) for path in _paths(at, arch, count)]
    for path, one in zip(_paths(at, arch, count), found, strict=True):
        if not np.array_equal(one.label, found[0].label):
            raise UserError(f"{path}: is of other stamps than trial 1's; remove it")
    return found[0].label, np.stack([one.probability for one in found])


def _paths(at: Place, arch: str, count: int) -> list[Path]:
    return [at.scores(arch, trial) for trial in range(1, count + 1)]
