"""A scaling, as of BatchNormalization, multiplied into the weights of the layer before it."""

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.calls import Made
from rotinv.graphs.graph import Node
from rotinv.graphs.layers import Convolution, Dense, Sums
from rotinv.nn.layers import Shape


def out_shape(made: Made) -> Shape:
    """The shape of what a scaling gives."""
    assert isinstance(made.layer, Sums)
    return made.layer.index.shape[:-1]


def scaled_params(before: Node, made: Made, axes: int) -> dict[str, NDArray] | None:
    """The parameters of a layer that is followed by a scaling; None if they cannot be those of one layer."""
    layer = before.layer
    if not isinstance(layer, Convolution | Dense | Sums):
        return None
    w, b = before.params["w"], before.params["b"]
    by, shift = made.params["w"][..., 0], made.params["b"]
    if isinstance(layer, Sums) and layer.scales:
        return {"w": w * by[..., None], "b": b * by + shift}
    if isinstance(layer, Sums):
        return None
    axis, count = (1, len(w)) if isinstance(layer, Convolution) else (axes - 1, w.shape[1])
    gain, add = (_per_channel(one, axes, axis, count) for one in (by, shift))
    if gain is None or add is None:
        return None
    if isinstance(layer, Dense):
        return {"w": w * gain, "b": b * gain + add}
    return {"w": w * gain[:, None, None, None], "b": b * gain[:, None, None] + add[:, None, None]}


def _per_channel(values: NDArray, axes: int, axis: int, count: int) -> NDArray | None:
    """Constants that broadcast to an output of so many axes, as one number a channel; None if they differ
    within one."""
    whole = values.reshape((1,) * (axes - values.ndim) + values.shape)
    if any(whole.shape[place] != 1 for place in range(axes) if place != axis):
        return None
    return np.broadcast_to(whole.ravel(), (count,))
