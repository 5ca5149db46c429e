"""The layers of an ONNX graph: its convolutions and products with weights, in the order of the graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.deploy.layer_weights import CHW, HWC, Found, Layer
from rotinv.graphs.reading import attributes_of, constants_of, metadata_of, read_onnx
from rotinv.system.errors import UserError

_TURNED = [0, 2, 3, 1]  # a Transpose that puts the channels last


def read(path: str | Path) -> Found:
    """The convolutions and dense layers of a graph, and its metadata.

    Needs the package onnx (extra `onnx`). Raises UserError as read_onnx does, and for layers that rotinv's
    networks do not have: groups, dilations, strides, no bias.
    """
    path = Path(path)
    model = read_onnx(path)
    graph = _Graph(path, model)
    return Found(list(graph.layers()), True, graph.flatten, metadata_of(model))


class _Graph:
    """The nodes of a graph with their constants."""

    def __init__(self, path: Path, model: Any) -> None:
        self._path, self._constants = path, constants_of(path, model)
        self._nodes = list(model.graph.node)
        self._takers: dict[str, list[Any]] = {}
        for node in self._nodes:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)

    @property
    def flatten(self) -> str:
        """How maps are flattened: after the last convolution, channels may be put last."""
        last = max((i for i, node in enumerate(self._nodes) if node.op_type == "Conv"), default=-1)
        later = self._nodes[last + 1 :]
        turned = any(n.op_type == "Transpose" and attributes_of(n).get("perm") == _TURNED for n in later)
        return HWC if turned else CHW

    def layers(self) -> Iterator[Layer]:
        """The layers with weights, in the order of the graph."""
        for node in self._nodes:
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in self._constants:
                yield getattr(self, f"_{node.op_type.lower()}")(node)

    def _conv(self, node: Any) -> Layer:
        attributes = attributes_of(node)
        for name, plain in (("group", 1), ("dilations", [1, 1]), ("strides", [1, 1])):
            if attributes.get(name, plain) != plain:
                raise UserError(
                    f"{self._path}: {self._name(node)} has {name} {attributes[name]}, which rotinv's layers "
                    "do not have"
                )
        return Layer(
            self._name(node), np.transpose(self._constants[node.input[1]], (2, 3, 1, 0)), self._bias(node)
        )

    def _gemm(self, node: Any) -> Layer:
        attributes = attributes_of(node)
        if attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1 or attributes.get("transA", 0):
            raise UserError(f"{self._path}: {self._name(node)} is no plain product (alpha, beta, transA)")
        w = self._constants[node.input[1]]
        return Layer(self._name(node), w.T if attributes.get("transB", 0) else w, self._bias(node))

    def _matmul(self, node: Any) -> Layer:
        w = self._constants[node.input[1]]
        for taker in self._takers.get(node.output[0], []):
            others = [name for name in taker.input if name != node.output[0]]
            if taker.op_type == "Add" and len(others) == 1 and others[0] in self._constants:
                return Layer(self._name(node), w, self._constants[others[0]].reshape(-1))
        raise UserError(f"{self._path}: {self._name(node)} has no bias; rotinv's layers have one")

    def _bias(self, node: Any) -> NDArray[Any]:
        if len(node.input) < 3 or node.input[2] not in self._constants:
            raise UserError(f"{self._path}: {self._name(node)} has no bias; rotinv's layers have one")
        return self._constants[node.input[2]]

    def _name(self, node: Any) -> str:
        """The name of a layer: that of its weights, without what they are."""
        return str(node.input[1]).removesuffix(".weight").removesuffix("/w") or node.name
