"""Checkpoints: HDF5 files with the weights under params/ and where the run stood, whole or absent.

They hold no clock times: the same run writes the same weights and the same attributes again.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rotinv import weights
from rotinv.files import open_hdf5, reading_hdf5
from rotinv.hdf5 import create_hdf5
from rotinv.network import Network
from rotinv.protocol import Progress

FORMAT = "rotinv-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """The flat parameters (on the host) after `iteration` steps, and the protocol's progress."""

    params: np.ndarray
    iteration: int
    progress: Progress


def save(path: Path, network: Network, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the last one. Raises UserError if the disk does not take it."""
    progress = json.dumps(asdict(checkpoint.progress))
    with create_hdf5(path, overwrite=True) as file:
        file.attrs["format"] = FORMAT
        file.attrs["iteration"] = checkpoint.iteration
        file.attrs["progress"] = progress
        file.attrs["sha256"] = _digest(checkpoint.params, checkpoint.iteration, progress)
        for name, array in weights.to_named(network, checkpoint.params).items():
            file[f"params/{name}"] = array


def load(path: Path, network: Network) -> Checkpoint:
    """Read a checkpoint of `network`. Raises UserError if it is damaged or of another network."""
    params = load_params(path, network)
    with open_hdf5(path) as file, reading_hdf5(path):
        if file.attrs["format"] != FORMAT:
            raise ValueError(f"its format is {file.attrs['format']!r}, not {FORMAT!r}")
        progress = Progress(**json.loads(file.attrs["progress"]))
        return Checkpoint(params, int(file.attrs["iteration"]), progress)


def load_params(path: Path, network: Network) -> np.ndarray:
    """The flat parameters of a checkpoint, float64.

    Raises UserError if they are of another network, or not those that were saved (a file from before
    checkpoints had a `sha256` is taken as it is).
    """
    params = weights.from_named(network, weights.read_named(path), str(path))
    with open_hdf5(path) as file, reading_hdf5(path):
        if "sha256" in file.attrs:
            found = _digest(params, int(file.attrs["iteration"]), file.attrs["progress"])
            if found != file.attrs["sha256"]:
                raise ValueError("its bytes are not those that were saved")
    return params


def _digest(params: np.ndarray, iteration: int, progress: str) -> str:
    """The SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(np.asarray(params, np.float64).tobytes())
    digest.update(f"{int(iteration)} {progress}".encode())
    return digest.hexdigest()
