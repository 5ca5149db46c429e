"""Training a network on arrays or a stamp store, from Python."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.classifier.classifier import Classifier
from rotinv.classifier.inputs import ARRAY, check_on_bad, store_of_arrays
from rotinv.classifier.loading import load
from rotinv.nn import architectures
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import PRECISIONS, TRAINED, get_kernels
from rotinv.runs import augmentation, finetuning, training, trials
from rotinv.runs.folder import Config, create_run_folder, read_config
from rotinv.runs.history import Row
from rotinv.runs.protocol import SCHEDULES, Progress, Schedule
from rotinv.stamps.arrays import arrays_in_memory, channels_last
from rotinv.stamps.classes import TWO, Classes, check_labels
from rotinv.stamps.packing import channel_names
from rotinv.stamps.pixels import check_side
from rotinv.stamps.store import StampStore
from rotinv.system import locks
from rotinv.system.errors import UserError

_log = logging.getLogger(__name__)


def fit(
    stamps: ArrayLike | str | Path,
    label: ArrayLike | None = None,
    *,
    arch: str | None = None,
    out: str | Path | None = None,
    schedule: str | Schedule | None = None,
    channels: Sequence[str] | None = None,
    snr: ArrayLike | None = None,
    image: ArrayLike | None = None,
    normalised: bool = False,
    crop: int | None = None,
    seed: int = 0,
    on_bad: Literal["error", "drop"] = "error",
    init_from: str | Path | None = None,
    freeze: int = 0,
    balance: Literal["none", "weights", "batches"] | None = None,
    augment: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    candidate: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Classifier:
    """Train a network, and load it with the weights of its best validation.

    Arrays are packed into a stamp store in the run's folder first: 80% of them to train with, 10% to validate
    and choose thresholds with, 10% to test. The folder then has what the program train leaves. A training
    that was interrupted goes on with `rotinv train --resume FOLDER`. Progress goes to `logging`.

    Parameters
    ----------
    stamps : array (n, S, S, C) or (n, C, S, S), or the path of a stamp store
        Pixels; a store has its own labels, channels and splits.
    label : array (n,)
        1 candidate, 0 artifact; with `classes`, their names or numbers.
    arch : str, optional
        "cap", "deephits", "deephits-relu" or "cap-mini"; by default that of the run `init_from`, or "cap".
    out : str or Path, optional
        The run's folder, which must be new or empty; by default the next free runs/ARCH-N.
    schedule : str or Schedule, optional
        "quick" (minutes), "paper" (hours), "finetune" (for weights that are good already), or the numbers of
        the protocol; by default "finetune" with `init_from`, and "quick" without.
    channels : sequence of str, optional
        What the channels of an array are, in their order; by default those of the run `init_from`.
    snr, image : arrays (n,), optional
        The signal-to-noise ratios, and the number of each stamp's image: the stamps of an image stay
        together, so that none is tested on an image that it was trained with.
    normalised : bool
        Whether an array's pixels are scaled to 0-1 already.
    crop : int, optional
        The side to which the stamps are cut, about their centre.
    seed : int
        Of the weights, the order of the batches, dropout, and the division into splits.
    on_bad : "error" or "drop"
        What to do about stamps with NaN or infinite pixels: refuse them, or leave them out.
    init_from : str or Path, optional
        The folder of a run with whose weights to begin; it was trained on the same channels.
    freeze : int
        How many of the first layers with weights keep those of `init_from`.
    balance : "none", "weights" or "batches", optional
        "batches" repeats stamps of the smaller class, so that as many of each come; by default where it has
        below 20% of the stamps to train with, which is told. "weights" has their losses weigh more instead.
    augment : sequence of str
        Random changes of the stamps of each batch: "flips", "shifts" (by up to a pixel).
    classes : sequence of str, optional
        The names of an array's classes where they are not artifact and candidate; `label` has these names, or
        their numbers from 0.
    candidate : str, optional
        Of more than two classes the one that is searched for.
    device, threads, precision
        As of `load`; networks are not trained in "fp16".

    Returns
    -------
    Classifier

    Raises
    ------
    UserError
        For stamps, labels or options that cannot be used, if the folder holds anything, and if the training
        diverges.

    Examples
    --------
    >>> import numpy as np, rotinv
    >>> from rotinv.runs.protocol import Schedule
    >>> label = np.arange(200) % 2
    >>> stamps = np.random.default_rng(0).normal(size=(200, 13, 13, 1)) + 4 * label[:, None, None, None]
    >>> few = Schedule(batch=20, iterations=20, extend_by=0, validate_every=10)
    >>> rotinv.fit(stamps, label, arch="cap-mini", out="runs/mine", schedule=few)
    <Classifier mine, 13x13 pixels of channel0, on cpu>
    """
    _check_paths(out=out, init_from=init_from)
    arch = finetuning.architecture(arch, init_from)
    plan = _schedule(schedule, init_from)
    check_on_bad(on_bad, "drop")
    _check_numbers(seed, crop, freeze)
    _check_channels(channels)
    named = _classes(classes, candidate)
    architectures.build(arch)  # an unknown name is told before a folder is made
    if precision in PRECISIONS and precision not in TRAINED:
        raise UserError(
            f"precision {precision}: is for scoring; train in tf32 or fp32, and load the run with it"
        )
    k = get_kernels(device, threads, precision)
    place = None if out is None else Path(out)
    configure = partial(
        trials.new_config,
        arch=arch,
        schedule=plan,
        seed=seed,
        crop=crop,
        on_bad=on_bad,
        init_from=init_from,
        freeze=freeze,
        balance=balance,
        augment=augmentation.checked(augment),
    )
    store_in: Callable[[Path], Path]  # of the run's folder: the path of the store to train on
    if isinstance(stamps, str | Path):
        only_arrays = (label, channels, snr, image, classes, candidate)
        store_in = _own_store(stamps, configure, only_arrays, normalised)
    else:
        if channels is None and init_from is not None:
            channels = read_config(init_from).channels
        arrays = _checked_arrays(stamps, label, snr, image, named)
        planned = _planned(arch, arrays, channels, crop, named)
        finetuning.begun_with(planned, init_from, freeze)
        trials.balance_for(ARRAY, arrays["label"], balance, named)
        store_in = partial(
            store_of_arrays,
            arrays=arrays,
            channels=channels,
            normalised=normalised,
            crop=crop,
            on_bad=on_bad,
            seed=seed,
            classes=named,
        )
    with _new_folder(place, arch) as folder, StampStore(store_in(folder)) as store:
        _train(k, configure(store), folder, store)
    return load(folder, device=device, threads=threads, precision=precision)


def _own_store(
    path: str | Path,
    configure: Callable[[StampStore], Config],
    only_arrays: Sequence[object],
    normalised: bool,
) -> Callable[[Path], Path]:
    """Check that a run can be trained on the store, before its folder is made.

    Raises UserError if it cannot, or if something is given that only arrays need.
    """
    if any(given is not None for given in only_arrays) or normalised:
        raise UserError(f"{path}: a store has its own labels, channels and scaling; leave these out")
    with StampStore(path) as store:
        configure(store)
    return lambda folder: Path(path)


def _checked_arrays(
    stamps: ArrayLike,
    label: ArrayLike | None,
    snr: ArrayLike | None,
    image: ArrayLike | None,
    classes: Classes,
) -> dict[str, NDArray[Any]]:
    """The arrays to train on. Raises UserError if they do not fit together, or without labels."""
    if label is None:
        raise UserError("fit: arrays need labels: 1 candidate, 0 artifact")
    found = arrays_in_memory(ARRAY, stamps, label=label, snr=snr, image=image, classes=classes)
    return {**found, "label": check_labels(f"{ARRAY}: label", found["label"], classes)}


def _planned(
    arch: str,
    arrays: dict[str, NDArray[Any]],
    channels: Sequence[str] | None,
    crop: int | None,
    classes: Classes,
) -> Config:
    """The configuration that these arrays will have.

    Raises UserError if the stamps cannot be cut so, or are too small for the network.
    """
    count = None if channels is None else len(channels)
    shape = channels_last(Path(ARRAY), arrays["stamps"], count).shape
    check_side(shape[1], crop or shape[1])
    names = list(channels or channel_names(shape[3]))
    planned = Config(arch, crop or shape[1], names, classes=classes)
    planned.network()
    return planned


@contextmanager
def _new_folder(place: Path | None, arch: str) -> Iterator[Path]:
    """Make a run's folder, and remove it where its stamps are refused: but for one that was there before."""
    ours = place is None or not place.exists()
    folder = create_run_folder(place, arch)
    try:
        yield folder
    except BaseException:
        if ours:
            with suppress(OSError):  # it holds something: that is not thrown away
                folder.rmdir()
        raise


def _classes(names: Sequence[str] | None, candidate: str | None) -> Classes:
    if names is None and candidate is not None:
        raise UserError(f"candidate {candidate!r}: name all classes, too")
    return TWO if names is None else Classes.of(names, candidate)


def _check_paths(**paths: str | Path | None) -> None:
    """Raise UserError for one that is given and names no folder."""
    for name, path in paths.items():
        if not isinstance(path, str | Path | None):
            raise UserError(f"{name} {path!r}: give the path of a folder")


def _check_numbers(seed: int, crop: int | None, freeze: int) -> None:
    """Raise UserError for one that is no whole number, or negative."""
    for name, value in (("seed", seed), ("crop", crop or 0), ("freeze", freeze)):
        if not isinstance(value, Integral) or value < 0:
            raise UserError(f"{name} {value!r}: give a whole number, 0 or more")


def _check_channels(channels: Sequence[str] | None) -> None:
    """Raise UserError for channels without names of their own."""
    if channels is None:
        return
    named = isinstance(channels, Sequence | np.ndarray) and not isinstance(channels, str)
    if not named or len(set(channels)) < len(channels) or not all(isinstance(one, str) for one in channels):
        raise UserError(f"channels {channels!r}: give a list in which every channel has a name of its own")


def _schedule(schedule: str | Schedule | None, init_from: str | Path | None) -> Schedule:
    if isinstance(schedule, Schedule):
        return schedule
    schedule = finetuning.schedule_name(schedule, init_from)
    if schedule not in SCHEDULES:
        raise UserError(f"schedule {schedule!r} is not known; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[schedule]


def _train(k: Kernels, config: Config, folder: Path, store: StampStore) -> None:
    """Train to the protocol's end, and test."""
    data = trials.check(store, config)
    for note in data.notes:
        _log.warning(note)
    with locks.held(folder):
        run = training.begin(k, config, folder)
        training.prepare(run)
        trials.train_to_end(run, data, config, _Log(folder))
    if warning := trials.one_sided(trials.test(k, folder, data)):
        _log.warning("%s: %s", folder, warning)


class _Log:
    """Tells each validation to the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stepped(self, row: Row, limit: int) -> None:
        """Nothing: a line for every few iterations would be too much."""

    def validated(self, row: Row, progress: Progress) -> None:
        """A validation."""
        text = "%s: iteration %d of %d, validation error %.3f%%"
        _log.info(text, self._folder, row.iteration, progress.limit, 100 * (row.validation_error or 0.0))
