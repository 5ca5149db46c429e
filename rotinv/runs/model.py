"""A trained network as a Model: loading it, and the stamps that fit it. predictions.py has its scores."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.runs.folder import BEST_FILE, Config, read_config, write_config
from rotinv.stamps.classes import Classes
from rotinv.stamps.opening import open_stamps
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import Split, bad_pixels
from rotinv.system.errors import UserError


def verdict(classes: Classes, predicted: int, probability: float, threshold: float | None = None) -> str:
    """The predicted class by name. Where p(candidate) is the threshold itself, or of two classes both are as
    probable, it is named a tie."""
    limit = 0.5 if threshold is None and len(classes) == 2 else threshold
    return f"{classes.names[predicted]} (a tie)" if probability == limit else classes.names[predicted]


def at_threshold(threshold: float | None) -> str:
    """What is said beside a p(candidate) of the threshold, where a class goes by one."""
    return "" if threshold is None else f" (threshold {threshold:.4g})"


def check_finite(who: str, what: str, *arrays: NDArray) -> None:
    """Raise UserError, naming whose they are and what, if any of the numbers is NaN or infinite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(
            f"{who}: its {what} are not numbers: the training diverged (try a smaller --rate), or the "
            "weights are damaged"
        )


@dataclass(frozen=True)
class Model:
    """A trained network: its parameters are on the host.

    With a `threshold` it calls a stamp a candidate from that p(candidate) on, in place of the most probable
    class.
    """

    name: str
    config: Config
    network: Network
    params: np.ndarray
    threshold: float | None = None


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

    Raises UserError if one cannot be read or is named twice, or unless all read the same stamps in the same
    way.
    """
    met: set[Path] = set()
    for folder in map(Path, folders):
        if folder.resolve() in met:
            raise UserError(f"{folder}: is named twice; name each run once, for a network has one vote")
        met.add(folder.resolve())
    models = [load_model(folder) for folder in folders]
    first = models[0]
    for model in models[1:]:
        for what in ("size", "channels", "classes"):
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
    channels, classes = len(model.config.channels), model.config.classes
    found = open_stamps(path, split, channels=channels, size=whole_size(model), classes=classes)
    return fit_split(model, found)


def whole_size(model: Model) -> int | None:
    """The side that stamps must have for a network; None where it cuts them itself to what it was trained
    on."""
    return model.config.size if model.config.crop is None else None


def fit_split(model: Model, stamps: Split) -> Split:
    """Open stamps with the channels and the side that a network reads, and without labels of other classes
    than its own.

    Raises UserError if they lack a channel.
    """
    stamps = replace(stamps, side=model.config.size)
    if stamps.classes != model.config.classes:
        stamps = replace(stamps, label=None, classes=model.config.classes)
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
        raise UserError(f"{split.path}: stamp {bad[0]} of '{split.name}' has {bad_pixels(split, bad)}")
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
