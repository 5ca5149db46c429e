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

from rotinv.alerts.stamp import FLAGS
from rotinv.catalogue.formats import TEXT, Column, Fact
from rotinv.catalogue.sources import Block, Source, ahead
from rotinv.lrp import attribution, map_files
from rotinv.lrp.attribution import Question
from rotinv.metrics import ensembles, rates
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.rates import NOT_SCORED
from rotinv.nn.contract import Kernels
from rotinv.runs import thresholds
from rotinv.runs.model import Model, unique_names, weights_digest
from rotinv.runs.predictions import score_rotations, score_stamps, score_with_rotation_std
from rotinv.stamps.alert_columns import ALERT_COLUMNS
from rotinv.system.errors import UserError
from rotinv.system.version import __version__

_KNOWN = {
    "object_id": Column("object_id", TEXT, "the survey's name of the object", "meta.id;src"),
    "candidate_id": Column("candidate_id", TEXT, "the survey's number of the detection", "meta.id"),
    "survey": Column("survey", TEXT, "ztf, lsst, or as the table says", "meta.curation"),
    "ra": Column("ra", "float64", "right ascension, ICRS", "pos.eq.ra;meta.main", "deg"),
    "dec": Column("dec", "float64", "declination, ICRS", "pos.eq.dec;meta.main", "deg"),
    "mjd": Column("mjd", "float64", "time of the exposure, in the survey's own scale", "time.epoch", "d"),
    "band": Column("band", TEXT, "filter", "instr.bandpass"),
    "magnitude": Column("magnitude", "float32", "of the difference, by the survey", "phot.mag", "mag"),
    "flux": Column("flux", "float32", "of the difference", "phot.flux", "nJy"),
    "survey_score": Column(
        "survey_score", "float32", "the survey's own score that the alert is real", "stat.probability"
    ),
    "survey_score_version": Column(
        "survey_score_version", TEXT, "name and version of the survey's score", "meta.version"
    ),
    "pixel_flags": Column(
        "pixel_flags", TEXT, "what the survey flags of the source's pixels", "meta.code.qual"
    ),
    "label": Column(
        "label", "uint8", "1 candidate, 0 artifact, as the stamps are labelled", "meta.code.class"
    ),
    "snr": Column("snr", "float32", "signal-to-noise ratio as the survey gives it", "stat.snr"),
}
_CALIBRATED = Column(
    "calibrated", "float64", "the probability as calibrated on labelled stamps", "stat.probability"
)
_NORMALISATIONS = {
    "none": "(x - min) / (max - min) of each channel of each stamp",
    "minmax": "as the stamps are kept, scaled already",
}


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
        self.names = unique_names(models)
        self._params = [k.asarray(model.params) for model in models]

    def columns(self, known: Sequence[str]) -> list[Column]:
        """The catalogue's columns, for stamps of which the values `known` are known (see sources.Source)."""
        p = self.k.dtype.name
        ids = [_KNOWN[name] for name in known if name in ALERT_COLUMNS]
        return [
            Column("index", "int64", "number of the stamp or alert, from 0", "meta.record"),
            *ids,
            Column("probability", p, "p(candidate), the models' median; NaN: no score", "stat.probability"),
            *([_CALIBRATED] if self.calibrator else []),
            Column("class", "int8", "1 candidate, 0 artifact, -1 no score: the vote", "meta.code.class"),
            *(_KNOWN[name] for name in known if _KNOWN[name] not in ids),
            *(Column(f"probability_{n}", p, f"p(candidate) by {n}", "stat.probability") for n in self.names),
            *(
                Column(f"rotation_std_{n}", p, f"std of {n}'s logit margin over the rotations", "stat.stdev")
                for n in self.names
            ),
            Column("flags", "uint32", "sum of the bits flag_... of the metadata", "meta.code"),
        ]

    def facts(self, normalisation: str) -> list[Fact]:
        """What holds for all rows: versions, weights, threshold, how the pixels were scaled, and the flags'
        meanings."""
        facts = [
            Fact("version", "RIVERSN", __version__),
            Fact("channels", "CHANNELS", ",".join(self.models[0].config.channels)),
            Fact("normalisation", "NORM", _NORMALISATIONS[normalisation]),
            Fact("threshold", "THRESH", self.threshold.value),
            Fact("threshold_fpr", "THRFPR", "none" if self.threshold.fpr is None else self.threshold.fpr),
            Fact("calibrator", "CALIBRAT", "none" if self.calibrator is None else self.calibrator.kind),
        ]
        for i, (name, model) in enumerate(zip(self.names, self.models, strict=True), 1):
            facts += [
                Fact(f"model_{i}", f"MODEL{i}", name),
                Fact(f"model_{i}_sha256", f"MHASH{i}", weights_digest(model)),
                Fact(f"model_{i}_version", f"MVERS{i}", model.config.version),
            ]
        return [*facts, *(Fact(f"flag_{name}", f"FLAG{bit}", bit) for name, (bit, _) in FLAGS.items())]

    def classes(self, stamps: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The classes (n,) that the catalogue gives to stamps (n, h, h, c) without NaN or infinite pixels."""
        each = [
            score_stamps(self.k, model.network, params, stamps)
            for model, params in zip(self.models, self._params, strict=True)
        ]
        return rates.classify(ensembles.majority(np.stack(each)), self.threshold.value)

    def committee(self, stamps: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """The logit margins (m, 4, n) of the m networks' rotations of stamps (n, h, h, c) that have values
        throughout, and the units (n, d) that the networks' last layers read, side by side."""
        found = [
            score_rotations(self.k, model.network, params, stamps)
            for model, params in zip(self.models, self._params, strict=True)
        ]
        return np.stack([one.margins for one in found]), np.hstack([one.units for one in found])

    def rows(self, block: Block) -> dict[str, NDArray]:
        """The catalogue's rows, by column. Stamps with NaN or infinite pixels have no score."""
        pairs = [
            score_with_rotation_std(self.k, model.network, params, block.stamps[block.scorable])
            for model, params in zip(self.models, self._params, strict=True)
        ]
        each = [_spread(block.scorable, p) for p, _ in pairs]
        probability = ensembles.majority(np.stack(each))
        vote = rates.classify(probability, self.threshold.value).astype(np.int8)
        return {
            "index": block.index,
            **block.known,
            "probability": probability,
            **({"calibrated": self.calibrator(probability)} if self.calibrator else {}),
            "class": np.where(block.scorable, vote, np.int8(NOT_SCORED)),
            **{f"probability_{name}": p for name, p in zip(self.names, each, strict=True)},
            **{
                f"rotation_std_{name}": _spread(block.scorable, std)
                for name, (_, std) in zip(self.names, pairs, strict=True)
            },
            "flags": block.flags,
        }


def _spread(where: NDArray[np.bool_], values: NDArray) -> NDArray:
    """An array with the values at the places `where` is true, and NaN elsewhere."""
    out = np.full(len(where), np.nan, dtype=values.dtype)
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
        classes = scorer.classes(stamps)
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
