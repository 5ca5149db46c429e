"""Explanations of decisions: maps of a stamp's four rotations or of any layer.

Layers are counted from 0, the input: i is what the i-th layer gives (a convolution with its pooling is
one layer), and the last is the logits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import heatmaps, rules, targets
from rotinv.lrp.relevance import Trail
from rotinv.metrics import rates
from rotinv.nn.contract import Kernels
from rotinv.nn.network import Network
from rotinv.runs.model import CLASS_NAMES, Model
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError

STAMPS = "stamps"  # the layer's name where none is asked for: the four rotations, without the padding
_TARGETS = {
    "predicted": "the predicted class's logit",
    "probability": "the predicted class's probability",
    "one": "the predicted class, as 1",
    "difference": "the predicted class's logit less the runner-up's",
}


@dataclass(frozen=True)
class Question:
    """What is asked of each model; the rule is of moment to "lrp" only, no layer asks for the stamps."""

    method: str = "lrp"
    rule: str = "alpha2beta1"
    target: targets.Target = "predicted"
    layer: str | None = None

    @property
    def text(self) -> str:
        """The question in words."""
        how = f"LRP {self.rule}" if self.method == "lrp" else self.method
        return f"{how} of {_TARGETS.get(str(self.target), f'the logit of class {self.target}')}"


@dataclass(frozen=True, eq=False)
class Explanation:
    """One model's answer for n stamps, on the host.

    `maps` are (n, r, h, w, c), or (n, r, units) where a layer gives vectors; r is 4 where the layer sees
    the four rotations, in their own orientation, and 1 where it does not. `probability` is p(candidate).
    `channels` names the c channels where they are the stamps', and is empty deeper in the network.
    """

    name: str
    layer: str
    channels: tuple[str, ...]
    logits: NDArray
    probability: NDArray
    maps: NDArray

    @property
    def predicted(self) -> NDArray[np.uint8]:
        """The class of each stamp, as the program `score` gives it."""
        return rates.classify(self.probability)


@dataclass(frozen=True, eq=False)
class Study:
    """Stamps (n, h, h, c) as the networks read them, where they are from, and what each model answers."""

    split: Split
    indices: NDArray[np.int64]
    stamps: NDArray[np.float32]
    channels: Sequence[str]
    question: Question
    answers: Sequence[Explanation]

    def label(self, i: int) -> int | None:
        """The class of the i-th stamp, where it is known."""
        return None if self.split.label is None else int(self.split.label[self.indices[i]])

    def title(self, i: int) -> str:
        """The i-th stamp's index, with its label and SNR where they are known."""
        return title(self.split, int(self.indices[i]))


def title(split: Split, index: int) -> str:
    """A stamp's index, with its label and SNR where they are known."""
    parts = [f"stamp {index}"]
    if split.label is not None:
        parts.append(CLASS_NAMES[split.label[index]])
    if split.snr is not None and np.isfinite(split.snr[index]):
        parts.append(f"SNR {split.snr[index]:.4g}")
    return ", ".join(parts)


def turned_back(maps: NDArray) -> NDArray:
    """Maps as in Explanation, in the stamp's own orientation; vectors, and one map alone, are so already."""
    return heatmaps.turned_back(maps) if maps.ndim == 5 and maps.shape[1] == 4 else maps


def average(maps: NDArray) -> NDArray:
    """The mean over the rotations of maps as in Explanation, turned back: mu of Eq. 5, (n, h, w, c)."""
    if maps.shape[1] == 1:
        return maps[:, 0]
    if maps.ndim == 5:
        return heatmaps.average(maps)
    return ((maps[:, 0] + maps[:, 2]) + (maps[:, 1] + maps[:, 3])) / 4


def layer_names(network: Network) -> list[str]:
    """The names by number: "input", then the layers' own."""
    return ["input", *network.names]


def find_layer(model: Model, layer: str) -> int:
    """The number of a layer, from its number or name. Raises UserError naming all if there is none."""
    names = layer_names(model.network)
    if layer.isdecimal() and int(layer) < len(names):
        return int(layer)
    if layer.strip().lower() in names:
        return names.index(layer.strip().lower())
    shapes = [model.network.in_shape, *model.network.out_shapes]
    known = (
        f"{i} {name} ({'x'.join(map(str, s))})" for i, (name, s) in enumerate(zip(names, shapes, strict=True))
    )
    raise UserError(
        f"--layer {layer}: {model.name} has no such layer; give a number or a name of {', '.join(known)}"
    )


def check(k: Kernels, model: Model, question: Question) -> None:
    """Raise UserError, before anything slow, if the model cannot be asked that."""
    if question.layer is not None:
        find_layer(model, question.layer)
    targets.relevance(k, k.zeros((1, *model.network.out_shapes[-1])), question.target)
    rules.named(question.rule)


def explain(
    k: Kernels, model: Model, stamps: NDArray[np.float32], question: Question
) -> Iterator[Explanation]:
    """The model's answers for blocks of stamps (n, h, h, c) that are prepared as it reads them.

    Raises UserError for an unknown method, rule, target or layer, and if a logit or a map is not finite.
    """
    number = None if question.layer is None else find_layer(model, question.layer)
    for trail in _trails(k, model, stamps, question):
        yield _at(k, model, trail, number)


def explain_layers(
    k: Kernels, model: Model, stamps: NDArray[np.float32], question: Question
) -> Iterator[list[Explanation]]:
    """The same at the stamps' four rotations, then at every layer by its number; the question's is unused."""
    numbers = [None, *range(len(layer_names(model.network)))]
    for trail in _trails(k, model, stamps, question):
        yield [_at(k, model, trail, number) for number in numbers]


def joined(parts: Sequence[Explanation], name: str) -> Explanation:
    """Blocks of stamps as one, under a name."""
    logits, probability, maps = (
        np.concatenate([getattr(part, what) for part in parts]) for what in ("logits", "probability", "maps")
    )
    return Explanation(name, parts[0].layer, parts[0].channels, logits, probability, maps)


def only_second_right(label: NDArray, first: NDArray, second: NDArray) -> NDArray[np.int64]:
    """The places where the second model's class is right and the first's wrong, from p(candidate) of each.

    Where the two differ most comes first: that is what their maps should explain; a first model that is
    wrong by a hair, at p = 0.49, tells little.
    """
    wrong, right = rates.classify(first) != label, rates.classify(second) == label
    found = np.flatnonzero(wrong & right)
    apart = np.abs(np.float64(second[found]) - np.float64(first[found]))
    return found[np.argsort(-apart, kind="stable")]


def _trails(k: Kernels, model: Model, stamps: NDArray[np.float32], question: Question) -> Iterator[Trail]:
    """The logits and the maps at every layer, on the device, of blocks of stamps."""
    params, rule = k.asarray(model.params), rules.named(question.rule)
    for start in range(0, len(stamps), heatmaps.BATCH):
        block = k.asarray(stamps[start : start + heatmaps.BATCH])
        yield heatmaps.trail(k, model.network, params, block, question.method, rule, question.target)


def _at(k: Kernels, model: Model, trail: Trail, number: int | None) -> Explanation:
    """The explanation at the layer of that number, or at the stamps' four rotations."""
    logits, relevance = trail
    own = number is None or number <= heatmaps.first_of_rotations(model.network)
    if number is None:
        maps = heatmaps.as_seen(k, model.network, relevance)
    else:
        maps = heatmaps.by_rotation(k.to_host(relevance[number]), len(logits))
    logits = k.to_host(logits)
    if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
        raise UserError(
            f"{model.name}: its logits or maps are not numbers: the training diverged (try a smaller "
            "--rate), or the weights are damaged"
        )
    probability = k.to_host(k.softmax.forward(k.asarray(logits)))[:, 1]
    layer = STAMPS if number is None else layer_names(model.network)[number]
    channels = tuple(model.config.channels) if own else ()
    return Explanation(model.name, layer, channels, logits, probability, maps)
