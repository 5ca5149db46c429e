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

from rotinv.graphs.calls import Call, Made, numbers
from rotinv.graphs.folding import out_shape, scaled_params
from rotinv.graphs.graph import Graph, Node
from rotinv.graphs.layers import Inputs, Moves, Sums
from rotinv.graphs.operators import LAST, LAYERS, MOVES, PASSES
from rotinv.graphs.reading import attributes_of, batch_of, constants_of, metadata_of, only_input
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Shape
from rotinv.nn.network import numbered
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line
from rotinv.system.messages import counted

_SHAPES = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")  # they leave the elements in their order


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
        self._fixed = constants_of(path, model)
        self._live: dict[str, NDArray] = {}
        self._nodes: list[Node] = []
        self._folded: Counter[str] = Counter()
        self._input, self._output = only_input(path, model).name, ""
        self._link: Any = None  # the node of a softmax or a sigmoid at the end
        self.needed = self._needed()
        self._readers = Counter(name for node in self.needed for name in node.input)
        self._readers[self._output] += 1

    def add_input(self, shape: Shape) -> None:
        """Say what the graph reads."""
        batch = batch_of(self._path, self._model)
        self._live[self._input] = np.zeros((batch, *shape))

    def add(self, node: Any) -> None:
        """Add a node of ONNX, whose inputs are there already, as all constants are."""
        if node.op_type == "Constant":
            return
        where = f"{self._path}: node {_called(node)}"
        live = {i: self._live[one].shape for i, one in enumerate(node.input) if one in self._live}
        fixed = {i: self._fixed[one] for i, one in enumerate(node.input) if one and i not in live}
        call = Call(node.op_type, where, attributes_of(node), live, fixed)
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
        batch, *shape = self._live[self._input].shape
        self._as_classes(batch)
        out = self._live[self._output]
        told = [node for node in self._nodes if not node.layer.passes]
        names = iter(numbered([node.layer.name for node in told]))
        nodes = [node if node.layer.passes else replace(node, name=next(names)) for node in self._nodes]
        metadata = metadata_of(self._model)
        notes = [f"{counted(n, op)} folded into the layer before" for op, n in self._folded.items()]
        link = self._link.op_type if self._link else ""
        if link:
            notes.append(f"{link} at the end left out: logits are explained")
        return Graph(
            self._path.stem,
            tuple(nodes),
            batch,
            tuple(shape),
            self._input,
            self._output,
            out.shape[1],
            link,
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
        self._leave_out_link(makers)
        wanted, todo = set(), [self._output]
        while todo:
            node = makers.get(todo.pop())
            if node is not None and id(node) not in wanted:
                wanted.add(id(node))
                todo += list(node.input)
        return [node for node in self._model.graph.node if id(node) in wanted]

    def _leave_out_link(self, makers: Mapping[str, Any]) -> None:
        """Take the logits, before a softmax or a sigmoid at the end, as the output; what only shapes the
        probabilities then goes with it."""
        node = makers.get(self._output)
        while node is not None and node.op_type in (*LAST, *_SHAPES):
            if node.op_type in LAST:
                self._link, self._output = node, node.input[0]
            node = makers.get(node.input[0])

    def _as_classes(self, batch: int) -> None:
        """Make the output (n, classes): one logit a stamp may come as (n,), and maps as (n, classes, 1, 1).

        Raises UserError for other outputs.
        """
        shape = self._live[self._output].shape
        extents = [extent for extent in shape[1:] if extent != 1]
        if len(extents) > 1 or (shape[0] if shape else 1) != batch:
            what = f"node {_called(self._link)} at the end reads" if self._link else "its output has"
            raise UserError(f"{self._path}: {what} the shape {shape}; wanted is (n, classes)")
        self._check_link(shape)
        if len(shape) != 2:
            index = numbers(shape).reshape(batch, -1)
            name, self._output = self._output, f"{self._output} (n, classes)"
            self._append(Made(Moves(Inputs((shape,)), index, "reshape"), {}), [name], self._output, "")

    def _check_link(self, shape: Shape) -> None:
        """Raise UserError if a softmax at the end, of logits of that shape, is not over the classes."""
        if self._link is None or self._link.op_type == "Sigmoid":
            return
        newer = self._opsets.get("", 0) >= 13  # before, it was over all axes from the one named on
        given = [one.i for one in self._link.attribute if one.name == "axis"]
        axis = (given[0] if given else -1 if newer else 1) % len(shape)
        if math.prod(shape[axis : axis + 1] if newer else shape[axis:]) != math.prod(shape[1:]):
            raise UserError(
                f"{self._path}: node {_called(self._link)}: is over axis {axis}, not over the classes"
            )

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
        for output, places in zip(node.output, self._evaluate(call, node, given), strict=False):
            if places.dtype.kind != "i":
                raise call.refuse(f"gives {places.dtype}, not the elements of its input")
            if self._readers[output]:
                layer = Moves(Inputs(tuple(shapes)), places.astype(np.int64) - 1, MOVES[node.op_type])
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
        made = Made(Moves(Inputs((shape,)), numbers(shape), node.op_type.lower()), {})
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


def _called(node: Any) -> str:
    """A node's name and operator."""
    return f"{node.name or 'without a name'} ({node.op_type})"


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
