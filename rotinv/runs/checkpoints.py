"""Checkpoints: HDF5 files with the weights under params/ and the run's progress, whole or absent.

They hold no times of day: a run that is repeated writes the same weights and attributes.

Weights have names, LAYER/ARRAY: conv1/w, conv1/b, …, dense1/w, …, counted from the input; w of a convolution
is (height, width, in, out), of a dense layer (in, out). The paper's authors write CNN1/W and FC1/B for
conv1/w and dense1/b.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from rotinv.nn.linear import Conv2d
from rotinv.nn.network import Network
from rotinv.runs.protocol import Progress
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import create_hdf5, open_hdf5, reading_hdf5

FORMAT = "rotinv-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """The parameters (flat, on the host) after `iteration` steps, and the protocol's progress."""

    params: np.ndarray
    iteration: int
    progress: Progress


def save(path: str | Path, network: Network, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, in place of the last one. Raises UserError if the disk does not take it."""
    progress = json.dumps(asdict(checkpoint.progress))
    with create_hdf5(path, overwrite=True) as file:
        file.attrs["format"] = FORMAT
        file.attrs["iteration"] = checkpoint.iteration
        file.attrs["progress"] = progress
        file.attrs["sha256"] = _digest(checkpoint.params, checkpoint.iteration, progress)
        for name, array in to_named(network, checkpoint.params).items():
            file[f"params/{name}"] = array


def load(path: str | Path, network: Network) -> Checkpoint:
    """Read a checkpoint of `network`. Raises UserError if it is damaged or of another network."""
    params = load_params(path, network)
    with open_hdf5(path) as file, reading_hdf5(path):
        if file.attrs["format"] != FORMAT:
            raise ValueError(f"its format is {file.attrs['format']!r}, not {FORMAT!r}")
        progress = Progress(**json.loads(file.attrs["progress"]))
        return Checkpoint(params, int(file.attrs["iteration"]), progress)


def load_params(path: str | Path, network: Network) -> np.ndarray:
    """The flat parameters of a checkpoint, float64.

    Raises UserError if they are of another network, or differ from those that were saved. Older files have no
    `sha256`, and are not checked for that.
    """
    params = from_named(network, read_named(path), str(path))
    with open_hdf5(path) as file, reading_hdf5(path):
        if "sha256" in file.attrs:
            digest = _digest(params, int(file.attrs["iteration"]), file.attrs["progress"])
            if digest != file.attrs["sha256"]:
                raise ValueError("its bytes are not those that were saved")
    return params


def _digest(params: np.ndarray, iteration: int, progress: str) -> str:
    """The SHA-256 of everything that a checkpoint holds."""
    digest = hashlib.sha256(np.asarray(params, np.float64).tobytes())
    digest.update(f"{int(iteration)} {progress}".encode())
    return digest.hexdigest()


_AUTHORS = re.compile(r"(?P<kind>CNN|FC)(?P<number>\d+)/(?P<array>[WB])")


def names(network: Network) -> list[dict[str, str]]:
    """For each layer, the full name of each of its arrays."""
    counts = {"conv": 0, "dense": 0}
    result = []
    for layer, shapes in zip(network.layers, network.param_shapes, strict=True):
        kind = "conv" if isinstance(layer, Conv2d) else "dense"
        counts[kind] += bool(shapes)
        result.append({array: f"{kind}{counts[kind]}/{array}" for array in shapes})
    return result


def to_named(network: Network, params: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters by name (views)."""
    pairs = zip(names(network), network.views(params), strict=True)
    return {name: views[array] for layer, views in pairs for array, name in layer.items()}


def from_named(network: Network, arrays: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """The flat parameters, float64, from arrays by name: rotinv's names or the paper's authors'.

    `source` names them in messages. Raises UserError if an array is missing, has another shape than the
    network wants, holds NaN or infinity, or belongs to no layer.
    """
    arrays = {_our_name(name): array for name, array in arrays.items()}
    params = np.empty(network.size)
    wanted = to_named(network, params)
    for name, view in wanted.items():
        if name not in arrays:
            raise UserError(f"{source}: has no weights {name}; it is of another architecture")
        array = np.asarray(arrays[name])
        if array.shape != view.shape:
            raise UserError(
                f"{source}: {name} has shape {array.shape}, the network wants {view.shape}; "
                "it is of another architecture, stamp size or number of channels"
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(f"{source}: {name} holds values that are not finite numbers")
        view[...] = array
    if extra := sorted(set(arrays) - set(wanted)):
        raise UserError(f"{source}: {extra[0]} belongs to no layer of the network")
    return params


def read_named(path: str | Path) -> dict[str, np.ndarray]:
    """The weights of an HDF5 file by name: those under `params`, or else all that are named LAYER/ARRAY.

    Raises UserError if the file cannot be read or holds none.
    """
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and re.fullmatch(r"(conv|dense)\d+/[wb]", _our_name(name)):
            arrays[name] = item[()]

    with open_hdf5(path) as file, reading_hdf5(Path(path)):
        file.get("params", file).visititems(visit)
    if not arrays:
        raise UserError(f"{path}: holds no weights (params/conv1/w, … or CNN1/W, …)")
    return arrays


def _our_name(name: str) -> str:
    match = _AUTHORS.fullmatch(name)
    if match is None:
        return name
    kind = {"CNN": "conv", "FC": "dense"}[match["kind"]]
    return f"{kind}{match['number']}/{match['array'].lower()}"
