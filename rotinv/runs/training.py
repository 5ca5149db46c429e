"""Training: forward, cross-entropy, backward, one step of SGD; validations and checkpoints.

A run depends only on its configuration and its data: batches come from (seed, step), dropout from (seed,
step, layer, index). So a run that is resumed from any checkpoint ends with the same bits.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network
from rotinv.runs import checkpoints, finetuning, history, predictions, steps
from rotinv.runs.batches import Batch
from rotinv.runs.checkpoints import Checkpoint
from rotinv.runs.folder import BEST_FILE, HISTORY_FILE, LAST_FILE, Config, write_config
from rotinv.runs.history import Row
from rotinv.runs.protocol import Progress, Schedule
from rotinv.stamps.splits import Split
from rotinv.system import files
from rotinv.system.errors import UserError

HISTORY_EVERY = 20  # iterations between rows of the history
CHECKPOINT_EVERY = 10.0  # seconds between checkpoints, at most


class Observer(Protocol):
    """Is told how a run goes: a program's progress bar, or a log."""

    def stepped(self, row: Row, limit: int) -> None: ...
    def validated(self, row: Row, progress: Progress) -> None: ...


@dataclass
class Run:
    """A run under way: the parameters and gradients on the device, and how far it has come.

    `arithmetic` is a training step as the device repeats it (on a GPU as one graph).
    """

    k: Kernels
    network: Network
    schedule: Schedule
    seed: int
    folder: Path
    params: Array
    grads: Array
    iteration: int
    progress: Progress
    frozen: int = 0  # how many of the first layers with weights keep them
    class_weights: Sequence[float] = (1.0, 1.0)  # of the loss of a stamp of each class, by its label
    seconds: float = 0.0
    arithmetic: Callable[..., Array] = field(init=False)
    at_once: int = field(init=False)  # how many steps are repeated together

    def __post_init__(self) -> None:
        self.at_once = self.k.steps_at_once
        weight = self.k.asarray(self.class_weights)
        self._parts = self.k, self.network, self.params, self.grads, weight, self.frozen
        self.arithmetic = self.k.repeated(partial(steps.one, *self._parts))

    def repeated_steps(self, take: Callable[[Array], Array]) -> Callable[..., list[Array]]:
        """Several training steps as the device repeats them; `take` makes stamps of a batch."""
        return self.k.repeated(partial(steps.several, *self._parts, take))

    def checkpoint(self) -> Checkpoint:
        """The run's state on the host."""
        return Checkpoint(self.k.to_host(self.params), self.iteration, self.progress)


def begin(k: Kernels, config: Config, folder: str | Path) -> Run:
    """A new run with its initial parameters; writes its configuration, history and first checkpoint.

    Raises UserError if they should be those of another run that now has other weights.
    """
    folder = Path(folder)
    network = config.network()
    params = finetuning.initial(config, network)
    run = _run(k, config, folder, network, Checkpoint(params, 0, Progress(config.schedule.iterations)))
    write_config(folder, config)
    history.restart(folder / HISTORY_FILE, [])
    checkpoints.save(folder / LAST_FILE, network, run.checkpoint())
    return run


def resume(k: Kernels, config: Config, folder: str | Path) -> Run:
    """The run in `folder` as of its last checkpoint; later rows of its history are dropped."""
    folder = Path(folder)
    if not (folder / LAST_FILE).exists():
        _check_unbegun(folder)
        return begin(k, config, folder)
    files.remove_abandoned(folder)
    network = config.network()
    run = _run(k, config, folder, network, checkpoints.load(folder / LAST_FILE, network))
    rows = [row for row in history.read(folder / HISTORY_FILE) if row.iteration <= run.iteration]
    history.restart(folder / HISTORY_FILE, rows)
    run.seconds = rows[-1].seconds if rows else 0.0
    return run


def _check_unbegun(folder: Path) -> None:
    """Raise UserError unless the run was killed before its first checkpoint: only then has it nothing to
    lose."""
    path = folder / HISTORY_FILE
    if (folder / BEST_FILE).exists() or (path.exists() and history.read(path)):
        raise UserError(
            f"{folder / LAST_FILE}: no such file, so the run cannot go on; begin another with --out"
        )


def step(run: Run, stamps: Array, label: Array) -> Array:
    """One step of SGD on a batch. Returns each stamp's cross-entropy, an array on the device that the next
    step overwrites.

    The losses stay on the device, since copying them back would make the GPU wait.
    """
    rate = run.schedule.learning_rate(run.iteration)
    batch = run.k.asarray(stamps), run.k.asindex(label)
    loss = run.arithmetic(*batch, run.seed, run.iteration, rate)
    run.iteration += 1
    return loss


def _take_steps(
    run: Run,
    several: Callable[..., list[Array]],
    batches: Sequence[Batch],
    take: Callable[[Array], Array],
) -> Iterator[Array]:
    """Steps of SGD on batches; gives each loss as `step` does.

    Where there are several they are taken all at once by run.repeated_steps. If the device has no memory for
    that, they are taken one by one from then on; the bits are the same.
    """
    if len(batches) > 1:
        before = run.params.copy()  # some steps are done before the memory fails
        try:
            return iter(_at_once(run, several, batches))
        except MemoryError:
            run.params[:] = before
            run.at_once = 1
    return (step(run, take(stamps), label) for stamps, label in batches)


def _at_once(run: Run, several: Callable[..., list[Array]], batches: Sequence[Batch]) -> list[Array]:
    stamps, label = (np.stack([batch[i] for batch in batches]) for i in (0, 1))
    moved = run.k.asindex(stamps) if stamps.dtype.kind == "i" else run.k.asarray(stamps)
    iterations = list(range(run.iteration, run.iteration + len(batches)))
    rates = [run.schedule.learning_rate(iteration) for iteration in iterations]
    losses: list[Array] = several(moved, run.k.asindex(label), run.seed, iterations, rates)
    run.iteration += len(batches)
    return losses


def warm_up(run: Run) -> None:
    """Take a step on blank stamps and undo it, so that everything that is compiled at its first use is
    compiled now."""
    trial = replace(run, params=run.params.copy(), grads=run.grads.copy())
    stamps = np.zeros((run.schedule.batch, *run.network.in_shape), np.float32)
    run.k.to_host(step(trial, stamps, np.zeros(run.schedule.batch, np.int32)))
    predictions.class_probabilities(run.k, run.network, run.params, stamps)


def fits(run: Run) -> bool:
    """Whether the device has the memory for a step. Warms up. If it does not fit, the memory is free
    again."""
    try:
        warm_up(run)
    except MemoryError:
        return False
    return True


def largest_batch(run: Run) -> int:
    """The largest half, quarter, … of the batch for which the device has the memory; 0 if there is none."""
    batch = run.schedule.batch // 2
    while batch and not fits(replace(run, schedule=replace(run.schedule, batch=batch))):
        batch //= 2
    return batch


def prepare(run: Run) -> None:
    """Compile the kernels before the clock starts. Raises UserError if the batch does not fit in the
    memory."""
    if not fits(run):
        batch, fitting = run.schedule.batch, largest_batch(run)
        remedy = f"{fitting} does" if fitting else "nor does any smaller one"
        raise UserError(f"--batch {batch} does not fit in the memory of {run.k.device}; {remedy}")


def run_iterations(
    run: Run,
    batches: Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]],
    validation: Callable[[Array], float],
    observer: Observer,
    stopped: Callable[[], bool] = lambda: False,
    take: Callable[[Array], Array] = lambda stamps: stamps,
) -> bool:
    """Train to the protocol's end, or until `stopped()`. Returns whether the end was reached.

    `batches` gives the batch of each step from run.iteration on, with schedule.batch stamps each, which
    `take` brings to the device; `validation` gives the error of parameters. Losses are checked, and the run
    is stopped and saved, only where the history has a row; so the rows do not depend on where it was stopped.

    Raises UserError if the loss is not finite any more, or if the disk does not take a checkpoint.
    """
    losses = run.k.zeros((HISTORY_EVERY, run.schedule.batch))  # copied back together: each copy costs a wait
    taken = 0  # steps since the last row
    saved = time.monotonic()
    stream, several = iter(batches), run.repeated_steps(take)
    while run.iteration < run.progress.limit and (taken or not stopped()):
        started = time.perf_counter()
        some = [next(stream) for _ in range(run.at_once if _until_row(run) >= run.at_once else 1)]
        for loss_of_step in _take_steps(run, several, some, take):
            losses[taken] = loss_of_step
            taken += 1
        due = _validation_due(run)
        row_due = due or run.iteration % HISTORY_EVERY == 0
        loss = _mean_loss(run, losses[:taken]) if row_due else 0.0
        run.seconds += time.perf_counter() - started
        if row_due:
            _record(run, loss, validation if due else None, observer)
            taken = 0
        if due or (taken == 0 and time.monotonic() - saved > CHECKPOINT_EVERY):
            checkpoints.save(run.folder / LAST_FILE, run.network, run.checkpoint())
            saved = time.monotonic()
    checkpoints.save(run.folder / LAST_FILE, run.network, run.checkpoint())
    return run.iteration >= run.progress.limit


def validation_error(
    k: Kernels,
    network: Network,
    params: Array,
    split: Split,
    indices: NDArray[np.int64],
    side: int | None,
    balanced: bool = False,
) -> float:
    """The share of the stamps at `indices` that the network gets wrong; if `balanced`, the mean of the shares
    of all classes.

    Where one class has few stamps, a network that never predicts it has a small share of all wrong: hence
    `balanced`.
    """
    assert split.label is not None  # a store's splits have labels
    label = split.label[indices]
    p = predictions.score_split(k, network, params, split, indices, side)
    wrong = split.classes.decide(p) != label
    parts = [wrong[label == number] for number in np.unique(label)] if balanced else [wrong]
    return float(np.mean([part.mean() for part in parts]))


def _run(k: Kernels, config: Config, folder: Path, network: Network, start: Checkpoint) -> Run:
    return Run(
        k,
        network,
        config.schedule,
        config.seed,
        folder,
        params=k.asarray(start.params),
        grads=k.zeros((network.size,)),
        iteration=start.iteration,
        progress=start.progress,
        frozen=config.freeze,
        class_weights=config.class_weights,
    )


def _until_row(run: Run) -> int:
    """How many steps there are to the next row of the history."""
    ends = (every - run.iteration % every for every in (HISTORY_EVERY, run.schedule.validate_every))
    return min(*ends, run.progress.limit - run.iteration)


def _validation_due(run: Run) -> bool:
    return run.iteration % run.schedule.validate_every == 0 or run.iteration == run.progress.limit


def _mean_loss(run: Run, losses: Array) -> float:
    """The mean loss of the last steps, one row each. Raises UserError if any is not finite."""
    means = [float(loss.mean()) for loss in run.k.to_host(losses)]
    if not np.isfinite(means).all():
        first = int(np.argmin(np.isfinite(means)))
        iteration = run.iteration - len(means) + first + 1
        raise UserError(
            f"{run.folder}: the loss is {means[first]} at iteration {iteration}: it diverged; "
            f"try a --rate below {run.schedule.rate:g}"
        )
    return float(np.mean(means))


def _record(run: Run, loss: float, validation: Callable[[Array], float] | None, observer: Observer) -> None:
    """Add a row to the history; after a validation, let the protocol decide and keep the best weights."""
    error = None if validation is None else validation(run.params)
    rate = run.schedule.learning_rate(run.iteration - 1)
    row = Row(run.iteration, run.seconds, loss, rate, error)
    if error is not None:
        run.progress = run.progress.validated(run.schedule, run.iteration, error)
        if run.progress.best_iteration == run.iteration:
            checkpoints.save(run.folder / BEST_FILE, run.network, run.checkpoint())
        observer.validated(row, run.progress)
    history.append(run.folder / HISTORY_FILE, row)
    observer.stepped(row, run.progress.limit)
