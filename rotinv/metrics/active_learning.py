"""Which stamps to label next: those that networks doubt (query by committee), and no two alike (k-means++).

The committee are the four rotations of each network. With p_mr the probability of a stamp by network m's
rotation r, shifted so that the threshold lies at 1/2, p_m the mean over r, p the mean over m, and
H(p) = -p log2 p - (1 - p) log2 (1 - p), the *doubt* is the entropy of the committee's mean vote, and has
three parts, each of 0 to 1 bit::

    H(p) = mean_mr H(p_mr)                    nearness to the threshold: what each vote leaves open
         + mean_m (H(p_m) - mean_r H(p_mr))   disagreement of the rotations
         + H(p) - mean_m H(p_m)               disagreement of the networks

The last two are the Jensen-Shannon divergences of the votes: the mutual information of the answer and the
voter (Houlsby et al. 2011, BALD), which for a committee goes back to Seung et al. (1992); the whole is
uncertainty sampling (Lewis & Gale 1994).

The next stamp is drawn with the probability::

    P(i) ~ d_i² (2 h_i / mean h + p_i / mean p + (1 - p_i) / mean (1 - p))

where h is the doubt, p the mean vote, and d the distance from the nearest of those chosen already, in the
units that the networks' last layers read. d² alone is the seeding of k-means++ (Arthur & Vassilvitskii 2007),
which spreads over all kinds of stamps; the brackets are weights, as in BADGE (Ash et al. 2020). Half of them
go to what is in doubt, and a quarter each to what looks real and what looks bogus, however rare: on another
survey networks also err without a doubt, and few of what they doubt may be real.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial.distance import cdist

_LEAST = 2.0**-24  # as close to 0 and 1 as float32's probabilities come


class Doubt(NamedTuple):
    """What a committee says of stamps: its mean `vote` (n,), from 0 to 1, and what it leaves open, in bits
    (n,): three parts, whose sum is the doubt."""

    vote: NDArray[np.float64]
    nearness: NDArray[np.float64]
    rotations: NDArray[np.float64]
    networks: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The entropy of the committee's mean vote."""
        return self.nearness + self.rotations + self.networks


def doubt(margins: NDArray, threshold: float = 0.5) -> Doubt:
    """The doubt about stamps of which each network's rotations have these logit margins.

    Parameters
    ----------
    margins : array (m, 4, n)
        z_1 - z_0 of m networks, four rotations and n stamps.
    threshold : float
        The p(candidate) from which a stamp is a candidate.

    Returns
    -------
    Doubt
    """
    p = special.expit(np.asarray(margins, np.float64) - special.logit(np.clip(threshold, _LEAST, 1 - _LEAST)))
    vote = p.mean(axis=(0, 1))
    nearness, within = _entropy(p).mean(axis=(0, 1)), _entropy(p.mean(axis=1)).mean(axis=0)
    return Doubt(vote, nearness, _positive(within - nearness), _positive(_entropy(vote) - within))


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """H(p) in bits."""
    return np.asarray((special.entr(p) + special.entr(1 - p)) / np.log(2))


def _positive(divergence: NDArray[np.float64]) -> NDArray[np.float64]:
    """A divergence, which only rounding makes negative."""
    return np.maximum(divergence, 0)


def weights(doubt: NDArray, vote: NDArray) -> NDArray[np.float64]:
    """The weights (n,) of stamps with these doubts and mean votes: the brackets of the module's formula."""
    return 2 * _relative(doubt) + _relative(vote) + _relative(1 - vote)


def _relative(values: NDArray) -> NDArray[np.float64]:
    """Values in shares of their mean; ones where all are 0."""
    mean = values.mean()
    return np.asarray(values / mean, np.float64) if mean > 0 else np.ones(len(values))


def scaled_units(units: NDArray, networks: int = 1) -> NDArray[np.float64]:
    """Units (n, d) of several networks side by side, each network's scaled to a root mean square of 1 about
    their mean, and all divided by the root of their number: no network outweighs another."""
    parts = np.split(np.asarray(units, np.float64), networks, axis=1)
    centred = [part - part.mean(axis=0) for part in parts]
    size = [np.sqrt((part**2).sum(axis=1).mean()) for part in centred]
    return np.hstack([part / (rms or 1) for part, rms in zip(centred, size, strict=True)]) / np.sqrt(networks)


def spread(
    weight: NDArray, units: NDArray, count: int, known: NDArray | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw stamps by weight and distance, as the module says.

    Parameters
    ----------
    weight : array (n,)
        What is in the brackets; above 0.
    units : array (n, d)
        Where each is.
    count : int
        How many are wanted; n if there are fewer.
    known : array (k, d), optional
        Places that are taken already.
    seed : int
        The draws are a function of it.

    Returns
    -------
    chosen : array (count,)
        Their numbers, the first chosen first.
    distance : array (count,)
        To the nearest one chosen before it, or known; infinite for the first of all.
    """
    rng = np.random.default_rng(seed)
    taken = np.empty((0, units.shape[1])) if known is None else known
    nearest = cdist(units, taken).min(axis=1, initial=np.inf)
    left = np.ones(len(weight), bool)
    chosen, distance = [], []
    for _ in range(min(count, len(weight))):
        place = _draw(rng, weight, nearest, left)
        chosen.append(place)
        distance.append(nearest[place])
        left[place] = False
        nearest = np.minimum(nearest, cdist(units, units[place : place + 1])[:, 0])
    return np.array(chosen, np.int64), np.array(distance)


def _draw(rng: np.random.Generator, weight: NDArray, nearest: NDArray, left: NDArray[np.bool_]) -> int:
    """One of the stamps that are left; where all distances are infinite, or 0, they do not count."""
    share = np.where(left, weight, 0)
    if np.isfinite(nearest).all() and (share * nearest).any():
        share = share * nearest**2
    return int(rng.choice(len(share), p=share / share.sum()))
