"""Explanations of decisions: maps of a stamp's four rotations or of any layer.

Layers are counted from 0, the input: i is what the i-th layer gives (a convolution with its pooling is
one layer), and the last is the logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites, heatmaps, targets
from rotinv.lrp.methods import integrated_gradients
from rotinv.lrp.methods.integrated_gradients import Completeness
from rotinv.lrp.relevance import Trail, deviation
from rotinv.metrics import rates
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.devices import get_kernels
from rotinv.nn.network import Network
from rotinv.runs.model import Model, check_finite, unique_names, verdict
from rotinv.stamps.classes import TWO, Classes
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
    """What is asked of each network.

    Attributes
    ----------
    method : str
        One of heatmaps.METHODS.
    rule : str
        The name of LRP's rule; the other methods have none.
    target : str or int
        What is shared out: one of targets.TARGETS, or a class by its number or name.
    layer : str or None
        A layer's number or name; None asks for the stamps.
    """

    method: str = "lrp"
    rule: str = "alpha2beta1"
    target: str | int = "predicted"
    layer: str | None = None

    @property
    def text(self) -> str:
        """The question in words."""
        how = f"LRP {self.rule}" if self.method == "lrp" else self.method
        return f"{how} of {_TARGETS.get(str(self.target), f'the logit of class {self.target}')}"


@dataclass(frozen=True, eq=False)
class Explanation:
    """One network's answer for n stamps, on the host.

    Attributes
    ----------
    name, layer : str
        The network's name, and the layer's.
    channels : tuple of str
        The names of the c channels where they are the stamps'; empty deeper in the network.
    logits : array (n, classes)
        In the order of the classes' labels.
    probability : array (n,)
        p(candidate).
    explained : array (n,)
        The class that each stamp's maps are of: the predicted one, unless another was asked for.
    maps : array (n, r, h, w, c), or (n, r, units) where a layer gives vectors
        r is 4 where the layer sees the four rotations, in their own orientation, and 1 where it does not.
    classes : Classes
        Their names, and which is the candidate.
    threshold : float or None
        The p(candidate) from which a stamp is called a candidate, where it is not the most probable class.
    """

    name: str
    layer: str
    channels: tuple[str, ...]
    logits: NDArray
    probability: NDArray
    explained: NDArray[np.integer]
    maps: NDArray
    classes: Classes = TWO
    threshold: float | None = None

    @property
    def predicted(self) -> NDArray[np.uint8]:
        """The class (n,) of each stamp by this network: the most probable, a candidate from 0.5 or from the
        threshold on."""
        return predicted_classes(self.logits, self.probability, self.classes, self.threshold)

    def verdict(self, i: int) -> str:
        """The class of the i-th stamp by name."""
        return verdict(self.classes, int(self.predicted[i]), self.probability[i], self.threshold)

    @property
    def average(self) -> NDArray:
        """The mean over the rotations of the maps turned back: mu of Eq. 5, (n, h, w, c) or (n, units)."""
        return average(self.maps)


def predicted_classes(
    logits: NDArray, probability: NDArray, classes: Classes, threshold: float | None = None
) -> NDArray[np.uint8]:
    """The classes (n,) that logits (n, classes) mean: the candidate where p(candidate), (n,), is at least the
    threshold, elsewhere the other of the largest logit. Without a threshold it is 0.5 of two classes; of more
    the class is that of the largest logit."""
    z = np.asarray(logits)
    if threshold is None and classes.by_largest:
        return z.argmax(axis=1).astype(np.uint8)
    others = np.where(np.arange(len(classes)) == classes.candidate, -np.inf, z).argmax(axis=1)
    accepted = np.asarray(probability) >= (0.5 if threshold is None else threshold)
    return np.where(accepted, classes.candidate, others).astype(np.uint8)


def of_model(model: Model, target: str | int) -> targets.Target:
    """A question's target as the model means it: of the class that it has at its threshold, and with the
    number of a class in place of its name."""
    classes = model.config.classes
    if target not in targets.TARGETS:
        return classes.number(target)
    return target if model.threshold is None else targets.AtThreshold(str(target), classes, model.threshold)


def title(split: Split, index: int) -> str:
    """A stamp's index, with its label and SNR where they are known."""
    parts = [f"stamp {index}"]
    if split.label is not None:
        parts.append(split.classes.names[split.label[index]])
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
        f"layer {layer!r}: {model.name} has no such layer; give a number or a name of {', '.join(known)}"
    )


def check(k: Kernels, model: Model, question: Question) -> None:
    """Raise UserError, before anything slow, if the model cannot be asked that."""
    if question.layer is not None:
        find_layer(model, question.layer)
    targets.relevance(k, k.zeros((1, *model.network.out_shapes[-1])), of_model(model, question.target))
    composites.named(question.rule).check(model.network.ruled)
    if question.layer is not None and question.method not in heatmaps.OF_LAYERS:
        raise UserError(f"{question.method}: has a map of the stamps only; ask for no layer")


def explain(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    question: Question,
    classes: NDArray[np.integer] | None = None,
) -> Iterator[Explanation]:
    """The network's answers for blocks of stamps (n, h, h, c) that are prepared as it reads them.

    `classes` (n,) are explained in place of the predicted ones. Raises UserError for an unknown method, rule,
    target or layer, and if a logit or a map is not finite.
    """
    number = None if question.layer is None else find_layer(model, question.layer)
    if question.method not in heatmaps.OF_LAYERS:
        number = 0
    for trail, explained in _trails(k, model, stamps, question, classes):
        yield _at(k, model, trail, explained, number)


def explain_layers(
    k: Kernels, model: Model, stamps: NDArray[np.float32], question: Question
) -> Iterator[list[Explanation]]:
    """The network's answers at the stamps' four rotations, then at every layer by its number, for blocks of
    stamps; the question's layer is not used."""
    numbers = [None, *range(len(layer_names(model.network)))]
    for trail, explained in _trails(k, model, stamps, question, None):
        yield [_at(k, model, trail, explained, number) for number in numbers]


def answers(
    k: Kernels,
    models: Sequence[Model],
    stamps: NDArray[np.float32],
    question: Question,
    progress: Callable[[int], object] | None = None,
    classes: NDArray[np.integer] | None = None,
) -> list[Explanation]:
    """Each network's answer for all the stamps, the networks' names told apart.

    `progress` is told how many stamps of a network were done; `classes` and what is raised are as of explain.
    """
    found = []
    for model, name in zip(models, unique_names(models), strict=True):
        parts = []
        for part in explain(k, model, stamps, question, classes):
            parts.append(part)
            if progress:
                progress(len(part.maps))
        found.append(joined(parts, name))
    return found


def deviations(
    model: Model, stamps: NDArray[np.float32], question: Question, answer: Explanation
) -> NDArray[np.float64]:
    """How far each stamp's maps (n,) are from those of the float64 reference, in shares of its largest |R|.

    The reference explains the same classes. It takes some tenths of a second a stamp.
    """
    exact = explain(get_kernels("reference"), model, stamps, question, answer.explained)
    maps = (one for part in exact for one in part.maps)
    return np.array([deviation(one, other) for one, other in zip(answer.maps, maps, strict=True)])


def completeness(
    k: Kernels, model: Model, stamps: NDArray[np.float32], question: Question, answer: Explanation
) -> list[Completeness]:
    """The account of each stamp's map by integrated gradients, at whatever layer."""
    sums = np.float64(answer.maps).sum(axis=tuple(range(1, answer.maps.ndim)))
    return integrated_gradients.completeness(
        k, model.network, model.params, stamps, sums, of_model(model, question.target)
    )


def joined(parts: Sequence[Explanation], name: str) -> Explanation:
    """Blocks of stamps as one, under a name."""
    columns = ("logits", "probability", "explained", "maps")
    logits, p, explained, maps = (np.concatenate([getattr(part, what) for part in parts]) for what in columns)
    first = parts[0]
    whole = logits, p, explained, maps, first.classes, first.threshold
    return Explanation(name, first.layer, first.channels, *whole)


def only_second_right(
    label: NDArray, first: NDArray, second: NDArray, thresholds: Sequence[float] = (0.5, 0.5)
) -> NDArray[np.int64]:
    """The places where the second model's class is right and the first's wrong, from p(candidate) of each
    and their thresholds.

    Where the two differ most comes first: that is what their maps should explain; a first model that is
    wrong by a hair, at p = 0.49, tells little.
    """
    wrong = rates.classify(first, thresholds[0]) != label
    right = rates.classify(second, thresholds[1]) == label
    found = np.flatnonzero(wrong & right)
    apart = np.abs(np.asarray(second[found], np.float64) - np.asarray(first[found], np.float64))
    return found[np.argsort(-apart, kind="stable")]


def _trails(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    question: Question,
    classes: NDArray[np.integer] | None,
) -> Iterator[tuple[Trail, NDArray[np.integer]]]:
    """The logits and the maps at every layer, on the device, of blocks of stamps; and the maps' classes."""
    params, rule = k.asarray(model.params), composites.named(question.rule)
    target = of_model(model, question.target)
    if classes is not None and question.target in targets.TARGETS:
        target = targets.OfClasses(str(question.target), classes)
    found = heatmaps.trails(k, model.network, params, stamps, question.method, rule, target)
    try:
        for i, trail in enumerate(found):
            block = slice(i * heatmaps.BATCH, (i + 1) * heatmaps.BATCH)
            yield trail, targets.explained_classes(k, trail.logits, targets.of_part(target, block))
    except UserError as error:
        raise UserError(f"{model.name}: {error}") from None


def check_maps(k: Kernels, model: Model, relevance: Sequence[Array]) -> None:
    """Raise UserError, naming the layer where it begins, if relevance left the range of the device's numbers.

    `relevance` is that of a trail: at each layer's input, then at the logits.
    """
    network = model.network
    places = range(min(len(relevance), len(network.layers)) - 1, -1, -1)  # of occlusion there is one map
    for place in places:
        if not np.isfinite(k.to_host(relevance[place])).all():
            raise UserError(
                f"{model.name}: relevance leaves the range of the device's numbers in "
                f"{network.names[place]!r}: sums that a rule divides by are nearly 0, or its own numbers are "
                "too large; take a larger eps (as --rule epsilon:eps=0.01) or --device reference (float64)"
            )


def _at(
    k: Kernels, model: Model, trail: Trail, explained: NDArray[np.integer], number: int | None
) -> Explanation:
    """The explanation at the layer of that number, or at the stamps' four rotations."""
    logits, relevance = trail
    own = number is None or number <= heatmaps.first_of_rotations(model.network)
    if number is None:
        maps = heatmaps.as_seen(k, model.network, relevance)
    else:
        maps = heatmaps.by_rotation(k.to_host(relevance[number]), len(logits))
    classes = model.config.classes
    probability = k.to_host(k.softmax.forward(logits))[:, classes.candidate]
    logits = k.to_host(logits)
    check_finite(model.name, "logits", logits)
    if not np.isfinite(maps).all():
        check_maps(k, model, relevance)
    layer = STAMPS if number is None else layer_names(model.network)[number]
    channels = tuple(model.config.channels) if own else ()
    answer = logits, probability, explained.astype(np.uint8), maps
    return Explanation(model.name, layer, channels, *answer, classes, model.threshold)
