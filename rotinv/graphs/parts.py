"""The part of a network that is audited, and what prepares its stamps.

A file may say in its metadata which of its values is the stamp that is explained (`audit_from`, else the
input) and which holds the logits or their softmax (`audit_to`, else the output). What lies before only
prepares stamps, as the scaling to 0-1 in what `rotinv export` writes: it is computed, and no relevance goes
into it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.reading import metadata_of
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line

FROM, TO = "audit_from", "audit_to"
Prepare = Callable[[NDArray[Any]], NDArray[Any]]  # of a stamp (c, h, w), to one that the network reads


def audited_part(path: str | Path, model: Any) -> tuple[Any, Prepare | None]:
    """The model from one value to the other, and what prepares stamps for it; None where nothing does.

    Raises UserError if the metadata name values that are not there.
    """
    metadata = metadata_of(model)
    start, end = metadata.get(FROM, ""), metadata.get(TO, "")
    made = {name for node in model.graph.node for name in node.output}
    for key, name in ((FROM, start), (TO, end)):
        if name and name not in made:
            raise UserError(f"{path}: its metadata say {key} {name!r}, and there is no such value")
    if not start and not end:
        return model, None
    end = end or model.graph.output[0].name
    (given,) = [one.name for one in model.graph.input][:1]
    inner = _between(path, model, start or given, end)
    return inner, _preparation(path, _between(path, model, given, start), given) if start else None


def _between(path: str | Path, model: Any, start: str, end: str) -> Any:
    """The model that reads the value `start` and gives the value `end`."""
    helper = require_extra("onnx.helper", "onnx", path)
    found = type(model)()
    found.CopyFrom(model)
    makers = {name: node for node in model.graph.node for name in node.output if name}
    wanted, todo = set(), [end]
    while todo:
        name = todo.pop()
        node = makers.get(name)
        if name != start and node is not None and id(node) not in wanted:
            wanted.add(id(node))
            todo += list(node.input)
    kept = [node for node in model.graph.node if id(node) in wanted]
    for entries in (found.graph.node, found.graph.input, found.graph.output, found.graph.value_info):
        del entries[:]
    found.graph.node.extend(kept)
    own = [one for one in model.graph.input if one.name == start]
    kind = model.graph.input[0].type.tensor_type.elem_type
    found.graph.input.extend(own or [helper.make_tensor_value_info(start, kind, ["n", "c", "h", "w"])])
    found.graph.output.append(helper.make_tensor_value_info(end, kind, None))
    return found


def _preparation(path: str | Path, model: Any, given: str) -> Prepare:
    """What prepares a stamp, by ONNX's own reference, in the type that the model reads."""
    onnx = require_extra("onnx", "onnx", path)
    evaluator = require_extra("onnx.reference", "onnx", path).ReferenceEvaluator(model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)

    def prepare(stamp: NDArray[Any]) -> NDArray[Any]:
        try:
            (found,) = evaluator.run(None, {given: stamp[None].astype(dtype)})
        except Exception as error:  # each operator has its own
            why = first_line(error)
            raise UserError(f"{path}: cannot prepare a stamp of {stamp.shape} ({why})") from error
        prepared: NDArray[Any] = np.asarray(found)[0]
        return prepared

    return prepare
