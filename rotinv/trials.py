"""A trial: one network trained on a stamp store by the protocol, and tested on the store's test split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rotinv import figures, files, history, metrics, runs, scoring, training
from rotinv.backend import Array, Kernels
from rotinv.batches import Batches
from rotinv.errors import UserError
from rotinv.splits import Split, count_constant, usable
from rotinv.stamps import StampStore


@dataclass(frozen=True)
class Data:
    """The three splits with the indices of their usable stamps, and what a user should know of them."""

    splits: dict[str, Split]
    indices: dict[str, NDArray]
    side: int | None
    notes: list[str]


def check(store: StampStore, config: runs.Config, progress: bool = False) -> Data:
    """What a run needs of an open store. Raises UserError if the store does not fit the run."""
    size = config.crop or store.size
    if (size, list(store.channels)) != (config.size, config.channels):
        raise UserError(
            f"{store.path}: has {store.size}x{store.size} stamps of {', '.join(store.channels)}; "
            f"the run was begun with {config.size}x{config.size} of {', '.join(config.channels)}"
        )
    splits = {name: store.split(name) for name in ("train", "validate", "test")}
    indices = {name: usable(split, config.on_bad, progress) for name, split in splits.items()}
    notes = []
    for name, split in splits.items():
        if dropped := len(split) - len(indices[name]):
            notes.append(f"{store.path}: {dropped} stamps of {name} left out, their pixels are not finite")
        if constant := count_constant(split, config.crop, progress):
            notes.append(
                f"{store.path}: {constant} channels of stamps of {name} are constant; they become zeros"
            )
    return Data(splits, indices, config.crop, notes)


def train(
    run: training.Run,
    data: Data,
    config: runs.Config,
    observer: training.Observer,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Go on to the protocol's end, or until `stopped()`; says whether the end was reached."""
    batches = Batches(
        data.splits["train"],
        data.indices["train"],
        batch=config.schedule.batch,
        seed=config.seed,
        first=run.iteration,
        crop=config.crop,
        on=run.k,
    )

    def validation(params: Array) -> float:
        split, indices = data.splits["validate"], data.indices["validate"]
        return training.validation_error(run.k, run.network, params, split, indices, data.side)

    with batches:
        return training.train(run, batches, validation, observer, stopped)


def test(k: Kernels, folder: Path, data: Data) -> dict[str, Any]:
    """Score the test split with the best weights; write metrics.json and the pictures; give the metrics."""
    model = runs.load_model(folder)
    split, indices = data.splits["test"], data.indices["test"]
    assert split.label is not None  # a store's splits have labels
    p = scoring.probabilities(k, model.network, k.asarray(model.params), split, indices, data.side)
    return write_test(folder, split.label[indices], p)


def write_test(folder: Path, label: NDArray, p: NDArray) -> dict[str, Any]:
    """Write metrics.json and the pictures of a run, from the test stamps' p(candidate); give the metrics."""
    result, name = metrics.evaluate(label, p), folder.resolve().name
    files.write_json(folder / runs.METRICS, result)
    if figures.available():
        rows = history.read(folder / runs.HISTORY)
        figures.learning_curve(folder / "learning_curve.png", rows, name)
        if result["fnr_at_fpr"]["0.01"] is not None:
            figures.det_curves(folder / "det_curve.png", {name: metrics.det_curve(label, p)})
    return result
