"""Fine-tuning: a run that begins with the weights of another run, and may keep those of the first layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.runs.folder import Config, read_config
from rotinv.runs.model import Model, load_model, weights_digest
from rotinv.system.errors import UserError


def architecture(arch: str | None, init_from: str | Path | None) -> str:
    """The architecture asked for; by default that of the run whose weights are taken, or CAP."""
    if arch is not None:
        return arch
    return "cap" if init_from is None else read_config(init_from).arch


def schedule_name(schedule: str | None, init_from: str | Path | None) -> str:
    """The schedule asked for; by default "finetune" if the weights are those of another run, else "quick"."""
    return schedule or ("quick" if init_from is None else "finetune")


def begun_with(config: Config, init_from: str | Path | None, freeze: int) -> Config:
    """`config` for a run that begins with the weights of the run `init_from`, or with random ones if that is
    None.

    The first `freeze` layers with weights keep them. Raises UserError if the run cannot be read, if its
    channels or the shapes of its layers differ, or if no layer is left to train.
    """
    if init_from is None:
        if freeze:
            raise UserError(
                f"--freeze {freeze}: fresh weights are not worth keeping; name a run whose weights to begin "
                "with by --init-from RUN"
            )
        return config
    model = load_model(init_from)
    network = config.network()
    _weights(model, config, network)
    if freeze >= len(network.weighted):
        raise UserError(
            f"--freeze {freeze}: {config.arch} has {len(network.weighted)} layers with weights, of which one "
            "at least must be trained"
        )
    whence = str(Path(init_from).resolve())
    return replace(config, init_from=whence, init_sha256=weights_digest(model), freeze=freeze)


def initial(config: Config, network: Network) -> np.ndarray:
    """The initial parameters of a run: drawn from its seed, or those of another run.

    Raises UserError if that run is gone, or has other weights than when this one was configured.
    """
    if not config.init_from:
        return network.initial(config.init, config.seed)
    model = load_model(config.init_from)
    if weights_digest(model) != config.init_sha256:
        raise UserError(
            f"{config.init_from}: has other weights by now than those that the run was to begin with; "
            "begin another run"
        )
    return _weights(model, config, network)


def _weights(model: Model, config: Config, network: Network) -> np.ndarray:
    """The weights of `model` as those of `network`. Raises UserError if they do not fit."""
    theirs, ours = model.config, config
    if theirs.channels != ours.channels:
        raise UserError(
            f"{model.name}: was trained on the channels {', '.join(theirs.channels)}; the stamps have "
            f"{', '.join(ours.channels)}"
        )
    if theirs.arch == ours.arch and theirs.size != ours.size and model.params.size != network.size:
        raise UserError(
            f"{model.name}: was trained on {theirs.size}x{theirs.size} stamps, not {ours.size}x{ours.size}; "
            f"larger ones are cut by --crop {theirs.size}"
        )
    return checkpoints.from_named(network, checkpoints.to_named(model.network, model.params), model.name)
