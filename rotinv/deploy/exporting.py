"""Exports of trained networks: the file's formats, and what each says of the networks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.deploy import onnx_graph, safetensors_files, torch_module
from rotinv.runs import calibrated, checkpoints, kept, thresholds
from rotinv.runs.model import Model, unique_names, weights_digest
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole
from rotinv.system.version import __version__

FORMATS = ("onnx", "safetensors", "torch")
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt"}
_NORMALISATION = "(x - min) / (max - min) of each channel of each stamp; constant channels 0"


def about(folders: Sequence[str | Path], models: Sequence[Model], licence: str) -> dict[str, str]:
    """What an export says of its networks, as texts by name.

    `thresholds` and `calibrator` are JSON, of the network or of the vote, where evaluate has kept them.
    """
    config, names = models[0].config, unique_names(models)
    found = {
        "format": "rotinv-export-1",
        "models": ",".join(names),
        "channels": ",".join(config.channels),
        "size": str(config.size),
        "crop": "" if config.crop is None else str(config.crop),
        "classes": ",".join(config.classes.names),
        "candidate": config.classes.names[config.classes.candidate],
        "normalisation": _NORMALISATION,
        "version": __version__,
        "licence": licence,
    }
    for name, model in zip(names, models, strict=True):
        own = {"arch": model.config.arch, "sha256": weights_digest(model)}
        found |= {f"{name}/{key}": text for key, text in own.items()}
        if len(models) == 1:
            found |= own
    for key, file in (("thresholds", thresholds.FILE), ("calibrator", calibrated.FILE)):
        entry = kept.find(file, folders, models)
        found[key] = json.dumps(entry[key]) if entry and key in entry else ""
    return found


def write(
    kind: str,
    path: str | Path,
    folders: Sequence[str | Path],
    models: Sequence[Model],
    licence: str,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write networks in one of FORMATS; gives the files that were written.

    Raises UserError for several networks in a format of one, for a suffix that says another format, and if a
    file exists already or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIXES[kind]:
        raise UserError(f"{path}: --format {kind} is written to a file named {SUFFIXES[kind]}")
    if len(models) > 1 and kind != "onnx":
        raise UserError(f"--format {kind} holds one network; several are one graph as --format onnx")
    refuse_existing(path, overwrite)
    texts = about(folders, models, licence)
    if kind == "onnx":
        made = onnx_graph.build(models, unique_names(models), texts)
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(made.SerializeToString(deterministic=True))
        return [path]
    (model,) = models
    if kind == "safetensors":
        arrays = checkpoints.to_named(model.network, _narrowed(model.params))
        safetensors_files.write(path, arrays, texts, overwrite=overwrite)
        return [path]
    return _torch(path, model, overwrite)


def _torch(path: Path, model: Model, overwrite: bool) -> list[Path]:
    """A state dict, and beside it the module that reads it."""
    module = path.with_suffix(".py")
    refuse_existing(module, overwrite)
    torch_module.write(path, torch_module.state_dict(model.network, model.params), overwrite=overwrite)
    with written_whole(module, overwrite=overwrite) as temporary:
        temporary.write_text(torch_module.source(model, path.name), encoding="utf-8")
    return [path, module]


def _narrowed(params: NDArray[Any]) -> NDArray[Any]:
    """Parameters as float32 where that keeps every bit, as of networks that were trained in it."""
    narrow = np.float32(params)
    return narrow if np.array_equal(narrow, params) else np.float64(params)
