"""Trained networks as makers of a catalogue: the columns, the facts, and the rows of a block of stamps.

Also chooses which of the scored stamps are explained by LRP, for the class that the catalogue gives them.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv.catalogue import columns
from rotinv.catalogue.formats import Column, Fact
from rotinv.catalogue.sources import Block, Source, ahead
from rotinv.lrp import attribution, map_files
from rotinv.lrp.attribution import Question
from rotinv.metrics import ensembles
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.rates import NOT_SCORED
from rotinv.nn.contract import Kernels
from rotinv.runs import thresholds
from rotinv.runs.model import Model, unique_names
from rotinv.runs.predictions import class_probabilities, score_rotations
from rotinv.stamps.classes import TWO
from rotinv.system.errors import UserError
from rotinv.system.messages import counted


@dataclass(frozen=True)
class Threshold:
    """The p(candidate) from which a stamp is called a candidate, and the FPR that this was chosen for, if
    any."""

    value: float = 0.5
    fpr: float | None = None

    @classmethod
    def at(cls, folders: Sequence[Path], models: Sequence[Model], fpr: float | None) -> "Threshold":
        """The threshold that evaluate kept with these runs for a FPR; 0.5 without one.

        Raises UserError if none is kept.
        """
        return cls() if fpr is None else cls(thresholds.find(folders, models, fpr), fpr)

    @property
    def chosen(self) -> float | None:
        """The threshold if it was chosen for a FPR, else None."""
        return None if self.fpr is None else self.value

    def __str__(self) -> str:
        return f"{self.value:.9g}" + (f" (FPR {self.fpr:g})" if self.fpr is not None else "")


class Scorer:
    """One network, or several that vote, on a device."""

    def __init__(
        self,
        k: Kernels,
        models: Sequence[Model],
        threshold: Threshold,
        calibrator: Calibrator | None = None,
    ) -> None:
        self.k, self.models, self.threshold, self.calibrator = k, tuple(models), threshold, calibrator
        self.names, self.classes = unique_names(models), models[0].config.classes
        self._params = [k.asarray(model.params) for model in models]

    def columns(self, known: Sequence[str]) -> list[Column]:
        """The catalogue's columns, for stamps of which the values `known` are known (see sources.Source)."""
        dtype = self.k.dtype.name
        return columns.of_networks(self.names, self.classes, dtype, known, self.calibrator is not None)

    def facts(self, normalisation: str) -> list[Fact]:
        """What holds for all rows: versions, weights, threshold, how the pixels were scaled, and the flags'
        meanings."""
        threshold = None if self._by_most_probable else self.threshold.value
        decided = threshold, self.threshold.fpr, self.calibrator
        return columns.facts(self.names, self.models, normalisation, *decided)

    @property
    def decision(self) -> str:
        """How the class is found, in words."""
        if self._by_most_probable:
            return "by the most probable class"
        return f"at the threshold {self.threshold}"

    def counted(self, candidates: int) -> str:
        """A number of candidates, in words."""
        name = self.classes.names[self.classes.candidate]
        return counted(candidates, name) if self.classes == TWO else f"{candidates:,} {name}"

    @property
    def _by_most_probable(self) -> bool:
        return len(self.classes) > 2 and self.threshold.chosen is None

    def decided(self, stamps: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The classes (n,) that the catalogue gives to stamps (n, h, h, c) without NaN or infinite pixels."""
        each = [
            class_probabilities(self.k, model.network, params, stamps)
            for model, params in zip(self.models, self._params, strict=True)
        ]
        return self.classes.decide(ensembles.majority(np.stack(each)), self.threshold.chosen)

    def committee(self, stamps: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """The logit margins (m, 4, n) of the m networks' rotations of stamps (n, h, h, c) that have values
        throughout, and the units (n, d) that the networks' last layers read, side by side."""
        found = [
            score_rotations(self.k, model.network, params, stamps, self.classes.candidate)
            for model, params in zip(self.models, self._params, strict=True)
        ]
        return np.stack([one.margins for one in found]), np.hstack([one.units for one in found])

    def rows(self, block: Block) -> dict[str, NDArray]:
        """The catalogue's rows, by column. Stamps with NaN or infinite pixels have no score."""
        candidate = self.classes.candidate
        found = [
            score_rotations(self.k, model.network, params, block.stamps[block.scorable], candidate)
            for model, params in zip(self.models, self._params, strict=True)
        ]
        each = [_spread(block.scorable, one.probabilities) for one in found]
        voted = ensembles.majority(np.stack(each))
        vote = self.classes.decide(voted, self.threshold.chosen).astype(np.int8)
        probability = voted[:, candidate]
        return {
            "index": block.index,
            **block.known,
            **self._labels(block),
            "probability": probability,
            **({"calibrated": self.calibrator(probability)} if self.calibrator else {}),
            "class": np.where(block.scorable, vote, np.int8(NOT_SCORED)),
            **{f"p_{name}": voted[:, number] for number, name in enumerate(self.classes.further)},
            **{f"probability_{name}": p[:, candidate] for name, p in zip(self.names, each, strict=True)},
            **{
                f"rotation_std_{name}": _spread(block.scorable, one.margins.std(axis=0))
                for name, one in zip(self.names, found, strict=True)
            },
            "flags": block.flags,
        }

    def _labels(self, block: Block) -> dict[str, NDArray]:
        """Of more than two classes: whether a stamp is labelled as the candidate, and its label itself."""
        if not self.classes.further or "label" not in block.known:
            return {}
        label = block.known["label"]
        return {"label": self.classes.is_candidate(label), "label_class": label}


def _spread(where: NDArray[np.bool_], values: NDArray) -> NDArray:
    """An array with the values (n, …) at the places `where` is true, and NaN elsewhere."""
    out = np.full((len(where), *values.shape[1:]), np.nan, dtype=values.dtype)
    out[where] = values
    return out


NEAR = 100  # stamps nearest the threshold that are explained, if no number is given
_TOGETHER = 500  # stamps that are explained at a time, since a stamp's maps are large
QUESTION = Question()
_FORMS = "near-threshold, near-threshold K, top K or all"


class Work(Protocol):
    """The scoring of a source, in this process or in others; a context manager."""

    def __enter__(self) -> "Work": ...

    def __exit__(self, *raised: object) -> None: ...

    def rows(self) -> Iterator[dict[str, NDArray]]:
        """The catalogue's rows in order, a part at a time."""

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read, so far."""

    def explain(
        self, indices: NDArray[np.int64], writer: map_files.Writer, progress: Callable[[int], object]
    ) -> None:
        """Write the explanations of the stamps with these numbers; `progress` is called with each block's
        count."""


class Here:
    """Scoring in this process. A thread reads ahead of the kernels."""

    def __init__(self, scorer: Scorer, source: Source) -> None:
        self._scorer, self._source = scorer, source

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *raised: object) -> None:
        return None

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read, so far."""
        return self._source.problems

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[dict[str, NDArray]]:
        """The catalogue's rows from `start` up to `stop` (default: all) in order, a block at a time."""
        stop = len(self._source) if stop is None else stop
        with contextlib.closing(ahead(self._source.blocks(start, stop))) as blocks:
            for block in blocks:
                yield self._scorer.rows(block)

    def explain(
        self, indices: NDArray[np.int64], writer: map_files.Writer, progress: Callable[[int], object]
    ) -> None:
        """Write the explanations of the stamps with these numbers; `progress` is called with each block's
        count."""
        explain(self._scorer, self._source, indices, writer, progress)


class Choice:
    """Chooses among the rows of a catalogue, block by block: those nearest the threshold, the highest, or
    all."""

    def __init__(self, words: Sequence[str], threshold: float) -> None:
        self._kind, self._threshold = words[0], threshold
        counts = [int(word) for word in words[1:] if word.isdecimal()]
        wanted = {"near-threshold": (0, 1), "top": (1,), "all": (0,)}.get(self._kind, ())
        if len(counts) != len(words) - 1 or len(counts) not in wanted or 0 in counts:
            raise UserError(f"--explain {' '.join(words)}: is none of {_FORMS}")
        self._count = counts[0] if counts else NEAR
        self._index, self._key = np.zeros(0, np.int64), np.zeros(0)  # of the chosen, the best first
        self._all: list[NDArray[np.int64]] = []

    def add(self, rows: dict[str, NDArray]) -> None:
        """Look at rows. Those without a score are never chosen."""
        p = np.asarray(rows["probability"], np.float64)
        scored = np.isfinite(p)
        key = np.abs(p - self._threshold) if self._kind == "near-threshold" else -p
        if self._kind == "all":
            self._all.append(rows["index"][scored])
            return
        index = np.concatenate([self._index, rows["index"][scored]])
        key = np.concatenate([self._key, key[scored]])
        best = np.lexsort((index, key))[: self._count]
        self._index, self._key = index[best], key[best]

    @property
    def indices(self) -> NDArray[np.int64]:
        """The numbers of the chosen stamps, the nearest or highest first."""
        return np.concatenate([self._index, *self._all])


def explain(
    scorer: Scorer,
    source: Source,
    indices: NDArray[np.int64],
    writer: map_files.Writer,
    progress: Callable[[int], object],
) -> None:
    """Write the explanations of the stamps with these numbers; `progress` is called with each block's count.

    Each network's maps are of the class that the catalogue gives (by the vote, at the threshold), even where
    the network alone would give the other.
    """
    for start in range(0, len(indices), _TOGETHER):
        stamps, columns = gather(source, indices[start : start + _TOGETHER])
        classes = scorer.decided(stamps)
        writer.append(
            columns, attribution.answers(scorer.k, scorer.models, stamps, QUESTION, classes=classes)
        )
        progress(len(stamps))


def gather(source: Source, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """The stamps with these numbers and what is known of them, in this order; they are read in the source's
    own order."""
    order = np.argsort(indices)
    folder = np.split(indices[order], np.flatnonzero(np.diff(indices[order]) != 1) + 1)
    blocks = [block for run in folder for block in source.blocks(int(run[0]), int(run[-1]) + 1)]
    places = np.argsort(order)
    columns = [{"indices": block.index, **block.known, "flags": block.flags} for block in blocks]
    return (
        np.concatenate([block.stamps for block in blocks])[places],
        {name: np.concatenate([rows[name] for rows in columns])[places] for name in columns[0]},
    )
