"""A network from an ONNX file that explains its decisions as a trained run does (rotinv/lrp/subjects.py)."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs import images
from rotinv.graphs.building import build_graph
from rotinv.graphs.graph import Graph, Trail
from rotinv.graphs.orientation import channels_first
from rotinv.graphs.parts import audited_part
from rotinv.graphs.reading import input_shape, metadata_of, read_onnx
from rotinv.graphs.windows import floats
from rotinv.lrp import attribution, composites, ledger, targets
from rotinv.lrp.attribution import Explanation, Question
from rotinv.lrp.ledger import LINES, Entry
from rotinv.lrp.ledger_report import Audit
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import check_finite
from rotinv.stamps.classes import Classes
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError, not_known

_NAMES = ("classes", "class_names", "names", "labels")  # of metadata that may tell the classes' names


class OfMany(Classes):
    """Classes none of which is searched for: the probability that is told is the predicted one's."""

    by_largest = True

    @property
    def p(self) -> str:
        return "p(predicted)"


class GraphSubject:
    """A network from ONNX. All is computed in float64; a stamp (h, w, c) is read with its pixels as they are.

    Its layers are there once the shape of the stamps is known: at once where the file says it, else after
    open_stamps.
    """

    threshold = None  # the most probable class is predicted

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        """Read the file. Raises UserError as read_onnx and build_graph do."""
        self.path = Path(path)
        self.name = name or self.path.stem
        model = channels_first(path, read_onnx(path))
        self._metadata = metadata_of(model)
        self.wanted = input_shape(path, model)[1:]
        self._model, self._prepare = audited_part(path, model)
        self._graph: Graph | None = None
        self._shape: tuple[int, ...] = ()  # of the stamps that the graph is built for
        if None not in self.wanted:
            self.fit(tuple(extent for extent in self.wanted if extent))

    @property
    def graph(self) -> Graph:
        """The layers. Raises UserError where the shape of the stamps is not known yet."""
        if self._graph is None:
            raise UserError(f"{self.path}: reads stamps of any size; open stamps first, by which it is built")
        return self._graph

    def fit(self, shape: tuple[int, ...]) -> None:
        """Build the layers for stamps of a shape (c, h, w)."""
        if self._shape != shape:
            prepared = self._prepare(np.zeros(shape)).shape if self._prepare else shape
            self._graph, self._shape = build_graph(self.path, self._model, prepared), shape

    @property
    def classes(self) -> Classes:
        names = class_names(self._metadata, self.graph.classes)
        many = len(names) > 2 or (
            len(names) == 2 and self.graph.link == "Sigmoid"
        )  # labels that may both hold
        return OfMany(names, 0) if many else Classes(names, len(names) - 1)

    @property
    def channels(self) -> Sequence[str]:
        count = self.graph.in_shape[0]
        named = [name for name in self._metadata.get("channels", "").split(",") if name]
        return named if len(named) == count else [f"channel {i}" for i in range(count)]

    def open_stamps(self, path: str | Path, split: str | None = None) -> Split:
        return self.fitted(images.open_images(path, split, self.wanted))

    def fitted(self, split: Split) -> Split:
        """Images with the network's classes. Raises UserError for labels that it does not have."""
        h, w, c = split.shape if split.taken is not None else split.pixels.shape[1:]
        self.fit((c, h, w))
        images.check_labels(split, self.graph.classes)
        return replace(split, classes=self.classes)

    def notes(self, split: Split) -> list[str]:
        told = [f"{self.name}: {note}" for note in self.graph.notes]
        if self._prepare:
            told.append(f"{self.name}: stamps are prepared in the network; what it reads then is explained")
        elif split.pixels.dtype.kind in "iu":
            told.append(
                f"{split.path}: pixels are whole numbers ({split.pixels.dtype}) and are taken as they are; a "
                "network that was trained on 0 to 1 needs them divided"
            )
        return told

    def read(self, split: Split, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        arrays = isinstance(split.pixels, np.ndarray)  # else a store's, which it gathers itself
        stamps = floats(split.pixels[indices] if arrays else split.raw(indices))
        bad = indices[~np.isfinite(stamps).reshape(len(stamps), -1).all(axis=1)]
        if len(bad):
            raise UserError(f"{split.path}: stamp {bad[0]} has NaN or infinite pixels")
        if self._prepare:
            each = [self._prepare(stamp.transpose(2, 0, 1)).transpose(1, 2, 0) for stamp in stamps]
            stamps = np.stack(each).astype(np.float64)
        return np.ascontiguousarray(stamps)

    def check(self, question: Question) -> None:
        if question.method != "lrp":
            raise UserError(f"{self.path}: a network in ONNX is explained by lrp, not by {question.method}")
        composites.named(question.rule).check(self.graph.ruled)
        self._layer(question)
        k = get_kernels("reference")
        targets.relevance(k, np.zeros((1, self.graph.classes)), self._target(question))

    def explain(self, stamps: NDArray[Any], question: Question) -> Iterator[Explanation]:
        self.check(question)
        layer = self._layer(question)
        for stamp in stamps:
            yield self._at(self._trail(stamp, question), question, layer)

    def explain_layers(self, stamps: NDArray[Any], question: Question) -> Iterator[list[Explanation]]:
        self.check(question)
        for stamp in stamps:
            trail = self._trail(stamp, question)
            yield [self._at(trail, question, layer) for layer in self.graph.names]

    def audits(
        self,
        stamps: NDArray[Any],
        question: Question,
        indices: Sequence[int] | None = None,
        labels: Sequence[int | None] | None = None,
        *,
        exact: bool = False,
    ) -> Iterator[Audit]:
        if exact:
            raise UserError(f"{self.path}: a network in ONNX is audited in float64; leave --exact out")
        self.check(question)
        for i, stamp in enumerate(stamps):
            trail = self._trail(stamp, question)
            index = None if indices is None else int(indices[i])
            label = None if labels is None else labels[i]
            about = self.name, question, index, label, trail.logits[0], self._probability(trail)
            entries = self._entries(trail)
            yield Audit(*about, entries, [0.0] * len(entries), classes=self.classes)

    def _trail(self, stamp: NDArray[Any], question: Question) -> Trail:
        """The relevance pass of a stamp (h, w, c)."""
        composite = composites.named(question.rule)
        try:
            trail = self.graph.relevance(stamp.transpose(2, 0, 1), composite, self._target(question))
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        check_finite(self.name, "maps", *trail.relevance.values())
        return trail

    def _target(self, question: Question) -> Any:
        """The question's target, with a class's number in place of its name."""
        if question.target == "probability" and self.graph.link == "Sigmoid":
            raise UserError(f"{self.path}: ends in a sigmoid, whose probabilities are not shared out; leave "
                            "--target probability out")  # fmt: skip
        if question.target in targets.TARGETS:
            return question.target
        return self.classes.number(question.target)

    def _layer(self, question: Question) -> str:
        """The name of the question's layer; the stamps are "input"."""
        names, layer = self.graph.names, (question.layer or "input").strip().lower()
        if layer.isdecimal() and int(layer) < len(names):
            return names[int(layer)]
        if layer not in names:
            raise not_known("layer", layer, names)
        return layer

    def _at(self, trail: Trail, question: Question, layer: str) -> Explanation:
        """The explanation of a stamp at a layer."""
        r = _as_map(trail.relevance[self.graph.values()[layer]], self.graph.batch)
        explained = targets.explained_classes(get_kernels("reference"), trail.logits, self._target(question))
        own = layer == "input"
        return Explanation(
            self.name,
            attribution.STAMPS if own else layer,
            tuple(self.channels) if own else (),
            trail.logits,
            np.array([self._probability(trail)]),
            explained,
            r[None, None],
            self.classes,
        )

    def _probability(self, trail: Trail) -> float:
        """Of two classes the second's probability, of one output its own, else the predicted class's."""
        logits = trail.logits
        if self.graph.link == "Sigmoid" or self.graph.classes == 1:
            p = 1 / (1 + np.exp(-logits))
        else:
            p = get_kernels("reference").softmax.forward(logits)
        return float(p[0].max() if self.classes.by_largest else p[0, -1])

    def _entries(self, trail: Trail) -> list[Entry]:
        """A ledger's entries, from the logits down; the last says what arrives in the stamp."""
        k = get_kernels("reference")
        arrived = trail.relevance[self.graph.input]
        total = np.array([arrived.sum()])
        nothing = dict.fromkeys(LINES, np.zeros(1))
        last = Entry("input", total, total, nothing, arrived)
        return [*(ledger.entry(k, k, step, 1) for step in trail.steps), last]


def class_names(metadata: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The names of so many classes: those that a file's metadata tell, or "class 0" and so on.

    Metadata may have them as JSON, as Python's dict of numbers to names, or with commas between.
    """
    for key in _NAMES:
        names = _listed(metadata.get(key, ""))
        if len(names) == count and len(set(names)) == count:
            return names
    return ("output",) if count == 1 else tuple(f"class {number}" for number in range(count))


def _listed(text: str) -> tuple[str, ...]:
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        return tuple(str(value) for value in values)
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _as_map(r: NDArray[np.float64], batch: int) -> NDArray[np.float64]:
    """R of a value of the first stamp: (h, w, c) of maps, which may be several in a row, else (units,)."""
    if r.ndim == 4:
        maps = r[0] if len(r) == batch else r.reshape(-1, *r.shape[2:])
        return maps.transpose(1, 2, 0)
    return r[0].ravel() if len(r) == batch else r.ravel()
