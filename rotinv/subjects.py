"""What the programs that look at stamps through trained networks share: both, and that they fit together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotinv import runs
from rotinv.errors import UserError
from rotinv.pixels import prepare
from rotinv.runs import Model
from rotinv.splits import Split
from rotinv.stamps import open_stamps

CLASSES = ("artifact", "candidate")  # by label


def open_models(folders: Sequence[Path]) -> list[Model]:
    """The networks of runs, with their best weights.

    Raises UserError if one cannot be read, or unless all read the same stamps in the same way.
    """
    models = [runs.load_model(folder) for folder in folders]
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


def open_for(model: Model, path: Path, split: str) -> Split:
    """The stamps at `path` for a network. Raises UserError if they are not what it was trained on."""
    config = model.config
    whole = config.size if config.crop is None else None  # a model of cut stamps takes any that it can cut
    stamps = open_stamps(path, split, channels=len(config.channels), size=whole)
    if stamps.channels is not None and list(stamps.channels) != config.channels:
        raise UserError(
            f"{path}: has the channels {', '.join(stamps.channels)}; {model.name} was trained "
            f"on {', '.join(config.channels)}: order and name them alike"
        )
    return stamps


def chosen(split: Split, indices: Sequence[int]) -> NDArray[np.int64]:
    """The indices, each within the split. Raises UserError naming the first that is not."""
    for index in indices:
        if not 0 <= index < len(split):
            raise UserError(
                f"{split.path}: has no stamp {index} in '{split.name}'; the indices are 0 to {len(split) - 1}"
            )
    return np.array(indices, dtype=np.int64)


def as_read(model: Model, split: Split, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """The stamps (n, h, h, c) at `indices` as the network reads them: cut, and scaled to 0-1.

    Raises UserError if a pixel of them is not finite.
    """
    stamps, _ = prepare(split.raw(indices), split.normalisation, model.config.size)
    bad = indices[~np.isfinite(stamps).reshape(len(stamps), -1).all(axis=1)]
    if len(bad):
        raise UserError(f"{split.path}: stamp {bad[0]} of '{split.name}' has NaN or infinite pixels")
    return stamps


def spelled(channel: str) -> str:
    """A channel's name for readers."""
    return channel.replace("snr_", "SNR ").replace("_", " ")
