"""Which scored stamps are explained, and their explanations: by LRP, for the class that is predicted."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv import explanations, map_files
from rotinv.errors import UserError
from rotinv.explanations import Question
from rotinv.scorer import Scorer
from rotinv.sources import Source, ahead

NEAR = 100  # stamps, where no number is given
_TOGETHER = 500  # stamps that are read and explained together: a stamp's maps are large
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
        """Write the explanations of the stamps of these numbers; `progress` is told of every block."""


class Here:
    """Scoring in this process: a thread reads ahead of the kernels."""

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
        """Write the explanations of the stamps of these numbers; `progress` is told of every block."""
        explain(self._scorer, self._source, indices, writer, progress)


class Choice:
    """Chooses among rows of a catalogue as they pass: those nearest the threshold, the highest, or all."""

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
        """Look at rows; those without a score are never chosen."""
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
        """The numbers of those chosen, the nearest or highest first."""
        return np.concatenate([self._index, *self._all])


def explain(
    scorer: Scorer,
    source: Source,
    indices: NDArray[np.int64],
    writer: map_files.Writer,
    progress: Callable[[int], object],
) -> None:
    """Write the explanations of the stamps of these numbers; `progress` is told of every block."""
    for start in range(0, len(indices), _TOGETHER):
        stamps, columns = _gather(source, indices[start : start + _TOGETHER])
        answers = [
            explanations.joined(list(explanations.explain(scorer.k, model, stamps, QUESTION)), name)
            for model, name in zip(scorer.models, scorer.names, strict=True)
        ]
        writer.append(columns, answers)
        progress(len(stamps))


def _gather(
    source: Source, indices: NDArray[np.int64]
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """The stamps of these numbers and what is known of them, in this order but read in the source's own."""
    order = np.argsort(indices)
    runs = np.split(indices[order], np.flatnonzero(np.diff(indices[order]) != 1) + 1)
    blocks = [block for run in runs for block in source.blocks(int(run[0]), int(run[-1]) + 1)]
    places = np.argsort(order)
    columns = [{"indices": block.index, **block.known, "flags": block.flags} for block in blocks]
    return (
        np.concatenate([block.stamps for block in blocks])[places],
        {name: np.concatenate([one[name] for one in columns])[places] for name in columns[0]},
    )
