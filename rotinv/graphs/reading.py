"""Reads a network from an ONNX file, and refuses what is damaged or reaches outside its folder.

Nothing in the file is run. Weights that lie beside it (external data, as PyTorch's exporter writes them) are
read from the file's own folder only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line, read_errors

OLDEST_OPSET = 7  # before it, operators took what are inputs now as attributes, and broadcast otherwise
_ENDING = ".onnx"


def is_onnx(path: str | Path) -> bool:
    """Whether a path is that of a network in ONNX, judged by its name."""
    return Path(path).suffix.lower() == _ENDING


def read_onnx(path: str | Path) -> Any:
    """The ModelProto of a file, checked, with all weights in it and its own functions put in their places.

    Raises UserError for a file that is missing, may not be read, is damaged or no ONNX file, for weights
    outside its folder, and for versions that are not known. Needs the extra `onnx`.
    """
    path = Path(path)
    onnx = require_extra("onnx", "onnx", path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    with read_errors(path):
        path.open("rb").close()
    try:
        model = onnx.load(path, load_external_data=False)
        _check_versions(onnx, path, model)
        _load_external(onnx, path, model)
        onnx.checker.check_model(model)
        inliner = require_extra("onnx.inliner", "onnx", path)
        return inliner.inline_local_functions(model) if model.functions else model
    except UserError:
        raise
    except Exception as error:  # protobuf, the checker and NumPy each have their own
        raise UserError(f"{path}: is damaged, or is no ONNX file ({first_line(error)})") from error


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def metadata_of(model: Any) -> dict[str, str]:
    """The texts that whoever exported a model put into it."""
    return {entry.key: entry.value for entry in model.metadata_props}


def only_input(path: str | Path, model: Any) -> Any:
    """The description of the one array that a model reads. Raises UserError if there are others."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise UserError(f"{path}: has the inputs {names}; wanted is one, the stamps")
    return inputs[0]


def input_shape(path: str | Path, model: Any) -> tuple[int | None, ...]:
    """The shape (n, c, h, w) that a model reads; None where it takes any extent.

    Raises UserError if it reads several arrays, or another than images.
    """
    dims = only_input(path, model).type.tensor_type.shape.dim
    shape: tuple[int | None, ...] = tuple(one.dim_value if one.dim_value > 0 else None for one in dims)
    if len(shape) != 4:
        raise UserError(f"{path}: reads arrays of {len(shape)} axes; only images (n, c, h, w) are audited")
    return shape


def batch_of(path: str | Path, model: Any) -> int:
    """How many stamps a model reads at once: 1 where it takes any number."""
    return input_shape(path, model)[0] or 1


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node by name, as Python's values."""
    value = require_extra("onnx.helper", "onnx", "a network in ONNX").get_attribute_value
    return {one.name: value(one) for one in node.attribute}


def constants_of(path: str | Path, model: Any) -> dict[str, NDArray[Any]]:
    """The arrays that a graph holds, by name: its initializers, and what its nodes Constant give.

    Raises UserError for a constant that is not understood.
    """
    to_array = require_extra("onnx.numpy_helper", "onnx", path).to_array
    evaluator = require_extra("onnx.reference", "onnx", path).ReferenceEvaluator
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    try:
        found = {one.name: to_array(one) for one in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                found[node.output[0]] = np.asarray(evaluator(node, opsets=opsets).run(None, {})[0])
    except Exception as error:  # each kind of constant has its own
        raise UserError(f"{path}: its constants are not understood ({first_line(error)})") from error
    return found


def _check_versions(onnx: Any, path: Path, model: Any) -> None:
    if not model.ir_version or not model.graph.node:
        raise UserError(f"{path}: is no ONNX file, or holds no network")
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UserError(
            f"{path}: is written for opset {opset}; onnx {onnx.__version__} knows {newest}: pip install -U "
            f"onnx, or export it with opset_version={newest}"
        )
    if opset < OLDEST_OPSET:
        raise UserError(
            f"{path}: is written for opset {opset}; {OLDEST_OPSET} is the oldest that is read: convert it by "
            "onnx.version_converter, or export it anew"
        )


def _load_external(onnx: Any, path: Path, model: Any) -> None:
    """Read weights that lie in other files. Raises UserError if one is not in the model's own folder."""
    helper = require_extra("onnx.external_data_helper", "onnx", path)
    folder = path.resolve().parent
    for tensor in _tensors(model.graph):
        if not helper.uses_external_data(tensor):
            continue
        location = helper.ExternalDataInfo(tensor).location
        data = folder / location
        if Path(location).is_absolute() or not data.resolve().is_relative_to(folder):
            raise UserError(f"{path}: its weights {tensor.name!r} are outside its folder, in {location}")
        if not data.is_file():
            raise UserError(
                f"{path}: its weights are in {location}, which is not there; keep the files together, or "
                "export with external_data=False"
            )
    onnx.load_external_data_for_model(model, str(folder))


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors that a graph holds, those of nodes and of graphs within it too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)
