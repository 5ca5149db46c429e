"""What the operators of ONNX are as layers. Each function makes the layer of one node; pooling.py has more.

An operator that only moves elements needs no function: ONNX's own reference applies it to the elements'
numbers (building.py).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs import pooling
from rotinv.graphs.calls import Call, Made, constants, numbers
from rotinv.graphs.layers import Activation, Convolution, Dense, Inputs, Sums
from rotinv.graphs.windows import floats


def convolution(call: Call) -> Made:
    """Conv: w (o, c / groups, i, j)."""
    inputs, w = call.only(0), floats(call.fixed[1])
    if w.ndim != 4:
        raise call.refuse(f"convolves over {w.ndim - 2} axes; only images (n, c, h, w) are audited")
    windows = pooling.windows_of(call, inputs.shapes[0], (int(w.shape[2]), int(w.shape[3])))
    b = floats(call.fixed.get(2, np.zeros(len(w)))).reshape(-1, 1, 1)
    return Made(Convolution(inputs, windows, int(call.attributes.get("group", 1))), {"w": w, "b": b})


def gemm(call: Call) -> Made:
    """Gemm: alpha a w + beta b of vectors (n, c)."""
    inputs, about = call.only(0), call.attributes
    if about.get("transA"):
        raise call.refuse("its input is transposed, so that stamps would be mixed")
    w = floats(call.fixed[1])
    w = about.get("alpha", 1.0) * (w.T if about.get("transB") else w)
    b = about.get("beta", 1.0) * floats(call.fixed.get(2, 0.0))
    return _dense(call, inputs, w, b)


def matmul(call: Call) -> Made:
    """MatMul by a constant matrix."""
    w = floats(call.fixed.get(1, np.zeros(0)))
    inputs = call.only(0)
    if w.ndim != 2:
        raise call.refuse("multiplies by other than one constant matrix, which has no relevance pass")
    return _dense(call, inputs, w, np.zeros(1))


def relu(call: Call) -> Made:
    """Relu."""
    return Made(Activation(call.only(0), lambda z: np.maximum(z, 0.0)), {})


def leaky_relu(call: Call) -> Made:
    """LeakyRelu."""
    slope = float(call.attributes.get("alpha", 0.01))
    return Made(Activation(call.only(0), lambda z: np.where(z > 0, z, slope * z)), {})


def clip(call: Call) -> Made:
    """Clip, as ReLU6 is exported."""
    inputs, about = call.only(0), call.attributes
    low = float(call.fixed.get(1, about.get("min", -np.inf)))
    high = float(call.fixed.get(2, about.get("max", np.inf)))
    return Made(Activation(inputs, lambda z: np.clip(z, low, high)), {})


def add(call: Call) -> Made:
    """Add and Sum: of branches, or of a constant, which is a bias."""
    if len(call.live) == 1:
        return scaled(call, 1.0, sum(floats(one) for one in call.fixed.values()))
    if call.fixed:
        raise call.refuse("adds several branches and a constant at once")
    return _branches(call, np.ones(len(call.live)))


def subtract(call: Call) -> Made:
    """Sub: of branches, or with a constant, which is a bias."""
    if len(call.live) == 2:
        return _branches(call, np.array([1.0, -1.0]))
    if 0 in call.live:
        return scaled(call, 1.0, -floats(call.fixed[1]))
    return scaled(call, -1.0, floats(call.fixed[0]))


def multiply(call: Call) -> Made:
    """Mul by a constant."""
    if len(call.live) != 1:
        raise call.refuse("a product of two parts of the network has no relevance pass")
    (by,) = call.fixed.values()
    return scaled(call, floats(by), 0.0)


def divide(call: Call) -> Made:
    """Div by a constant."""
    call.only(0)
    return scaled(call, 1 / floats(call.fixed[1]), 0.0)


def batch_normalisation(call: Call) -> Made:
    """BatchNormalization with the statistics of training: scale and shift of each channel."""
    if call.attributes.get("training_mode"):
        raise call.refuse("normalises by the batch itself; export the network after model.eval()")
    inputs = call.only(0)
    gain, shift, mean, variance = (floats(call.fixed[place]) for place in range(1, 5))
    w = gain / np.sqrt(variance + call.attributes.get("epsilon", 1e-5))
    channels = (-1, *[1] * (len(inputs.shapes[0]) - 2))
    return scaled(call, w.reshape(channels), (shift - mean * w).reshape(channels))


def scaled(call: Call, w: Any, b: Any) -> Made:
    """w a + b, element by element, of constants that broadcast."""
    inputs = Inputs(tuple(call.live.values()))
    shape = np.broadcast_shapes(inputs.shapes[0], np.shape(w), np.shape(b))
    index = np.broadcast_to(numbers(inputs.shapes[0]), shape)[..., None]
    params = {"w": floats(w)[..., None], "b": np.asarray(b, np.float64)}
    return Made(Sums(inputs, index, "scaling", scales=True, biased=bool(np.any(params["b"]))), params)


def _branches(call: Call, signs: NDArray) -> Made:
    """The sum of values, each with a sign, that broadcast to one shape."""
    inputs = Inputs(tuple(call.live.values()))
    first, each = 0, []
    for shape in inputs.shapes:
        each.append(first + np.broadcast_to(numbers(shape), np.broadcast_shapes(*inputs.shapes)))
        first += math.prod(shape)
    return Made(Sums(inputs, np.stack(each, axis=-1), "sum"), constants(signs))


def _dense(call: Call, inputs: Inputs, w: NDArray, b: NDArray) -> Made:
    if np.size(b) not in (1, w.shape[1]):
        raise call.refuse("its bias is other than one number a unit")
    b = np.broadcast_to(np.ravel(b), w.shape[1:])
    return Made(Dense(inputs), {"w": np.ascontiguousarray(w), "b": np.ascontiguousarray(b)})


LAYERS: dict[str, Callable[[Call], Made]] = {
    "Add": add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": batch_normalisation,
    "Clip": clip,
    "Conv": convolution,
    "Div": divide,
    "Gemm": gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "LeakyRelu": leaky_relu,
    "MatMul": matmul,
    "MaxPool": pooling.max_pool,
    "Mul": multiply,
    "ReduceMax": pooling.reduce_max,
    "ReduceMean": pooling.reduce_mean,
    "ReduceSum": pooling.reduce_sum,
    "Relu": relu,
    "Sub": subtract,
    "Sum": add,
}
MOVES = {
    "Concat": "concatenation",
    "DepthToSpace": "depth to space",
    "Expand": "copy",
    "Flatten": "flatten",
    "Gather": "choice",
    "Pad": "padding",
    "Reshape": "reshape",
    "Slice": "slice",
    "SpaceToDepth": "space to depth",
    "Split": "split",
    "Squeeze": "squeeze",
    "Tile": "copy",
    "Transpose": "transpose",
    "Unsqueeze": "unsqueeze",
}
PASSES = ("Identity", "Dropout", "Cast")
LAST = ("Softmax", "LogSoftmax", "Sigmoid")  # left out where they are the last: the logits are explained
