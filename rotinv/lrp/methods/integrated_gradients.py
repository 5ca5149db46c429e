"""Integrated gradients (Sundararajan et al. 2017): derivatives summed along the way from a black stamp.

With x' the black stamp and f what is explained,

    R_i = (x_i - x'_i) integral_0^1 df/dx_i (x' + t (x - x')) dt

and at a layer inside the network the conductance (Dhamdhere et al. 2019): the integral of df/da_i over a_i
along the same way. Both are complete: sum_i R_i = f(x) - f(x'), at every layer. The integrals are taken by
the trapezoidal rule over STEPS steps, and `Completeness` tells what that leaves unaccounted for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import targets
from rotinv.lrp.methods import derivatives
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network

STEPS = 64
MOST_LEFT = 0.05  # of f(x) - f(x'): a map that leaves more unaccounted for is doubtful


def maps(
    k: Kernels, network: Network, params: Array, x: Array, target: targets.Target, steps: int = STEPS
) -> tuple[Array, list[Array]]:
    """The logits that are explained, and the map at each layer's input, then at the logits.

    Parameters
    ----------
    k, network, params : the kernels, the network, and its parameters on their device
    x : (n, h, h, c), stamps as the network reads them, on the device
    target : what is explained (rotinv/lrp/targets.py), of the classes that it means for `x`
    steps : into how many parts the way is divided

    Raises
    ------
    UserError
        For a target that the logits do not have, and if a logit is not finite.
    """
    logits = network.forward(k, params, x)
    fixed = targets.of_same_classes(k, logits, target)
    before, slopes = _at(k, network, params, 0 * x, fixed)
    found = [0 * a for a in before]
    for step in range(1, steps + 1):
        after, more = _at(k, network, params, k.asarray(x * (step / steps)), fixed)
        parts = zip(slopes, more, before, after, strict=True)
        found = [r + (d + e) / 2 * (b - a) for r, (d, e, a, b) in zip(found, parts, strict=True)]
        before, slopes = after, more
    return logits, found


def _at(
    k: Kernels, network: Network, params: Array, x: Array, target: targets.Target
) -> tuple[list[Array], list[Array]]:
    """What the layers read at one place of the way, then the logits; and the derivatives by them."""
    inputs, tape = derivatives.record(k, network, params, x, exact_z=True)
    d = targets.gradient(k, inputs[-1], target)
    return inputs, derivatives.descend(k, network, params, tape, d)


@dataclass(frozen=True)
class Completeness:
    """The account of a stamp's map by integrated gradients: whole = black + map + left.

    `whole` is f(x), `black` f of the black stamp, `map` the map's sum; `left`, the completeness error, comes
    of the finite number of steps, and of rounding.
    """

    whole: float
    black: float
    map: float

    @property
    def left(self) -> float:
        """What the black stamp and the map do not account for."""
        return self.whole - self.black - self.map

    @property
    def doubts(self) -> list[str]:
        """Why the map misleads: more is left than the share MOST_LEFT of f(x) - f(x')."""
        if abs(self.left) <= MOST_LEFT * abs(self.whole - self.black):
            return []
        whole = self.whole - self.black
        return [f"the map by integrated gradients leaves {self.left:.2g} of {whole:.2g} unaccounted for"]

    def __str__(self) -> str:
        return (
            f"of {self.whole:.4g}, a black stamp gets {self.black:.4g} and the map holds {self.map:.4g}; "
            f"completeness leaves {self.left:.2g}"
        )


def completeness(
    k: Kernels, network: Network, params: NDArray, stamps: NDArray, sums: NDArray, target: targets.Target
) -> list[Completeness]:
    """The accounts of stamps (n, h, h, c) whose maps have these sums (n,)."""
    own, x = k.asarray(params), k.asarray(stamps)
    logits = network.forward(k, own, x)
    fixed = targets.of_same_classes(k, logits, target)
    whole = targets.values(k, logits, fixed)
    black = targets.values(k, network.forward(k, own, 0 * x), fixed)
    return [
        Completeness(*map(float, row)) for row in zip(whole, black, np.asarray(sums, np.float64), strict=True)
    ]
