"""Calibrators: p(candidate) made to mean what it says, on labelled stamps that the network has not seen.

    isotonic   the non-decreasing step function of least squares (Zadrozny & Elkan 2002), by SciPy
    platt      1 / (1 + exp(-(a logit p + b))), a and b of the greatest likelihood (Platt 1999)

Both keep the order of scores (isotonic makes some equal), so that the DET curve stays as it is. They hold for
the share of candidates of the set that they were fitted on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rotinv.system.errors import UserError
from rotinv.system.messages import counted

FEWEST = 50  # labelled stamps of each class that a calibrator is fitted on
_TINY = 1e-12  # keeps the logit of p = 0 and p = 1 finite


class Calibrator(Protocol):
    """A map of probabilities (n,) to probabilities (n,), that JSON can hold; NaN stays NaN."""

    @property
    def kind(self) -> str: ...
    def __call__(self, probability: ArrayLike) -> NDArray[np.float64]: ...
    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Isotonic:
    """Linear between the points (p, value), both non-decreasing; constant outside."""

    p: tuple[float, ...]
    value: tuple[float, ...]
    kind: ClassVar[str] = "isotonic"

    def __call__(self, probability: ArrayLike) -> NDArray[np.float64]:
        return np.interp(np.asarray(probability, np.float64), self.p, self.value)

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "p": list(self.p), "value": list(self.value)}


@dataclass(frozen=True)
class Platt:
    """1 / (1 + exp(-(a logit p + b)))."""

    a: float
    b: float
    kind: ClassVar[str] = "platt"

    def __call__(self, probability: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(scipy.special.expit(self.a * _logit(probability) + self.b))

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "a": self.a, "b": self.b}


def fit(kind: str, label: NDArray, probability: NDArray) -> Calibrator:
    """A calibrator of one of KINDS.

    Parameters
    ----------
    kind : "isotonic" or "platt"
    label : (n,), 1 of candidates and 0 of artifacts
    probability : (n,), p(candidate) by the network

    Raises
    ------
    UserError
        For an unknown kind, or fewer than 50 stamps of a class.

    Examples
    --------
    >>> p = np.linspace(0, 1, 400)
    >>> calibrator = fit("platt", (np.arange(400) % 4 == 0) | (p > 0.9), p)
    >>> bool(np.all(np.diff(calibrator(p)) >= 0))
    True
    """
    if kind not in KINDS:
        raise UserError(f"calibrator {kind!r} is not known; choose one of {', '.join(KINDS)}")
    candidates = int(np.sum(np.asarray(label, bool)))
    if min(candidates, len(label) - candidates) < FEWEST:
        raise UserError(
            f"a calibrator needs at least {FEWEST} stamps of each class, and here are "
            f"{counted(candidates, 'candidate')} and {counted(len(label) - candidates, 'artifact')}"
        )
    return KINDS[kind](np.asarray(label, np.float64), np.asarray(probability, np.float64))


def of_json(values: Mapping[str, Any]) -> Calibrator:
    """The calibrator that as_json gave. Raises ValueError, KeyError or TypeError for anything else."""
    if values["kind"] == "platt":
        return Platt(float(values["a"]), float(values["b"]))
    if values["kind"] != "isotonic":
        raise ValueError(f"calibrator {values['kind']!r} is not known")
    p, value = (np.asarray(values[name], np.float64) for name in ("p", "value"))
    falls = any((np.diff(row) < 0).any() for row in (p, value))
    if p.shape != value.shape or p.ndim != 1 or not len(p) or falls:
        raise ValueError("an isotonic calibrator is two rows of non-decreasing numbers")
    return Isotonic(tuple(p.tolist()), tuple(value.tolist()))


def _isotonic(label: NDArray[np.float64], probability: NDArray[np.float64]) -> Calibrator:
    """Equal probabilities are one point, of their mean label; a step is kept by its two ends."""
    p, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=label) / count
    value = np.clip(scipy.optimize.isotonic_regression(mean, weights=count).x, 0, 1)
    inner = np.diff(value) != 0
    kept = np.append(True, inner) | np.append(inner, True)
    return Isotonic(tuple(p[kept].tolist()), tuple(value[kept].tolist()))


def _platt(label: NDArray[np.float64], probability: NDArray[np.float64]) -> Calibrator:
    """Platt's targets lie a little inside 0 and 1, so that a and b stay finite for separable classes."""
    candidates = label.sum()
    target = np.where(label == 1, (candidates + 1) / (candidates + 2), 1 / (len(label) - candidates + 2))
    x = _logit(probability)

    def loss(ab: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = np.exp(ab[0]) * x + ab[1]  # a = exp(...) > 0 keeps the order
        wrong = scipy.special.expit(z) - target
        value = np.logaddexp(0, z) - target * z
        return float(value.mean()), np.array([(wrong * x).mean() * np.exp(ab[0]), wrong.mean()])

    found = scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return Platt(float(np.exp(found.x[0])), float(found.x[1]))


def _logit(probability: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(scipy.special.logit(np.clip(np.asarray(probability, np.float64), _TINY, 1 - _TINY)))


KINDS = {"isotonic": _isotonic, "platt": _platt}
