"""The maps that are compared: a method each, and for "lrp" a rule each; and what is told of them by class."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, composites, heatmaps
from rotinv.lrp.targets import Target
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model
from rotinv.system.errors import UserError, did_you_mean

Score = Callable[[NDArray], NDArray]  # from stamps (n, h, h, c) to scores (n, classes)
# A derivative's sign says which way the logit would go, not whether the pixel mattered.
UNSIGNED = ("gradient", "deconvnet", "guided")
RANDOM = "random"  # the name of the order that maps are held against
ALL = "all"  # the name of all classes together


class Way(NamedTuple):
    """A way to make maps: by a method, and for "lrp" by a rule."""

    name: str
    method: str
    rule: str


def ways(methods: Sequence[str], rule_names: Sequence[str]) -> list[Way]:
    """Each method once, and "lrp" once for each rule. Raises UserError for an unknown method or rule."""
    for method in methods:
        if method not in heatmaps.METHODS:
            meant, known = did_you_mean(method, heatmaps.METHODS), ",".join(heatmaps.METHODS)
            raise UserError(
                f"--methods {method}: is not known{meant}; choose of {known} ({RANDOM} is always there)"
            )
    for rule in rule_names:
        composites.named(rule)
    found = []
    for method in dict.fromkeys(methods):
        if method == "lrp":
            found += [Way(f"lrp {rule}", method, rule) for rule in dict.fromkeys(rule_names)]
        else:
            found.append(Way(method, method, rule_names[0]))
    return found


def maps_of(
    k: Kernels, model: Model, params: Any, stamps: NDArray, way: Way, target: Target = "predicted"
) -> NDArray:
    """The maps (n, h, h, c) of the stamps' own pixels, by the network with these parameters. Raises UserError
    for numbers that the device cannot hold, naming the layer."""
    rule = composites.named(way.rule)
    with np.errstate(over="ignore", invalid="ignore"):  # check_maps tells of maps that are not numbers
        found = heatmaps.trail(k, model.network, params, k.asarray(stamps), way.method, rule, target)
    attribution.check_maps(k, model, found.relevance)
    return k.to_host(found.relevance[0])


def score_function(k: Kernels, model: Model, params: Any, of: str) -> Score:
    """The function from stamps (n, h, h, c) to their logits, or probabilities, (n, classes)."""

    def score(stamps: NDArray) -> NDArray:
        logits = model.network.forward(k, params, k.asarray(stamps))
        return k.to_host(logits if of == "logit" else k.softmax.forward(logits))

    return score


def predicted(scores: NDArray) -> NDArray[np.int64]:
    """The class (n,) with the largest of scores (n, classes): of equal ones the last, as the program score
    has it, for which a tie is a candidate."""
    return scores.shape[1] - 1 - scores[:, ::-1].argmax(axis=1)


def by_class(classes: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """ALL and then each class that is among these (n,), by its name, and which of them it has."""
    yield ALL, np.ones(len(classes), bool)
    for number in np.unique(classes):
        yield names[number], classes == number


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values (n,) and its standard error (ddof 1); the error of one value is NaN."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)
