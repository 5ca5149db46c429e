"""What is explained: which number of the network's answer is shared out, or differentiated.

"predicted" is the logit of the predicted class (the authors' choice), a number the logit of that class,
"probability" the predicted class's probability, "one" gives the predicted class the relevance 1, and
"difference" is its logit less the runner-up's.

The predicted class is the one that the program score gives: of two classes the candidate where p(candidate)
is at least 0.5, so that equal logits, a tie, are a candidate; of more the most probable one. It may be
classified at another threshold (AtThreshold), and a caller who classifies by a vote names the classes himself
(OfClasses).
"""

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import rates
from rotinv.nn.contract import Array, Kernels
from rotinv.stamps.classes import Classes
from rotinv.system.errors import UserError, did_you_mean

TARGETS = ("predicted", "probability", "one", "difference")  # or a class, as a number


@dataclass(frozen=True, eq=False)
class OfClasses:
    """One of TARGETS, of these classes (n,) in place of the predicted ones."""

    name: str
    classes: NDArray[np.integer]


@dataclass(frozen=True)
class AtThreshold:
    """One of TARGETS, of the class that `classes` has at a threshold of p(candidate)."""

    name: str
    classes: Classes
    threshold: float


Target = str | int | np.integer | OfClasses | AtThreshold


def explained_classes(k: Kernels, logits: Array, target: Target) -> NDArray[np.integer]:
    """The class (n,) that is explained of each stamp. Raises UserError for a target that the logits
    (n, classes) do not have."""
    count, classes = logits.shape
    _check_known(target, classes)
    if _is_class(target):
        return np.full(count, target, np.int64)
    if isinstance(target, OfClasses):
        return target.classes
    if isinstance(target, AtThreshold):
        return target.classes.decide(k.to_host(k.softmax.forward(logits)), target.threshold)
    if classes != 2:
        return np.asarray(k.to_host(logits).argmax(axis=1))
    return rates.classify(k.to_host(k.softmax.forward(logits))[:, 1])


def _check_known(target: Target, classes: int) -> None:
    """Raise UserError for a target that logits of so many classes do not have."""
    name = name_of(target)
    if _is_class(name) and 0 <= name < classes:
        return
    if name not in TARGETS or (name == "difference" and classes < 2):
        known = ", ".join(map(str, range(classes)))
        meant = did_you_mean(name, TARGETS)
        raise UserError(
            f"target {name!r} is not known{meant}; choose one of {', '.join(TARGETS)}, or a class: {known}"
        )


def of_same_classes(k: Kernels, logits: Array, target: Target) -> Target:
    """The target, of the classes that it means for these logits: another device's logits, a hair away, could
    mean another class where there is nearly a tie."""
    if _is_class(target):
        return target
    return OfClasses(str(name_of(target)), explained_classes(k, logits, target))


def repeated(target: Target, i: int, count: int) -> Target:
    """The target of the i-th stamp, for `count` variants of that stamp."""
    if isinstance(target, OfClasses):
        return OfClasses(target.name, np.full(count, target.classes[i]))
    return target


def of_part(target: Target, part: slice) -> Target:
    """The target of a part of the stamps."""
    return OfClasses(target.name, target.classes[part]) if isinstance(target, OfClasses) else target


def values(k: Kernels, logits: Array, target: Target) -> NDArray[np.float64]:
    """The number (n,) that the target names: a logit, a probability, or a difference of logits."""
    z = logits if name_of(target) != "probability" else k.softmax.forward(logits)
    return np.asarray(_signs(k, logits, target) * k.to_host(z), np.float64).sum(axis=1)


def relevance(k: Kernels, logits: Array, target: Target) -> Array:
    """R at the logits (n, classes). Raises UserError for a target that the logits do not have."""
    z, r = k.to_host(logits), _signs(k, logits, target)
    if name_of(target) == "probability":
        return k.asarray(r * k.to_host(k.softmax.forward(logits)))
    return k.asarray(r if name_of(target) == "one" else r * z)


def are_on_device(k: Kernels, target: Target) -> bool:
    """Whether relevance_on_device is there: only the host knows the classes of OfClasses."""
    return k.targets is not None and not isinstance(target, OfClasses)


def relevance_on_device(k: Kernels, logits: Array, target: Target) -> Array:
    """`relevance` without a wait for the host.

    The logits are not searched for NaN: see check_finite. Raises UserError for a target that they do not
    have.
    """
    assert k.targets is not None
    classes = logits.shape[1]
    _check_known(target, classes)
    if _is_class(target):
        return k.targets.relevance(logits, "predicted", int(target), -1, 0.0)
    candidate, threshold = (1, 0.5) if classes == 2 else (-1, 0.0)  # as explained_classes
    if isinstance(target, AtThreshold):
        candidate, threshold = target.classes.candidate, float(target.threshold)
    return k.targets.relevance(logits, str(name_of(target)), -1, candidate, threshold)


def gradient(k: Kernels, logits: Array, target: Target) -> Array:
    """The derivative, by the logits (n, classes), of what the target names; of "one", that of the logit."""
    d = _signs(k, logits, target)
    if name_of(target) == "probability":
        p = k.to_host(k.softmax.forward(logits))
        d = d * p - (d * p).sum(axis=1, keepdims=True) * p
    return k.asarray(d)


def _is_class(target: Target) -> TypeGuard[int | np.integer]:
    """Whether a target is a class's number. True and False are none: they would pass for 1 and 0."""
    return isinstance(target, int | np.integer) and not isinstance(target, bool)


def name_of(target: Target) -> str | int | np.integer:
    """One of TARGETS, or a class's number, whatever class is explained."""
    return target.name if isinstance(target, OfClasses | AtThreshold) else target


def _signs(k: Kernels, logits: Array, target: Target) -> NDArray:
    """1 at the class that is explained, 0 elsewhere; "difference" has -1 at the runner-up."""
    z, rows = k.to_host(logits), np.arange(len(logits))
    check_finite(z)
    d = np.zeros_like(z)
    d[rows, explained_classes(k, logits, target)] = 1
    if name_of(target) == "difference":
        others = np.where(d == 1, -np.inf, z)
        d[rows, others.argmax(axis=1)] = -1
    return d


def check_finite(logits: NDArray[Any]) -> None:
    """Raise UserError unless all logits are numbers."""
    if not np.isfinite(np.asarray(logits, np.float64)).all():
        raise UserError(
            "the network's logits are not numbers: a pixel is not, the training diverged (try a smaller "
            "--rate), or the weights are damaged"
        )


def parse_target(text: str) -> str | int:
    """An option's type: a target or a class by its name, or a class by its number."""
    return int(text) if text.lstrip("-").isdecimal() else text
