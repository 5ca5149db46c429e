"""Pooling operators of ONNX as layers: over windows, over the whole map, and over given axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rotinv.graphs.calls import Call, Made, constants, numbers
from rotinv.graphs.layers import Indices, Inputs, Largest, Sums
from rotinv.graphs.windows import Pair, Windows, floats
from rotinv.nn.layers import Shape


def max_pool(call: Call) -> Made:
    """MaxPool over windows."""
    inputs = call.only(0)
    windows = windows_of(call, inputs.shapes[0])
    return Made(Largest(inputs, _in_windows(call, windows, inputs.shapes[0])), {})


def average_pool(call: Call) -> Made:
    """AveragePool over windows: padding counts only if count_include_pad says so, what is beyond it never."""
    inputs = call.only(0)
    shape = inputs.shapes[0]
    windows = windows_of(call, shape)
    index = _in_windows(call, windows, shape)
    inside = index >= 0
    if call.attributes.get("count_include_pad"):
        h, w = shape[2:]
        (top, left), (bottom, right) = windows.begin, windows.end
        padded = np.ones((1, 1, h + top + bottom, w + left + right))
        whole = Windows(windows.kernel, windows.strides, windows.dilations, (0, 0), (0, 0), windows.beyond)
        inside = whole.of(padded).reshape(1, 1, *index.shape[2:4], -1) > 0
    count = inside.sum(axis=-1, keepdims=True)
    return _mean(inputs, index, count)


def global_average_pool(call: Call) -> Made:
    """GlobalAveragePool: the mean over h and w."""
    inputs = call.only(0)
    index = _over_axes(inputs.shapes[0], range(2, len(inputs.shapes[0])), True)
    return _mean(inputs, index, index.shape[-1])


def global_max_pool(call: Call) -> Made:
    """GlobalMaxPool: the largest over h and w."""
    inputs = call.only(0)
    return Made(Largest(inputs, _over_axes(inputs.shapes[0], range(2, len(inputs.shapes[0])), True)), {})


def reduce_mean(call: Call) -> Made:
    """ReduceMean over given axes."""
    inputs, index = _reduced(call)
    return _mean(inputs, index, index.shape[-1])


def reduce_sum(call: Call) -> Made:
    """ReduceSum over given axes."""
    inputs, index = _reduced(call)
    return Made(Sums(inputs, index, "sum"), constants(1.0))


def reduce_max(call: Call) -> Made:
    """ReduceMax over given axes."""
    return Made(Largest(*_reduced(call)), {})


def _mean(inputs: Inputs, index: Indices, count: Any) -> Made:
    return Made(Sums(inputs, index, "average pooling"), constants(1 / floats(count)))


def _reduced(call: Call) -> tuple[Inputs, Indices]:
    """The inputs of a Reduce… operator, and the index of the elements that it brings together."""
    place = next(iter(call.live))
    inputs = Inputs((call.live[place],))
    axes = call.fixed.get(1, call.attributes.get("axes"))
    count = len(inputs.shapes[0])
    if axes is None or not np.size(axes):
        if call.attributes.get("noop_with_empty_axes"):
            return inputs, numbers(inputs.shapes[0])[..., None]
        axes = range(count)
    over = sorted(int(axis) % count for axis in np.ravel(axes))
    return inputs, _over_axes(inputs.shapes[0], over, bool(call.attributes.get("keepdims", 1)))


def _over_axes(shape: Shape, axes: Sequence[int], keep: bool) -> Indices:
    """The index (…, m) of the elements over some axes, which become 1 where they are kept."""
    axes = list(axes)
    moved = np.moveaxis(numbers(shape), axes, range(-len(axes), 0))
    flat = moved.reshape(*moved.shape[: len(shape) - len(axes)], -1)
    return np.expand_dims(flat, axes) if keep else flat


def _in_windows(call: Call, windows: Windows, shape: Shape) -> Indices:
    """The index (n, c, p, q, m) of the pixels of each window, -1 where it is padding."""
    found = windows.of(numbers(shape), -1)
    index = found.reshape(*found.shape[:4], -1)
    if (index < 0).all(axis=-1).any():
        raise call.refuse("has windows that see nothing but padding")
    return index


def windows_of(call: Call, shape: Shape, kernel: Pair | None = None) -> Windows:
    """The windows that a node's attributes describe."""
    about = call.attributes
    if len(shape) != 4:
        raise call.refuse(f"reads an array of {len(shape)} axes; only images (n, c, h, w) are audited")
    size = tuple(about.get("kernel_shape", kernel or ()))
    if len(size) != 2 or (kernel and size != kernel):
        raise call.refuse(f"its kernel_shape {list(size)} is not that of its weights")
    strides, dilations = (tuple(about.get(name, (1, 1))) for name in ("strides", "dilations"))
    sides = [
        _side(call, about, axis, shape[2 + axis], size[axis], strides[axis], dilations[axis])
        for axis in (0, 1)
    ]
    begin, end, beyond = (tuple(values) for values in zip(*sides, strict=True))
    return Windows(size, strides, dilations, begin, end, beyond)


def _side(
    call: Call, about: dict[str, Any], axis: int, length: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int, int]:
    """The padding at the beginning and the end of an axis, and what the last window reaches beyond it."""
    extent = (kernel - 1) * dilation + 1
    auto = about.get("auto_pad", b"NOTSET").decode()
    pads = about.get("pads", (0, 0, 0, 0))
    begin, end, beyond = int(pads[axis]), int(pads[axis + 2]), 0
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = max(0, (-(-length // stride) - 1) * stride + extent - length)
        begin, end = (total // 2, total - total // 2)[:: 1 if auto == "SAME_UPPER" else -1]
    elif auto == "VALID":
        begin = end = 0
    free = length + begin + end - extent
    if free < 0 or begin < 0 or end < 0:
        raise call.refuse(f"its windows of {extent} do not fit a map of {length} pixels")
    if about.get("ceil_mode") and free % stride:
        last = -(-free // stride) * stride  # where the last window begins
        if last < length + begin:  # one that begins in the padding at the end is left out
            beyond = last - free
    return begin, end, beyond
