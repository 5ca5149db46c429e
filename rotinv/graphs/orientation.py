"""Networks that read images with the channels last, (n, h, w, c), as Keras exports them.

ONNX's own operators have the channels second, so that such a network turns its images itself, before the
first of them. `channels_first` puts the reverse before that: the network then reads (n, c, h, w), as all
others do.
"""

from collections.abc import Iterator
from typing import Any

from rotinv.system.errors import require_extra

_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
# What leaves each pixel in its place: preprocessing, such as a division by 255, comes before the turn.
_IN_PLACE = ("Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub")


def channels_first(path: Any, model: Any) -> Any:
    """The model, reading (n, c, h, w). One that reads so already, or no images, is given back as it is."""
    weights = {one.name for one in model.graph.initializer}
    images = [one for one in model.graph.input if one.name not in weights]
    if len(images) != 1 or len(images[0].type.tensor_type.shape.dim) != 4:
        return model
    ends = list(_ends(model, images[0].name))
    if not ends or not all(_turns(model, images[0], node) for node in ends):
        return model
    helper = require_extra("onnx.helper", "onnx", path)
    found = type(model)()
    found.CopyFrom(model)
    (given,) = [one for one in found.graph.input if one.name == images[0].name]
    last, first = given.name, f"{given.name} (channels first)"
    n, h, w, c = given.type.tensor_type.shape.dim
    given.name = first
    for dim, copied in zip(given.type.tensor_type.shape.dim, _copies(n, c, h, w), strict=True):
        dim.CopyFrom(copied)
    found.graph.node.insert(0, helper.make_node("Transpose", [first], [last], perm=_TO_LAST))
    return found


def _ends(model: Any, name: str) -> Iterator[Any]:
    """The nodes that the images go to, past those that leave each pixel in its place."""
    todo, seen = [name], set()
    while todo:
        value = todo.pop()
        seen.add(value)
        for node in model.graph.node:
            if value not in node.input or node.op_type in ("Shape", "Size"):
                continue
            if node.op_type in _IN_PLACE:
                todo += [one for one in node.output if one not in seen]
            else:
                yield node


def _turns(model: Any, images: Any, node: Any) -> bool:
    """Whether a node puts the channels of (n, h, w, c) second: by turning the axes, or, where there is one
    channel, by naming the shape anew."""
    if node.op_type == "Transpose":
        return any(one.name == "perm" and list(one.ints) == _TO_FIRST for one in node.attribute)
    if node.op_type != "Reshape":
        return False
    _, h, w, c = (one.dim_value for one in images.type.tensor_type.shape.dim)
    return c == 1 and h > 1 and _constant(model, node.input[1])[1:] == [1, h, w]


def _constant(model: Any, name: str) -> list[int]:
    """A constant's whole numbers; none if the value is computed."""
    to_list = require_extra("onnx.numpy_helper", "onnx", name).to_array
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return [int(one) for one in to_list(tensor).ravel()]
    for node in model.graph.node:
        if name in node.output and node.op_type == "Constant" and node.attribute[0].name == "value":
            return [int(one) for one in to_list(node.attribute[0].t).ravel()]
    return []


def _copies(*dims: Any) -> list[Any]:
    """The dimensions, apart from the graph that holds them."""
    found = []
    for dim in dims:
        copied = type(dim)()
        copied.CopyFrom(dim)
        found.append(copied)
    return found
