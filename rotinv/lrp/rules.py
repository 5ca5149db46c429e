"""The rules of layer-wise relevance propagation, as the equations are written.

With z_ij = a_i w_ij, z+_j and z-_j the sums of its positive and negative parts, each with its side of the
bias, and z_j = z+_j + z-_j, a rule says what share of R_j goes down to a_i:

    R_i = sum_j z_ij^+ c+_j + z_ij^- c-_j       c+, c- from `shares`, over the products of `terms`

z- is summed by itself, never computed as z - z+, which would cancel. 0/0 is 0, and sign(0) is +1.
Which rule goes to which layer, and what rules are called, is in composites.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import MeanShares, Signs, Taken, Term
from rotinv.system.errors import UserError

LARGEST = 1e9  # of a rule's numbers: float32 then has room for the sums that they are multiplied by
_ROUNDING = 1e-6  # of the range between z^B's bounds: single precision puts a pixel so far beyond a bound


def _check_not_negative(**values: float) -> None:
    """Raise UserError if one of a rule's numbers is negative, NaN or larger than LARGEST."""
    for name, value in values.items():
        if not 0 <= value <= LARGEST:
            raise UserError(f"{name} {value:g}: must be a number from 0 to {LARGEST:g}")


class _Plain:
    """A rule of the products a_i w_ij themselves."""

    mean: ClassVar[MeanShares] = "proportional"
    divides_by_z: ClassVar[bool] = False
    reads_input: ClassVar[bool] = False
    signs: ClassVar[Signs] = "z"

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        return None


@dataclass(frozen=True)
class Epsilon(_Plain):
    """R_i = sum_j z_ij / (z_j + eps sign z_j) R_j (Eq. 3); eps = 0 is the rule 0 of Eq. 2.

    Raises UserError unless eps >= 0: a reversed sign would amplify.
    """

    eps: float = 1e-6
    divides_by_z: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_not_negative(eps=self.eps)

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        return k.shares.joint(z_pos, z_neg, r, 0, self.eps)

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        return _joint_account(z_pos, z_neg, r, c_pos, c_neg, 0, self.eps)


@dataclass(frozen=True)
class Gamma(_Plain):
    """R_i = sum_j (z_ij + gamma z_ij^+) / (z_j + gamma z+_j) R_j where z_j >= 0, mirrored where z_j < 0."""

    gamma: float = 0.25
    eps: float = 0.0

    def __post_init__(self) -> None:
        _check_not_negative(gamma=self.gamma, eps=self.eps)

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        return k.shares.joint(z_pos, z_neg, r, self.gamma, self.eps)

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        return _joint_account(z_pos, z_neg, r, c_pos, c_neg, self.gamma, self.eps)


@dataclass(frozen=True)
class AlphaBeta(_Plain):
    """R_i = sum_j (alpha z_ij^+ / z+_j - beta z_ij^- / z-_j) R_j, alpha - beta = 1 (Eq. 4).

    A unit may have one side only. `literal` reads Eq. 4 with 0/0 = 0, as the authors' program does: the
    unit then hands down alpha or -beta times its relevance. It is the default, for it draws the paper's
    maps. `conserve` gives the side that exists the weight 1.
    Raises UserError unless alpha - beta = 1 and `one_sided` is one of the two.
    """

    alpha: float = 2.0
    beta: float = 1.0
    eps: float = 0.0
    one_sided: str = "literal"
    signs: ClassVar[Signs] = "R"

    def __post_init__(self) -> None:
        _check_not_negative(beta=self.beta, eps=self.eps)
        if not abs(self.alpha - self.beta - 1) <= 1e-12:
            raise UserError(f"alpha {self.alpha:g}, beta {self.beta:g}: alpha - beta must be 1 (Eq. 4)")
        if self.one_sided not in ("literal", "conserve"):
            raise UserError(f"one-sided units {self.one_sided!r}: choose literal or conserve")

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        conserve = self.one_sided == "conserve"
        return k.shares.apart(z_pos, z_neg, r, self.alpha, self.beta, self.eps, conserve)

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        conserve = self.one_sided == "conserve"
        return _apart_account(z_pos, z_neg, r, c_pos, c_neg, self.alpha, self.beta, self.eps, conserve)


@dataclass(frozen=True)
class ZPlus:
    """R_i = sum_j z_ij^+ / sum_i z_ij^+ R_j: alpha 1, beta 0 without the bias."""

    mean: ClassVar[MeanShares] = "proportional"
    divides_by_z: ClassVar[bool] = False
    reads_input: ClassVar[bool] = False
    signs: ClassVar[Signs] = "R"

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        return [(a, w, 0 * b)]

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        return k.shares.apart(z_pos, z_neg, r, 1, 0, 0, False)

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        return _apart_account(z_pos, z_neg, r, c_pos, c_neg, 1, 0, 0, False)


class _Positive:
    """A rule whose products are all >= 0: R_i = sum_j z_ij / z_j R_j over them."""

    divides_by_z: ClassVar[bool] = False  # theirs is a sum in which nothing cancels
    reads_input: ClassVar[bool] = False
    signs: ClassVar[Signs] = "none"

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        return k.shares.joint(z_pos, z_neg, r, 0, 0)

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        return _joint_account(z_pos, z_neg, r, c_pos, c_neg, 0, 0)


@dataclass(frozen=True)
class WSquare(_Positive):
    """R_i = sum_j w_ij² / sum_i w_ij² R_j: whatever the input is."""

    mean: ClassVar[MeanShares] = "equal"

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        return [(0 * a + 1, w * w, 0 * b)]


@dataclass(frozen=True)
class Flat(_Positive):
    """R_i = sum_j 1 / n_j R_j, n_j the inputs of j: whatever the input and the weights are."""

    mean: ClassVar[MeanShares] = "equal"

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        return [(0 * a + 1, 0 * w + 1, 0 * b)]


@dataclass(frozen=True)
class ZBox(_Positive):
    """z^B, for inputs between `low` and `high`: z_ij = (a_i - low) w_ij^+ + (a_i - high) w_ij^-.

    Raises UserError unless low < high, and for inputs that are not between them: products could be negative.
    """

    low: float = 0.0
    high: float = 1.0
    mean: ClassVar[MeanShares] = "proportional"
    reads_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not -LARGEST <= self.low < self.high <= LARGEST:
            raise UserError(
                f"bounds {self.low:g} and {self.high:g}: the low one must be below the high one, both "
                f"from {-LARGEST:g} to {LARGEST:g}"
            )

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        least, largest, beyond = float(a.min()), float(a.max()), _ROUNDING * (self.high - self.low)
        if not (self.low - beyond <= least and largest <= self.high + beyond):
            raise UserError(
                f"rule zbox is for inputs from {float(self.low):g} to {float(self.high):g}; these are from "
                f"{least:.4g} to {largest:.4g}: give their bounds, as in zbox:low=-3,high=3"
            )
        return [(a - self.low, w.clip(0, None), 0 * b), (a - self.high, w.clip(None, 0), 0 * b)]


def _joint_account(
    z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array, gamma: float, eps: float
) -> Taken:
    """u = R / (g+ z+ + g- z- + eps sign z), c± = g± u: the stabiliser keeps eps sign z u."""
    above = z_pos + z_neg >= 0
    pos, neg = np.where(above, 1 + gamma, 1), np.where(above, 1, 1 + gamma)
    eps_signed = np.where(above, eps, -eps)
    below = pos * z_pos + neg * z_neg + eps_signed
    alive = below != 0
    u = np.where(above, c_neg, c_pos)  # the side where g is 1
    rounding = (r - u * below) * alive + (pos * u - c_pos) * z_pos + (neg * u - c_neg) * z_neg
    return Taken(eps_signed * u * alive, 0 * r, r * ~alive, rounding)


def _apart_account(
    z_pos: Array,
    z_neg: Array,
    r: Array,
    c_pos: Array,
    c_neg: Array,
    alpha: float,
    beta: float,
    eps: float,
    conserve: bool,
) -> Taken:
    """c± = weight± R / (z± ± eps): each side that there is keeps ± eps c± and hands down the rest."""
    has_pos, has_neg = z_pos != 0, z_neg != 0
    both, none = has_pos & has_neg, ~has_pos & ~has_neg
    to_pos = np.where(both | (not conserve), alpha, 1) * has_pos
    to_neg = np.where(both | (not conserve), -beta, 1) * has_neg
    stabiliser = eps * (c_pos * has_pos - c_neg * has_neg)
    rounding = (to_pos * r - c_pos * (z_pos + eps)) * has_pos + (to_neg * r - c_neg * (z_neg - eps)) * has_neg
    left = (1 - to_pos - to_neg) * r
    return Taken(stabiliser, left * (has_pos ^ has_neg), r * none, rounding + left * both)
