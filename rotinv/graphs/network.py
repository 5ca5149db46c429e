"""A network from an ONNX file, in Python."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.graphs.images import images_of
from rotinv.graphs.listing import lines
from rotinv.graphs.subject import GraphSubject
from rotinv.lrp.attribution import Question
from rotinv.lrp.ledger_report import Audit
from rotinv.lrp.study import Study, study
from rotinv.stamps.classes import Classes
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError


class OnnxNetwork:
    """A network of another library, read from ONNX: its scores, maps of relevance and audits, in float64.

    Made by `rotinv.load_onnx`. `stamps` are n of them, (n, C, H, W) or (n, H, W, C), or one without n, with
    the pixels that the network was trained on: nothing is scaled here. Printed, it is a table of its layers.

    Attributes
    ----------
    name : str
        That of the file.
    classes : Classes
        What the outputs are: the names in the file's metadata, or "class 0" and so on.

    Examples
    --------
    >>> import numpy as np, rotinv
    >>> net = rotinv.load_onnx("lenet.onnx")
    >>> stamps = np.random.default_rng(0).random((2, 1, 16, 16))
    >>> net.logits(stamps).shape, net.explain(stamps, rule="epsilon").average.shape
    ((2, 10), (2, 16, 16, 1))
    >>> print(str(net.audit(stamps[0])).splitlines()[1][:50].rstrip())
    layer                        received     passed
    """

    def __init__(self, path: str | Path) -> None:
        self._subject = GraphSubject(path)
        self.name = self._subject.name

    @property
    def classes(self) -> Classes:
        return self._subject.classes

    @property
    def layers(self) -> list[str]:
        """The names of the layers, by which rules and maps are asked for."""
        return self._subject.graph.names

    def logits(self, stamps: ArrayLike) -> NDArray[np.float64]:
        """The logits (n, classes) of stamps, without the softmax that the network may end in."""
        split, indices = self._opened(stamps)
        pixels = self._subject.read(split, indices)
        return np.stack([self._subject.graph.logits(one.transpose(2, 0, 1)) for one in pixels])

    def explain(
        self,
        stamps: ArrayLike,
        *,
        rule: str = "alpha2beta1",
        target: str | int = "predicted",
        layer: str | int | None = None,
    ) -> Study:
        """What decisions rest on: R of each pixel, `maps` (n, 1, H, W, C), as Classifier.explain gives it.

        Raises UserError for an unknown rule, target or layer, and for stamps that the network does not read.
        """
        split, indices = self._opened(stamps)
        question = Question("lrp", rule, target, None if layer is None else str(layer))
        return study([self._subject], split, indices, question)

    def audit(self, stamp: ArrayLike, *, rule: str = "alpha2beta1", target: str | int = "predicted") -> Audit:
        """Where the relevance of one decision went, layer by layer, to the last unit. Errors are those of
        explain."""
        split, indices = self._opened(stamp)
        if len(indices) != 1:
            raise UserError(f"an audit is of one stamp, not of {len(indices)}: give stamps[i]")
        pixels = self._subject.read(split, indices)
        (found,) = self._subject.audits(pixels, Question(rule=rule, target=target))
        return found

    def __repr__(self) -> str:
        return "\n".join(lines(self._subject.graph))

    def _opened(self, stamps: ArrayLike) -> tuple[Split, NDArray[np.int64]]:
        split = self._subject.fitted(images_of(stamps, self._subject.wanted))
        return split, np.arange(len(split))


def load_onnx(path: str | Path) -> OnnxNetwork:
    """A network of another library from an ONNX file, to be audited; needs the extra `onnx`.

    Raises UserError for a file that is no network, and, naming the node, for an operator that has no
    relevance pass.

    Examples
    --------
    >>> import rotinv
    >>> net = rotinv.load_onnx("lenet.onnx")
    >>> net.name, len(net.classes.names)
    ('lenet', 10)
    """
    return OnnxNetwork(path)
