"""A node of ONNX as the functions see it that make layers, and what they give."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.layers import GraphLayer, Indices, Inputs
from rotinv.graphs.windows import floats
from rotinv.nn.layers import Params, Shape
from rotinv.system.errors import UserError


@dataclass(frozen=True)
class Call:
    """One node: its operator, its attributes, and what it reads.

    `live` are the shapes of the inputs that depend on the stamp, by place, and `fixed` the arrays of those
    that do not. `where` names the node for messages.
    """

    operator: str
    where: str
    attributes: dict[str, Any]
    live: dict[int, Shape]
    fixed: dict[int, NDArray]

    def refuse(self, why: str) -> UserError:
        """The error for a node that cannot be audited."""
        return UserError(f"{self.where}: {why}")

    def only(self, *places: int) -> Inputs:
        """The live inputs, which must be those at these places."""
        if tuple(self.live) != places:
            which = "a product of two parts of the network" if len(self.live) > 1 else "a computed weight"
            raise self.refuse(f"{which} has no relevance pass")
        return Inputs(tuple(self.live[place] for place in places))


class Made(NamedTuple):
    """The layer of a node, and its parameters."""

    layer: GraphLayer
    params: Params


def constants(w: Any) -> Params:
    return {"w": np.atleast_1d(floats(w)), "b": np.zeros(1)}


def numbers(shape: Shape) -> Indices:
    """The elements' numbers, row by row, in an array of that shape."""
    return np.arange(math.prod(shape)).reshape(shape)
