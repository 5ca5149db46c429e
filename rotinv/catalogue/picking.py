"""The stamps of a source that are worth labelling: one pass over it, then the choice (active_learning.py).

In memory are the scores of up to twice SHORTLIST stamps, whatever the source's size: of a larger one, those
of the largest doubt, and as many drawn at random for what else there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.catalogue.formats import Column
from rotinv.catalogue.scorer import Scorer, gather
from rotinv.catalogue.sources import Block, Source, ahead
from rotinv.metrics import active_learning
from rotinv.system.errors import UserError

SHORTLIST = 100_000  # stamps
COLUMNS = (
    Column("order", "int64", "1 is the first chosen: label in this order", "meta.record"),
    Column("vote", "float64", "mean vote of networks and rotations; 0.5 at the threshold", "stat.value"),
    Column("doubt", "float64", "entropy of the mean vote: the sum of the next three", "stat.value", "bit"),
    Column(
        "nearness", "float64", "nearness to the threshold: mean entropy of the votes", "stat.value", "bit"
    ),
    Column("rotations", "float64", "disagreement of the four rotations", "stat.value", "bit"),
    Column("networks", "float64", "disagreement of the networks", "stat.value", "bit"),
    Column("distance", "float64", "to the nearest chosen before, in the last layer's units", "stat.value"),
)

Chosen = dict[str, NDArray[Any]]
IsLabelled = Callable[[Block], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Picks:
    """The chosen stamps (n, h, h, c) as the network reads them, the first chosen first.

    `rows` are those of their catalogue and of COLUMNS; `without_score` and `labelled` are how many stamps of
    the source could not be chosen for that.
    """

    stamps: NDArray[np.float32]
    rows: Chosen
    without_score: int
    labelled: int


def columns(scorer: Scorer, known: Sequence[str]) -> list[Column]:
    """The columns of Picks.rows for stamps of which this is known: COLUMNS, then the catalogue's."""
    return [*COLUMNS, *scorer.columns(known)]


def pick(
    scorer: Scorer,
    source: Source,
    count: int,
    is_labelled: IsLabelled | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda stamps: None,
) -> Picks:
    """Choose stamps to label.

    Parameters
    ----------
    scorer : Scorer
        The networks, and the threshold near which they are in doubt.
    source : Source
        The stamps.
    count : int
        How many are wanted; all, if there are fewer.
    is_labelled : callable, optional
        Which stamps of a block are labelled already: these are not chosen, nor any that is like them.
    seed : int
        The choice is a function of it.
    progress : callable, optional
        Told how many stamps were looked at.

    Returns
    -------
    Picks

    Raises
    ------
    UserError
        If no stamp is left to choose from.
    """
    shortlist = _Shortlist(max(SHORTLIST, count), seed)
    labelled: list[NDArray] = []
    without_score = 0
    for block in ahead(source.blocks(0, len(source))):
        block, missing = _scorable(block)
        without_score += missing
        margins, units = scorer.committee(block.stamps)
        done = is_labelled(block) if is_labelled else np.zeros(len(units), bool)
        labelled.append(units[done])
        parts = active_learning.doubt(margins, scorer.threshold.value)
        rows = {"doubt": parts.total, **parts._asdict(), "index": block.index, "units": units}
        shortlist.add({name: values[~done] for name, values in rows.items()})
        progress(len(block.index) + missing)
    known = np.concatenate(labelled)
    if not len(shortlist.rows["index"]):
        why = f"{len(known):,} are labelled already, {without_score:,} have no score"
        raise UserError(f"{source.paths[0]}: no stamp is left to choose ({why})")
    stamps, rows = _finished(scorer, source, _chosen(shortlist.rows, known, count, len(scorer.models), seed))
    return Picks(stamps, rows, without_score, len(known))


class _Shortlist:
    """Of all rows that were added, those of the largest doubt, and as many drawn at random."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._rng = size, np.random.default_rng([seed, 1])
        self.rows: Chosen = {}

    def add(self, rows: Chosen) -> None:
        rows = {**rows, "lot": self._rng.uniform(size=len(rows["doubt"]))}
        if self.rows:
            rows = {name: np.concatenate([self.rows[name], values]) for name, values in rows.items()}
        first = [np.argsort(-rows[key], kind="stable")[: self._size] for key in ("doubt", "lot")]
        kept = np.union1d(*first)
        self.rows = {name: values[kept] for name, values in rows.items()}


def _scorable(block: Block) -> tuple[Block, int]:
    """The stamps of a block that have values throughout, and how many have not."""
    good = block.scorable
    if good.all():
        return block, 0
    known = {name: values[good] for name, values in block.known.items()}
    arrays = (block.index[good], block.stamps[good], good[good], block.flags[good])
    return Block(*arrays, known), int(np.sum(~good))


def _chosen(rows: Chosen, known: NDArray, count: int, networks: int, seed: int) -> Chosen:
    """The rows that are drawn, in their order, with it and their distances."""
    units = active_learning.scaled_units(np.concatenate([rows["units"], known]), networks)
    here, weights = len(rows["index"]), active_learning.weights(rows["doubt"], rows["vote"])
    chosen, distance = active_learning.spread(weights, units[:here], count, units[here:], seed)
    found = {name: values[chosen] for name, values in rows.items() if name not in ("units", "lot")}
    return {"order": np.arange(1, len(chosen) + 1), **found, "distance": distance}


def _finished(scorer: Scorer, source: Source, rows: Chosen) -> tuple[NDArray[np.float32], Chosen]:
    """The chosen stamps, read again, and their rows with all that the catalogue has of them."""
    stamps, known = gather(source, rows["index"])
    index, flags = known.pop("indices"), known.pop("flags")
    block = Block(index, stamps, np.ones(len(stamps), bool), flags, known)
    return stamps, {**scorer.rows(block), **rows}
