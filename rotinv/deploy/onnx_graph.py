"""Networks as one ONNX graph: raw pixels in, probabilities out.

Everything that rotinv does to a stamp is in the graph: the centre is cut out, each channel of each stamp is
scaled to 0-1 in float64, the four rotations are made, and of several networks the median is taken. Stamps
with NaN or infinite pixels get NaN.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Dropout, Flatten, Layer, Shape, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.runs import checkpoints
from rotinv.runs.model import Model
from rotinv.system.errors import UserError, require_extra

OPSET = 17
IR_VERSION = 8  # the one of ONNX 1.12, which brought opset 17
INPUT = "stamps"  # (N, C, S, S)
PROBABILITY, PROBABILITIES = "probability", "probabilities"  # (N,), (N, classes)
_TO_END = -(2**63) + 1  # of an axis that is read backwards


class Graph:
    """A graph that is being made: its nodes and constants."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.prefix = ""  # of the names of the network's own nodes and weights

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node of one output, and give the output's name."""
        output = name or f"{self.prefix}{kind}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, dtype: Any = np.int64, name: str = "") -> str:
        """Add a constant, and give its name."""
        name = name or f"{self.prefix}constant_{len(self.constants)}"
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name


def build(models: Sequence[Model], names: Sequence[str], about: dict[str, str]) -> Any:
    """The graph of networks that read the same stamps, as an ONNX model with metadata.

    Inputs: `stamps` (N, C, S, S) float32, raw pixels; of networks that cut the centre out S is any. Outputs:
    `probabilities` (N, classes), `probability` (N,), which is p(candidate); of several networks the medians,
    and `probability_NAME` (N,) of each. Raises UserError without the package onnx, and for a layer that has
    no translation.
    """
    onnx = require_extra("onnx", "onnx", "export to ONNX")
    config = models[0].config
    graph = Graph(onnx)
    ready = _scaled(graph, _centre(graph, len(config.channels), config.size))
    bad = _not_finite(graph, ready)
    each = []
    for model, name in zip(models, names, strict=True):
        graph.prefix = f"{name}/"
        each.append(_network(graph, model, ready))
    graph.prefix = ""
    outputs = _outputs(graph, each, names, config.classes.candidate, bad)
    shapes = {PROBABILITIES: ["N", len(config.classes)]}
    side: Any = config.size if config.crop is None else None
    make = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        graph.nodes,
        "rotinv",
        [make(INPUT, onnx.TensorProto.FLOAT, ["N", len(config.channels), side or "S", side or "S"])],
        [make(name, onnx.TensorProto.FLOAT, shapes.get(name, ["N"])) for name in outputs],
        list(graph.constants.values()),
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rotinv")
    if len(each) == 1:  # rotinv audit explains what lies between these values
        about = {**about, "audit_from": ready, "audit_to": each[0]}
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def _centre(g: Graph, channels: int, size: int) -> str:
    """The centre of size x size pixels.

    The last node, a change of shape, does nothing for stamps that can be cut so. For others, which have an
    odd number of pixels too many, too few, or are not square, it asks for a shape that does not hold as many
    numbers, and so the graph refuses them.
    """
    shape = g.add("Shape", INPUT)
    count = g.add("Slice", shape, g.constant([0]), g.constant([1]))
    sides = g.add("Slice", shape, g.constant([2]), g.constant([4]))
    wanted = g.constant([size, size])
    over = g.add("Sub", sides, wanted)
    start = g.add("Div", over, g.constant([2, 2]))
    stop = g.add("Add", start, wanted)
    cut = g.add("Slice", INPUT, start, stop, g.constant([2, 3]))
    odd = g.add("Sub", over, g.add("Mul", start, g.constant([2, 2])))
    height, width = (g.add("Slice", sides, g.constant([i]), g.constant([i + 1])) for i in (0, 1))
    unlike = g.add("Abs", g.add("Sub", height, width))
    wrong = g.add("ReduceSum", g.add("Concat", g.add("Abs", odd), unlike, axis=0), keepdims=1)
    rows = g.add("Add", wrong, g.constant([size]))
    target = g.add("Concat", count, g.constant([channels]), rows, g.constant([size]), axis=0)
    return g.add("Reshape", cut, target)


def _scaled(g: Graph, stamps: str) -> str:
    """(x - min) / (max - min) of each channel of each stamp, in float64; constant channels become 0."""
    wide = g.add("Cast", stamps, to=g.onnx.TensorProto.DOUBLE)
    low = g.add("ReduceMin", wide, axes=[2, 3], keepdims=1)
    high = g.add("ReduceMax", wide, axes=[2, 3], keepdims=1)
    span = g.add("Sub", high, low)
    constant = g.add("Equal", span, g.constant(0.0, np.float64))
    divisor = g.add("Where", constant, g.constant(1.0, np.float64), span)
    scaled = g.add("Div", g.add("Sub", wide, low), divisor)
    return g.add("Cast", scaled, to=g.onnx.TensorProto.FLOAT)


def _not_finite(g: Graph, stamps: str) -> str:
    """Whether a stamp, once scaled, has a NaN: (N, 1). Relu and pooling may lose it on some engines."""
    found = g.add("Cast", g.add("IsNaN", stamps), to=g.onnx.TensorProto.FLOAT)
    most = g.add("ReduceMax", found, axes=[1, 2, 3], keepdims=0)
    flat = g.add("Unsqueeze", most, g.constant([1]))
    return g.add("Greater", flat, g.constant(0.5, np.float32))


def _network(g: Graph, model: Model, x: str) -> str:
    """The probabilities (N, classes) of a network."""
    names = checkpoints.names(model.network)
    views = model.network.views(model.params)
    shape = model.network.in_shape
    for layer, own, arrays, out in zip(
        model.network.layers, names, views, model.network.out_shapes, strict=True
    ):
        translate = _LAYERS.get(type(layer))
        if translate is None:
            raise UserError(f"{model.name}: the layer '{layer.name}' cannot be exported")
        weights = {key: (name, arrays[key]) for key, name in own.items()}
        x = translate(g, layer, x, shape, weights)
        shape = out
    return g.add("Softmax", x, axis=1)


Weights = dict[str, tuple[str, NDArray[Any]]]  # by rotinv's letter: the array's full name, and the array


def _zero_pad(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    pads = [0, 0, layer.pad, layer.pad] * 2
    return g.add("Pad", x, g.constant(pads), g.constant(0.0, np.float32))


def _slice(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    """The stamps turned counter-clockwise by 0, 90, 180 and 270 degrees."""
    turned = g.add("Transpose", x, perm=[0, 1, 3, 2])
    each = (x, _flipped(g, turned, 2), _flipped(g, x, 2, 3), _flipped(g, turned, 3))
    return g.add("Concat", *each, axis=0)


def _flipped(g: Graph, x: str, *axes: int) -> str:
    count = len(axes)
    bounds = g.constant([-1] * count), g.constant([_TO_END] * count)
    return g.add("Slice", x, *bounds, g.constant(axes), g.constant([-1] * count))


def _conv(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    (w_name, w), (b_name, b) = weights["w"], weights["b"]
    inputs = [
        g.constant(np.transpose(w, (3, 2, 0, 1)), np.float32, g.prefix + w_name),
        g.constant(b, np.float32, g.prefix + b_name),
    ]
    x = g.add("Conv", x, *inputs, kernel_shape=[layer.size] * 2, pads=[layer.pad] * 4)
    x = _activation(g, x, layer.slope)
    if layer.pool > 1:
        x = g.add("MaxPool", x, kernel_shape=[layer.pool] * 2, strides=[layer.pool] * 2)
    return x


def _dense(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    (w_name, w), (b_name, b) = weights["w"], weights["b"]
    inputs = [g.constant(array, np.float32, g.prefix + name) for name, array in ((w_name, w), (b_name, b))]
    return _activation(g, g.add("Gemm", x, *inputs), layer.slope)


def _activation(g: Graph, x: str, slope: float) -> str:
    if slope == 1:
        return x
    return g.add("Relu", x) if slope == 0 else g.add("LeakyRelu", x, alpha=slope)


def _flatten(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    return g.add("Flatten", g.add("Transpose", x, perm=[0, 2, 3, 1]), axis=1)


def _quarters(g: Graph, x: str, shape: Shape) -> str:
    """Vectors (4N, units) of the four rotations as (4, N, units). Raises UserError for maps."""
    if len(shape) != 1:
        raise UserError("rotations that are brought together as maps cannot be exported; flatten them before")
    return g.add("Reshape", x, g.constant([4, -1, *shape]))


def _mean(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    return g.add("ReduceMean", _quarters(g, x, shape), axes=[0], keepdims=0)


def _concat(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    side_by_side = g.add("Transpose", _quarters(g, x, shape), perm=[1, 0, 2])
    return g.add("Reshape", side_by_side, g.constant([-1, 4 * shape[0]]))


def _dropout(g: Graph, layer: Any, x: str, shape: Shape, weights: Weights) -> str:
    return x


_LAYERS: dict[type[Layer], Callable[[Graph, Any, str, Shape, Weights], str]] = {
    ZeroPad: _zero_pad,
    CyclicSlice: _slice,
    Conv2d: _conv,
    Dense: _dense,
    Flatten: _flatten,
    CyclicMean: _mean,
    CyclicConcat: _concat,
    Dropout: _dropout,
}


def _outputs(g: Graph, each: Sequence[str], names: Sequence[str], candidate: int, bad: str) -> list[str]:
    """Name the outputs: the vote's, then each network's where there are several."""
    nan = g.constant(np.nan, np.float32)
    several = len(each) > 1
    p = _median(g, each) if several else each[0]
    voted = g.add("Where", bad, nan, p, name=PROBABILITIES)
    outputs = [PROBABILITIES, _of_class(g, voted, candidate, PROBABILITY)]
    if several:
        for one, name in zip(each, names, strict=True):
            outputs.append(_of_class(g, g.add("Where", bad, nan, one), candidate, f"{PROBABILITY}_{name}"))
    return outputs


def _of_class(g: Graph, p: str, number: int, name: str) -> str:
    """The probability (N,) of a class."""
    return g.add("Gather", p, g.constant(number), axis=1, name=name)


def _median(g: Graph, each: Sequence[str]) -> str:
    """The median over networks: the middle value, or the mean of the middle two."""
    count = len(each)
    stacked = g.add("Concat", *(g.add("Unsqueeze", p, g.constant([0])) for p in each), axis=0)
    ordered = f"{PROBABILITIES}_ordered"
    inputs, outputs = [stacked, g.constant([count])], [ordered, f"{ordered}_places"]
    g.nodes.append(g.onnx.helper.make_node("TopK", inputs, outputs, name="node_ordered", axis=0))
    middle = sorted({(count - 1) // 2, count // 2})
    return g.add("ReduceMean", g.add("Gather", ordered, g.constant(middle), axis=0), axes=[0], keepdims=0)
