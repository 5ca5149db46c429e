"""A network as a graph of layers, its scores, and its relevance from the logits down to the stamp.

Stamps go through one at a time, so that none depends on another; a network that was exported for a fixed
number of stamps reads so many copies of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.layers import Convolution, Dense, GraphLayer
from rotinv.graphs.windows import floats
from rotinv.lrp import targets
from rotinv.lrp.composites import Composite
from rotinv.lrp.relevance import Step, handed_down
from rotinv.lrp.targets import Target
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Params, Rule, Shape


@dataclass(frozen=True, eq=False)
class Node:
    """A layer in its place. `name` is empty where R passes through it unchanged; `where` names the node of
    ONNX that it was made of, `inputs` and `output` its values."""

    name: str
    where: str
    layer: GraphLayer
    params: Params
    inputs: tuple[str, ...]
    output: str
    out_shape: Shape  # without the stamps' axis

    @property
    def learned(self) -> bool:
        """Whether its parameters are weights, and not those of a mean or a sum."""
        return isinstance(self.layer, Convolution | Dense) or getattr(self.layer, "scales", False)


class Trail(NamedTuple):
    """The logits (1, classes), R of every value by its name, and the steps from the last layer to the
    first."""

    logits: NDArray
    relevance: dict[str, NDArray]
    steps: list[Step]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network that reads one stamp.

    Attributes
    ----------
    name : str
        Of its file.
    nodes : tuple of Node
        Each after those that it reads.
    batch : int
        How many stamps it was exported for: 1 where it takes any number.
    in_shape : (c, h, w)
        Of a stamp.
    input, output : str
        The names of the stamp and of the logits.
    classes : int
        How many logits there are.
    link : str
        The operator at the end that was left out: "Softmax", "LogSoftmax", "Sigmoid" or none.
    notes : tuple of str
        What was done to the network before it is audited.
    metadata : mapping
        The texts in its file.
    """

    name: str
    nodes: tuple[Node, ...]
    batch: int
    in_shape: Shape
    input: str
    output: str
    classes: int
    link: str
    notes: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The layers that can be named: those that change R, and "input"."""
        return ["input", *(node.name for node in self.nodes if node.name)]

    @property
    def ruled(self) -> list[str]:
        """The layers that a rule can be given to."""
        return [node.name for node in self.nodes if node.name and node.params]

    def values(self) -> dict[str, str]:
        """The value that each of `names` stands for: the stamp, or the layer's output."""
        return {"input": self.input} | {node.name: node.output for node in self.nodes if node.name}

    def logits(self, stamp: NDArray) -> NDArray:
        """The logits (classes,) of a stamp (c, h, w)."""
        found: NDArray = self._record(stamp, {})[0][self.output][0]
        return found

    def relevance(self, stamp: NDArray, composite: Composite, target: Target = "predicted") -> Trail:
        """R of a stamp (c, h, w) at every value, by the rules of a composite.

        Raises UserError for a target that the logits do not have, for a rule of a layer that there is not,
        and for inputs that a layer's rule is not for.
        """
        composite.check(self.ruled)
        k = get_kernels("reference")
        rules = self._rules(composite)
        values, saved = self._record(stamp, rules)
        logits = values[self.output][:1]
        seed = np.zeros_like(values[self.output])
        seed[:1] = targets.relevance(k, logits, target)
        relevance = {self.output: seed}
        steps = []
        for node in reversed(self.nodes):
            r, rule = relevance[node.output], rules[node.output]
            passed = handed_down(k, node.name, node.layer, node.params, saved[node.output], r, rule)
            for name, part in zip(node.inputs, node.layer.inputs.split(passed), strict=True):
                relevance[name] = relevance[name] + part if name in relevance else part
            if node.name:
                steps.append(Step(node.name, node.layer, rule, node.params, saved[node.output], r, passed))
        return Trail(logits, relevance, steps)

    def _record(self, stamp: NDArray, rules: Mapping[str, Rule]) -> tuple[dict, dict]:
        """Every value by its name, and what each layer saved, by its output's. z is summed as z+ + z-, or as
        one where a rule divides by it, and where there is none."""
        k = get_kernels("reference")
        values = {self.input: np.repeat(floats(stamp)[None], self.batch, axis=0)}
        saved = {}
        for node in self.nodes:
            a = node.layer.inputs.join([values[name] for name in node.inputs])
            rule = rules.get(node.output)
            exact_z = rule is None or rule.divides_by_z
            values[node.output], saved[node.output] = node.layer.forward_signed(k, node.params, a, exact_z)
        return values, saved

    def _rules(self, composite: Composite) -> dict[str, Rule]:
        """The rule of each layer, by its output's name."""
        first = self._first()
        found = {}
        for node in self.nodes:
            own = composite.own(node.name)
            general = composite.of(node.name, node.out_shape, is_first=node.output in first)
            found[node.output] = own or node.layer.rule(general)
        return found

    def _first(self) -> set[str]:
        """The outputs of the layers with weights that no other one comes before."""
        below: dict[str, bool] = {self.input: False}
        first = set()
        for node in self.nodes:
            after = any(below[name] for name in node.inputs)
            weighted = isinstance(node.layer, Convolution | Dense)
            if weighted and not after:
                first.add(node.output)
            below[node.output] = after or weighted
        return first
