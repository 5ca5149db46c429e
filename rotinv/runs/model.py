"""A trained network as a Model: loading it, the stamps that fit it, and its scores.

Scores are p(candidate), block by block in flat memory, with the spread over the four rotations on request.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import ensembles
from rotinv.metrics.scores import Scores
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.runs.folder import BEST_FILE, Config, read_config, write_config
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import BLOCK, Split
from rotinv.stamps.store import open_stamps
from rotinv.system.errors import UserError

CLASS_NAMES = ("artifact", "candidate")  # by label
_VOTE = "majority"


def verdict(probability: float, threshold: float = 0.5) -> str:
    """The class of a p(candidate) by name; at the threshold itself it is a candidate, and named a tie."""
    name = CLASS_NAMES[int(probability >= threshold)]
    return f"{name} (a tie)" if probability == threshold else name


def check_finite(who: str, what: str, *arrays: NDArray) -> None:
    """Raise UserError, naming whose they are and what, if any of the numbers is NaN or infinite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(
            f"{who}: its {what} are not numbers: the training diverged (try a smaller --rate), or the "
            "weights are damaged"
        )


@dataclass(frozen=True)
class Model:
    """A trained network: its parameters are on the host."""

    name: str
    config: Config
    network: Network
    params: np.ndarray


def load_model(folder: str | Path) -> Model:
    """The network of a run with the weights of its best validation; `rotinv.load` gives a classifier of it.

    Parameters
    ----------
    folder : str or Path
        The run's folder.

    Returns
    -------
    Model
        With `network`, `params` (all weights in one array, float64, on the host), `config` and `name`.

    Raises
    ------
    UserError
        If the folder holds no run, or the weights are missing or damaged.

    Examples
    --------
    >>> import rotinv
    >>> model = rotinv.load_model("runs/cap-1")
    >>> model.name, model.config.channels, model.network.in_shape
    ('cap-1', ['difference'], (13, 13, 1))
    """
    folder = Path(folder)
    config = read_config(folder)
    network, path = config.network(), folder / BEST_FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; the run has not been validated yet")
    params = checkpoints.load_params(path, network)
    return Model(folder.resolve().name, config, network, params)


def open_models(folders: Sequence[str | Path]) -> list[Model]:
    """The networks of runs, with their best weights.

    Raises UserError if one cannot be read, or unless all read the same stamps in the same way.
    """
    models = [load_model(folder) for folder in folders]
    first = models[0]
    for model in models[1:]:
        for what in ("size", "channels"):
            one, other = getattr(first.config, what), getattr(model.config, what)
            if one != other:
                raise UserError(f"{model.name}: was trained with {what} {other}, {first.name} with {one}")
    return models


def unique_names(models: Sequence[Model]) -> list[str]:
    """The models' names; numbered where several are alike."""
    names = [model.name for model in models]
    return [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names, 1)]


def open_stamps_for(model: Model, path: str | Path, split: str | None = None) -> Split:
    """The stamps at `path` for a network; of a store, the channels that it reads, by their names.

    Raises UserError if they are not what it was trained on.
    """
    return fit_split(
        model, open_stamps(path, split, channels=len(model.config.channels), size=whole_size(model))
    )


def whole_size(model: Model) -> int | None:
    """The side that stamps must have for a network; None where it cuts them itself to what it was trained
    on."""
    return model.config.size if model.config.crop is None else None


def fit_split(model: Model, stamps: Split) -> Split:
    """Open stamps with the channels that a network reads. Raises UserError if they lack one."""
    if stamps.channels is None:
        return stamps
    try:
        return stamps.with_channels(model.config.channels)
    except UserError as error:
        raise UserError(f"{error}; {model.name} was trained on {', '.join(model.config.channels)}") from error


def check_indices(split: Split, indices: Sequence[int]) -> NDArray[np.int64]:
    """The indices, each within the split. Raises UserError naming the first that is not."""
    for index in indices:
        if not 0 <= index < len(split):
            raise UserError(
                f"{split.path}: has no stamp {index} in '{split.name}'; the indices are 0 to {len(split) - 1}"
            )
    return np.array(indices, dtype=np.int64)


def stamps_as_read(model: Model, split: Split, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """The stamps (n, h, h, c) at `indices` as the network reads them: cut, and scaled to 0-1.

    Raises UserError if a pixel of them is not finite.
    """
    stamps, _ = prepare(split.raw(indices), split.normalisation, model.config.size)
    bad = indices[~np.isfinite(stamps).reshape(len(stamps), -1).all(axis=1)]
    if len(bad):
        raise UserError(f"{split.path}: stamp {bad[0]} of '{split.name}' has NaN or infinite pixels")
    return stamps


def channel_title(channel: str) -> str:
    """A channel's name for readers."""
    return channel.replace("snr_", "SNR ").replace("_", " ")


def weights_digest(model: Model) -> str:
    """What tells a model's weights from others: the SHA-256 of its parameters as float32, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(model.params, np.float32).tobytes()).hexdigest()


def write_weights(folder: str | Path, config: Config, params: np.ndarray) -> None:
    """Make a run of weights from elsewhere: best.h5 and config.json, ready to score with.

    Raises UserError if the disk does not take them; the folder is then as it was.
    """
    folder = Path(folder)
    progress = checkpoints.Progress(limit=0)
    checkpoints.save(folder / BEST_FILE, config.network(), checkpoints.Checkpoint(params, 0, progress))
    try:
        write_config(folder, config)
    except UserError:
        (folder / BEST_FILE).unlink()
        raise


T = TypeVar("T")


def blocks_as_read(
    split: Split, indices: NDArray[np.int64], side: int | None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The stamps at `indices` as the network reads them (cut to `side`, normalised), a block at a time,
    each with the number of its constant channels."""
    for start in range(0, len(indices), BLOCK):
        yield prepare(split.raw(indices[start : start + BLOCK]), split.normalisation, side)


def score_split(
    k: Kernels,
    network: Network,
    params: Array,
    split: Split,
    indices: NDArray[np.int64],
    side: int | None,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.floating]:
    """p(candidate) of each stamp at `indices`; params on the device. `progress` is told of every block."""
    parts = []
    for stamps, _ in blocks_as_read(split, indices, side):
        parts.append(score_stamps(k, network, params, stamps))
        if progress:
            progress(len(stamps))
    return np.concatenate(parts) if parts else np.zeros(0)


def labelled_scores(
    k: Kernels,
    models: Sequence[Model],
    split: Split,
    indices: NDArray[np.int64],
    progress: Callable[[int], object] | None = None,
) -> dict[str, Scores]:
    """Each network's scores of the stamps at `indices`, by its name, and, of several, those of their vote.

    The stamps' labels, SNRs and kinds come with them, so that they can be evaluated. Raises UserError if the
    stamps have no labels.
    """
    if split.label is None:
        raise UserError(f"{split.path}: has no labels, and an evaluation needs them: add an array 'label'")
    each = {}
    for name, model in zip(unique_names(models), models, strict=True):
        own = k.asarray(model.params)
        each[name] = score_split(k, model.network, own, split, indices, model.config.size, progress)
    if len(models) > 1:
        each[f"{_VOTE} of {len(models)}"] = ensembles.majority(np.stack(list(each.values())))
    label = split.label[indices]
    snr = None if split.snr is None else split.snr[indices]
    kind = None if split.kind is None else split.kind[indices]
    return {name: Scores(label, p, snr, kind, split.kinds) for name, p in each.items()}


def score_stamps(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """p(candidate) of stamps (n, h, w, c) that are cut and normalised already.

    Raises UserError if any is not a number: the weights are not those of a network that learned.
    """

    def forward(batch: NDArray[np.float32]) -> NDArray:
        return _candidate_probability(k, network.forward(k, params, k.asarray(batch)))

    each = [np.zeros(0, k.dtype), *_batches(stamps, k.batch, forward)]
    return _checked(np.concatenate(each))


def score_with_rotation_std(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]
) -> tuple[NDArray, NDArray]:
    """p(candidate), and the std (ddof 0) over the four rotations of each one's own logit margin z_1 - z_0.

    The std (n,) tells how far the network would disagree with itself if the stamp were turned. Raises
    UserError as score_stamps does, whose bits these are.
    """
    each, spread = [np.zeros(0, k.dtype)], [np.zeros(0, k.dtype)]

    def forward(batch: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        logits, rotations = network.forward_rotations(k, params, k.asarray(batch))
        return _candidate_probability(k, logits), k.to_host(rotations)

    for p, z in _batches(stamps, k.batch, forward):
        each.append(p)
        spread.append((z[:, :, 1] - z[:, :, 0]).std(axis=0))
    return _checked(np.concatenate(each)), np.concatenate(spread)


def _checked(probability: NDArray) -> NDArray:
    check_finite("the network", "probabilities", probability)
    return probability


def _candidate_probability(k: Kernels, logits: Array) -> NDArray:
    return k.to_host(k.softmax.forward(logits))[:, 1]


def _batches(stamps: NDArray[np.float32], batch: int, score: Callable[[NDArray], T]) -> Iterator[T]:
    """What `score` gives for each batch. A stamp's score does not depend on those that it is scored with.

    A batch that the device has no memory for is halved, and so are those after it; MemoryError where not
    even one stamp fits.
    """
    start = 0
    while start < len(stamps):
        found = _unless_too_large(score, stamps[start : start + batch])
        if found is None:
            batch = min(batch, len(stamps) - start) // 2
        else:
            yield found
            start += batch


def _unless_too_large(score: Callable[[NDArray], T], stamps: NDArray[np.float32]) -> T | None:
    try:
        return score(stamps)
    except MemoryError:
        if len(stamps) == 1:
            raise
        return None
