"""Makes a graph of layers from a network in ONNX.

Only what lies between the stamp and the output counts. What does not depend on the stamp (shapes, constants)
is computed at once, by ONNX's own reference; so is where an operator that only moves elements puts them: it
is applied to the elements' numbers.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.calls import Call, Made
from rotinv.graphs.folding import out_shape, scaled_params
from rotinv.graphs.graph import Graph, Node
from rotinv.graphs.layers import Inputs, Moves, Sums
from rotinv.graphs.operators import LAST, LAYERS, MOVES, PASSES
from rotinv.graphs.reading import metadata_of
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Shape
from rotinv.nn.network import numbered
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line
from rotinv.system.messages import counted


def build_graph(path: str | Path, model: Any, shape: Shape) -> Graph:
    """The graph of a model that read_onnx gave, for stamps of a shape (c, h, w).

    Raises UserError, naming the file and the node, for an operator that has no relevance pass, for a network
    of several inputs or outputs, and for stamps that it does not read.
    """
    try:
        builder = _Builder(Path(path), model)
        builder.add_input(shape)
        for node in builder.needed:
            builder.add(node)
        return builder.finished()
    except UserError:
        raise
    except (LookupError, ValueError, TypeError, ArithmeticError, MemoryError) as error:  # what damage does
        raise UserError(f"{path}: its parts do not fit together ({first_line(error)})") from error


class _Builder:
    """The graph so far.

    `fixed` are the values that do not depend on the stamp; `live` those that do, as they are of a stamp of
    zeros, which is there for the shapes only.
    """

    def __init__(self, path: Path, model: Any) -> None:
        self._onnx = require_extra("onnx", "onnx", path)
        self._path, self._model = path, model
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        to_array = self._onnx.numpy_helper.to_array
        self._fixed: dict[str, NDArray] = {one.name: to_array(one) for one in model.graph.initializer}
        self._live: dict[str, NDArray] = {}
        self._nodes: list[Node] = []
        self._folded: Counter[str] = Counter()
        self._input, self._output, self._link = _only_input(path, model).name, "", ""
        self.needed = self._needed()
        self._readers = Counter(name for node in self.needed for name in node.input)
        self._readers[self._output] += 1

    def add_input(self, shape: Shape) -> None:
        """Say what the graph reads."""
        batch = batch_of(self._path, self._model)
        self._live[self._input] = np.zeros((batch, *shape))

    def add(self, node: Any) -> None:
        """Add a node of ONNX, whose inputs are there already."""
        helper = self._onnx.helper
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        where = f"{self._path}: node {_called(node)}"
        live = {i: self._live[one].shape for i, one in enumerate(node.input) if one in self._live}
        fixed = {i: self._fixed[one] for i, one in enumerate(node.input) if one and i not in live}
        call = Call(node.op_type, where, attributes, live, fixed)
        if node.op_type in ("Shape", "Size") or not live:
            self._compute(call, node)
        elif node.domain not in ("", "ai.onnx") or node.op_type not in {*LAYERS, *MOVES, *PASSES}:
            raise _unknown(call, node)
        elif node.op_type in MOVES:
            self._add_moves(call, node)
        elif node.op_type in PASSES:
            self._add_pass(call, node)
        else:
            self._add_layer(call, node)

    def finished(self) -> Graph:
        """The graph, with a name for each layer."""
        out = self._live[self._output]
        batch, *shape = self._live[self._input].shape
        if out.ndim != 2 or len(out) != batch:
            raise UserError(f"{self._path}: its output has the shape {out.shape}; wanted is (n, classes)")
        told = [node for node in self._nodes if not node.layer.passes]
        names = iter(numbered([node.layer.name for node in told]))
        nodes = [node if node.layer.passes else replace(node, name=next(names)) for node in self._nodes]
        metadata = metadata_of(self._model)
        notes = [f"{counted(n, op)} folded into the layer before" for op, n in self._folded.items()]
        if self._link:
            notes.append(f"{self._link} at the end left out: logits are explained")
        return Graph(
            self._path.stem,
            tuple(nodes),
            batch,
            tuple(shape),
            self._input,
            self._output,
            out.shape[1],
            self._link,
            tuple(notes),
            metadata,
        )

    def _needed(self) -> list[Any]:
        """The nodes that the output depends on, in their order, without a softmax at the end."""
        makers = {name: node for node in self._model.graph.node for name in node.output if name}
        if len(self._model.graph.output) != 1:
            names = ", ".join(one.name for one in self._model.graph.output)
            raise UserError(
                f"{self._path}: has the outputs {names}; wanted is one, the logits: onnx.utils.extract_model "
                "cuts it out"
            )
        self._output = self._model.graph.output[0].name
        while (last := makers.get(self._output)) is not None and last.op_type in (*LAST, "Identity"):
            self._link = last.op_type if last.op_type in LAST else self._link
            self._output = last.input[0]
        wanted, todo = set(), [self._output]
        while todo:
            node = makers.get(todo.pop())
            if node is not None and id(node) not in wanted:
                wanted.add(id(node))
                todo += list(node.input)
        return [node for node in self._model.graph.node if id(node) in wanted]

    def _compute(self, call: Call, node: Any) -> None:
        """Values that do not depend on the stamp."""
        if node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
            raise _unknown(call, node)
        given = {one: self._live.get(one, self._fixed.get(one)) for one in node.input if one}
        found = self._evaluate(call, node, given)
        self._fixed.update(zip(node.output, found, strict=False))

    def _add_moves(self, call: Call, node: Any) -> None:
        """Elements put elsewhere: the operator puts their numbers, from 1 on, there; 0 is padding."""
        names = list(dict.fromkeys(node.input[place] for place in call.live))
        shapes = [self._live[name].shape for name in names]
        given: dict[str, NDArray] = {name: self._fixed[name] for name in node.input if name in self._fixed}
        first = 1
        for name, shape in zip(names, shapes, strict=True):
            given[name] = np.arange(first, first + math.prod(shape)).reshape(shape)
            first += math.prod(shape)
        if node.op_type == "Pad":
            given |= _pads_with_zeros(call, node, given)
        elif node.op_type == "Concat" and any(np.any(one) for one in call.fixed.values()):
            raise call.refuse("joins parts of the network with constants")
        if node.op_type == "Pad" and "pads" in call.attributes:  # before opset 11
            given["pads"] = np.array(call.attributes["pads"])
            mode = call.attributes.get("mode", b"constant")
            node = self._onnx.helper.make_node("Pad", [*names, "pads"], list(node.output), mode=mode)
        for output, numbers in zip(node.output, self._evaluate(call, node, given), strict=False):
            if numbers.dtype.kind != "i":
                raise call.refuse(f"gives {numbers.dtype}, not the elements of its input")
            if self._readers[output]:
                layer = Moves(Inputs(tuple(shapes)), numbers.astype(np.int64) - 1, MOVES[node.op_type])
                self._append(Made(layer, {}), names, output, _called(node))

    def _add_pass(self, call: Call, node: Any) -> None:
        """Operators that change nothing here: dropout, and casts among floating-point numbers."""
        if node.op_type == "Dropout" and np.any(call.fixed.get(2, False)):
            raise call.refuse("drops units at random; export the network after model.eval()")
        if node.op_type == "Cast":
            to = self._onnx.helper.tensor_dtype_to_np_dtype(call.attributes["to"])
            if np.dtype(to).kind in "iub":
                raise call.refuse(f"rounds to {to}, which has no relevance pass")
        self._only_first(call, node)
        (shape,) = call.live.values()
        numbers = np.arange(math.prod(shape)).reshape(shape)
        made = Made(Moves(Inputs((shape,)), numbers, node.op_type.lower()), {})
        self._append(made, [node.input[0]], node.output[0], _called(node))

    def _add_layer(self, call: Call, node: Any) -> None:
        if len(node.output) > 1 and node.op_type == "BatchNormalization":
            raise call.refuse("normalises by the batch itself; export the network after model.eval()")
        self._only_first(call, node)
        made = LAYERS[node.op_type](call)
        names = [name for place, name in enumerate(node.input) if place in call.live]
        if isinstance(made.layer, Sums) and made.layer.scales and self._fold(made, names[0], node):
            return
        self._append(made, names, node.output[0], _called(node))

    def _only_first(self, call: Call, node: Any) -> None:
        """Raise UserError if an output other than the first is read, as the places of MaxPool's winners."""
        for name in node.output[1:]:
            if name and self._readers[name]:
                raise call.refuse(f"its output {name} is read; only its first has a relevance pass")

    def _fold(self, made: Made, name: str, node: Any) -> bool:
        """Multiply a scaling into the layer before it, if only the scaling reads that layer."""
        place = next((i for i, one in enumerate(self._nodes) if one.output == name), None)
        if place is None or self._readers[name] > 1 or made.layer.inputs.shapes[0] != out_shape(made):
            return False
        before = self._nodes[place]
        params = scaled_params(before, made, len(out_shape(made)))
        if params is None:
            return False
        layer = before.layer
        if isinstance(layer, Sums):
            layer = replace(layer, biased=bool(np.any(params["b"])))
        self._nodes[place] = replace(before, layer=layer, params=params, output=node.output[0])
        w, b = made.params["w"][..., 0], made.params["b"]
        self._live[node.output[0]] = self._live.pop(name) * w + b
        self._folded[node.op_type] += 1
        return True

    def _append(self, made: Made, names: Sequence[str], output: str, node: str) -> None:
        joined = made.layer.inputs.join([self._live[name] for name in names])
        y, _ = made.layer.forward_signed(get_kernels("reference"), made.params, joined, True)
        self._live[output] = y
        self._nodes.append(Node("", node, made.layer, made.params, tuple(names), output, y.shape[1:]))

    def _evaluate(self, call: Call, node: Any, given: Mapping[str, Any]) -> list[NDArray]:
        """What ONNX's own reference makes of arrays."""
        evaluator = require_extra("onnx.reference", "onnx", call.where).ReferenceEvaluator
        try:
            opsets = self._opsets | ({"": 13} if node.op_type == "Pad" else {})
            return [np.asarray(one) for one in evaluator(node, opsets=opsets).run(None, dict(given))]
        except Exception as error:  # each operator has its own
            raise call.refuse(f"cannot be computed ({first_line(error)})") from error


def input_shape(path: str | Path, model: Any) -> tuple[int | None, ...]:
    """The shape (n, c, h, w) that a model reads; None where it takes any extent.

    Raises UserError if it reads several arrays, or another than images.
    """
    dims = _only_input(Path(path), model).type.tensor_type.shape.dim
    shape: tuple[int | None, ...] = tuple(one.dim_value if one.dim_value > 0 else None for one in dims)
    if len(shape) != 4:
        raise UserError(f"{path}: reads arrays of {len(shape)} axes; only images (n, c, h, w) are audited")
    return shape


def batch_of(path: str | Path, model: Any) -> int:
    """How many stamps a model reads at once: 1 where it takes any number."""
    return input_shape(path, model)[0] or 1


def _called(node: Any) -> str:
    """A node's name and operator."""
    return f"{node.name or 'without a name'} ({node.op_type})"


def _only_input(path: Path, model: Any) -> Any:
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise UserError(f"{path}: has the inputs {names}; wanted is one, the stamps")
    return inputs[0]


def _pads_with_zeros(call: Call, node: Any, given: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """What Pad reads besides its input, in whole numbers. Raises UserError if it pads with another number
    than 0."""
    value = call.fixed.get(2, np.array(call.attributes.get("value", 0.0)))
    if call.attributes.get("mode", b"constant") == b"constant" and np.any(value):
        raise call.refuse(f"pads with {float(value):g}; only zeros are audited")
    names = [name for name in node.input[2:3] if name]
    return {name: np.zeros((), np.int64) for name in names}


def _unknown(call: Call, node: Any) -> UserError:
    known = ", ".join(sorted({*LAYERS, *MOVES, *PASSES}))
    name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    if "Quantize" in node.op_type or node.op_type.startswith(("QLinear", "ConvInteger", "MatMulInteger")):
        return call.refuse("is of a quantised network; export the network in floating-point numbers")
    if name in LAST:
        return call.refuse("has no relevance pass but at the end of a network")
    return call.refuse(f"{name} has no relevance pass; those that have are {known}")
