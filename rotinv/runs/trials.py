"""A trial: one network trained on a stamp store by the protocol, and tested on the store's test split.

Several trials run side by side, each in a thread of its own, or one after another.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import curves, rates
from rotinv.metrics.one_against_rest import against_rest
from rotinv.metrics.scores import Scores
from rotinv.nn.contract import Array, Kernels
from rotinv.runs import finetuning, history, thresholds, training
from rotinv.runs.batches import Batches, check_counts
from rotinv.runs.folder import BALANCES, HISTORY_FILE, METRICS_FILE, Config
from rotinv.runs.model import load_model
from rotinv.runs.predictions import labelled_scores
from rotinv.runs.protocol import Schedule
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.pixels import check_side
from rotinv.stamps.splits import Split, bad_pixels, count_constant, usable
from rotinv.stamps.store import StampStore
from rotinv.system import files, pictures
from rotinv.system.errors import UserError, not_known
from rotinv.system.messages import counted

FEW = 0.2  # a class with a smaller share is repeated to balance it, unless the user says otherwise
_SAMPLED = 100  # stamps of each split that its digest reads


@dataclass(frozen=True)
class Data:
    """The three splits with the indices of their usable stamps, and notes about them for the user."""

    splits: dict[str, Split]
    indices: dict[str, NDArray]
    side: int | None
    notes: list[str]


def new_config(
    store: StampStore,
    arch: str,
    *,
    schedule: Schedule,
    seed: int = 0,
    init: str = "he",
    crop: int | None = None,
    on_bad: str = "error",
    init_from: str | Path | None = None,
    freeze: int = 0,
    balance: str | None = "none",
    augment: Sequence[str] = (),
) -> Config:
    """The configuration of a new run on an open store.

    `balance` is one of BALANCES, or None, which is "batches" if the smaller class has less than FEW of the
    stamps to train with, and "none" otherwise.

    Raises UserError if the architecture is unknown, if the stamps are too small for it or cannot be cut so,
    if the weights of the run `init_from` do not fit, or if classes are to be balanced and there is only one.
    """
    size = crop or store.size
    check_side(store.size, size)
    label = _labels_to_train_with(replace(store.split("train"), side=crop), on_bad)
    balance = balance_for(store.path, label, balance, store.classes)
    config = Config(
        arch=arch,
        size=size,
        channels=list(store.channels),
        seed=seed,
        init=init,
        data=str(store.path.resolve()),
        crop=crop,
        on_bad=on_bad,
        schedule=schedule,
        data_sha256=digest(store),
        balance=balance,
        class_weights=_class_weights(label, store.classes, balance),
        classes=store.classes,
        augment=list(augment),
    )
    config.network()
    return finetuning.begun_with(config, init_from, freeze)


def _labels_to_train_with(train: Split, on_bad: str) -> NDArray | None:
    """The labels of the stamps that a run trains on: with "drop" not those of stamps that are left out."""
    if train.label is None or on_bad != "drop":
        return train.label
    return train.label[usable(train, on_bad)]


def digest(store: StampStore) -> str:
    """A digest of a store's stamps: the SHA-256 of its sizes, its labels and some of its pixels.

    A hundred stamps of each split are taken, evenly spread: reading all would take minutes for a large store.
    """
    sha256 = hashlib.sha256(repr((store.sizes, store.size, store.channels, store.normalisation)).encode())
    for name, count in store.sizes.items():
        if count:
            split = store.split(name)
            sha256.update(b"" if split.label is None else split.label.tobytes())
            sha256.update(split.raw(np.unique(np.linspace(0, count - 1, _SAMPLED).astype(int))).tobytes())
    return sha256.hexdigest()


def balance_for(path: str | Path, label: NDArray | None, asked: str | None, classes: Classes = TWO) -> str:
    """One of BALANCES: the one asked for, or else the one that suits the sizes of the classes.

    `label` are the labels of the stamps to train with, from the file `path`. Of m classes one is small that
    has less than FEW of what it would have in m/2 equal parts. Raises UserError without labels, and if a
    class has no stamps.
    """
    if asked not in (None, *BALANCES):
        raise not_known("balance", asked, BALANCES)
    if label is None:
        raise UserError(f"{path}: has no labels to train with")
    counts = classes.counts(label)
    check_counts(path, classes, counts)
    if asked is None:
        small = min(counts) < FEW * 2 * sum(counts) / len(classes)
        return "batches" if small else "none"
    return asked


def _class_weights(label: NDArray | None, classes: Classes, balance: str) -> list[float]:
    """With balance "weights" n / (m n_c) for each class c of n stamps of m classes: all classes weigh alike,
    and the mean weight is 1. Otherwise 1 each."""
    if balance != "weights":
        return [1.0] * len(classes)
    assert label is not None  # a store to train on has labels
    return [float(len(label) / (len(classes) * n)) for n in classes.counts(label)]


def check(store: StampStore, config: Config, progress: bool = False) -> Data:
    """What a run needs from an open store.

    Raises UserError if the store does not fit the run, or holds other stamps than the run was begun with.
    Older runs kept no digest of their stamps: then only size and channels are checked.
    """
    size = config.crop or store.size
    if (size, list(store.channels)) != (config.size, config.channels):
        raise UserError(
            f"{store.path}: has {store.size}x{store.size} stamps of {', '.join(store.channels)}; "
            f"the run was begun with {config.size}x{config.size} of {', '.join(config.channels)}"
        )
    if store.classes != config.classes:
        raise UserError(f"{store.path}: has the classes {store.classes}; the run's are {config.classes}")
    if config.data_sha256 and digest(store) != config.data_sha256:
        raise UserError(f"{store.path}: holds other stamps than those that the run was begun with")
    splits = {name: replace(store.split(name), side=config.crop) for name in ("train", "validate", "test")}
    indices = {name: usable(split, config.on_bad, progress) for name, split in splits.items()}
    notes = _balance_notes(splits["train"], indices["train"], config)
    for name, split in splits.items():
        left_out = np.setdiff1d(np.arange(len(split)), indices[name])
        if len(left_out):
            why = f"with {bad_pixels(split, left_out)}"
            notes.append(f"{store.path}: {counted(len(left_out), 'stamp')} of {name} left out, {why}")
        if constant := count_constant(split, progress):
            which = f"{counted(constant, 'constant channel')} of stamps of {name}"
            notes.append(f"{store.path}: taken as zeros: {which}")
    return Data(splits, indices, config.crop, notes)


def _balance_notes(train: Split, indices: NDArray, config: Config) -> list[str]:
    """What a user should know about balanced classes."""
    if config.balance == "none" or train.label is None:
        return []
    how = "the fewer are repeated, so that as many of each come"
    if config.balance == "weights":
        weights = zip(config.class_weights, config.classes.names, strict=True)
        each = [f"{weight:.3g} of a{'n' * (name[0] in 'aeiou')} {name}" for weight, name in weights]
        how = f"losses weigh {' and '.join(reversed(each))}"
    counts = " and ".join(config.classes.counts_in_words(train.label[indices]))
    return [
        f"{train.path}: {counts} to train with: "
        f"{how} (--balance none leaves them as they are); "
        "p(candidate) and the validation error are those of classes of like size"
    ]


def train_to_end(
    run: training.Run,
    data: Data,
    config: Config,
    observer: training.Observer,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train on the data to the protocol's end, or until `stopped()`. Returns whether the end was reached."""
    balanced = config.balance != "none"
    batches = Batches(
        data.splits["train"],
        data.indices["train"],
        batch=config.schedule.batch,
        seed=config.seed,
        first=run.iteration,
        crop=config.crop,
        on=run.k,
        balanced=config.balance == "batches",
        augment=config.augment,
        as_rows=True,
    )

    def validation(params: Array) -> float:
        split, indices = data.splits["validate"], data.indices["validate"]
        return training.validation_error(run.k, run.network, params, split, indices, data.side, balanced)

    with batches:
        return training.run_iterations(run, batches, validation, observer, stopped, batches.take)


def test(k: Kernels, folder: str | Path, data: Data) -> dict[str, Any]:
    """Score the test split with the best weights; write metrics.json and the pictures; return the metrics.

    The thresholds at fixed FPR that are kept with the run are chosen on the split validate, not on the test's
    own stamps.
    """
    model = load_model(folder)

    def scores(name: str) -> dict[str, Scores]:
        return labelled_scores(k, [model], data.splits[name], data.indices[name])

    (tested,) = scores("test").values()
    result = write_test(folder, tested)
    validated = scores("validate")
    if thresholds.both_classes(validated):
        about = {"stamps": model.config.data, "split": "validate"}
        thresholds.keep([folder], [model], validated, about)
    return result


def one_sided(result: dict[str, Any]) -> str | None:
    """A warning for a network that gives all test stamps the same class, with a remedy; None for others."""
    counts = result["confusion"]
    accepted = counts["true_positives"] + counts["false_positives"]
    if 0 < accepted < result["stamps"] or result["fnr_at_fpr"]["0.01"] is None:
        return None
    candidates = counts["true_positives"] + counts["false_negatives"]
    what = "no stamp of the test is taken for a candidate" if not accepted else "every stamp is taken for one"
    return (
        f"{what}, at the threshold 0.5, though {candidates:,} of {result['stamps']:,} are candidates: train "
        "longer (--iterations, --schedule paper), with classes of like size, or take a threshold at a fixed "
        "FPR (score --at-fpr 0.01)"
    )


def write_test(folder: str | Path, scores: Scores) -> dict[str, Any]:
    """Write metrics.json and the pictures of a run from its scores of the test stamps; return the metrics."""
    folder = Path(folder)
    label, p, name = scores.label, scores.probability, folder.resolve().name
    result = rates.classification_rates(label, p)
    if scores.by_class:
        result["by_class"] = against_rest(scores.by_class)
    files.write_json(folder / METRICS_FILE, result)
    if pictures.matplotlib_available():
        rows = history.read(folder / HISTORY_FILE)
        history.learning_curve_picture(folder / "learning_curve.png", rows, name)
        if result["fnr_at_fpr"]["0.01"] is not None:
            point = {name: curves.working_point(result["confusion"])}
            curves.det_picture(folder / "det_curve.png", {name: rates.det_curve(label, p)}, point)
    return result


T = TypeVar("T")
Stopped = Callable[[], bool]


def run_side_by_side(jobs: Sequence[Callable[[Stopped], T]], at_once: bool, stopped: Stopped) -> list[T]:
    """The results of the jobs. A job gets a function that it asks from time to time whether to stop.

    If one raises, the others are asked to stop, and the first error is raised.
    """
    failed = threading.Event()
    errors: list[BaseException] = []

    def run(job: Callable[[Stopped], T]) -> T | None:
        if failed.is_set():
            return None
        try:
            return job(lambda: failed.is_set() or stopped())
        except BaseException as error:
            errors.append(error)
            failed.set()
            return None

    with ThreadPoolExecutor(len(jobs) if at_once else 1) as pool:
        results = list(pool.map(run, jobs))
    if errors:
        raise errors[0]
    return [result for result in results if result is not None]
