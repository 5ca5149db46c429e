"""Trained networks as makers of a catalogue: the columns, the facts, and the rows of a block of stamps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv import __version__, ensembles, metrics, runs, scoring, subjects
from rotinv.alerts import FLAGS
from rotinv.backend import Kernels
from rotinv.catalogues import TEXT, Column, Fact
from rotinv.runs import Model
from rotinv.sources import Block

NOT_SCORED = -1  # the class of a stamp without a score
_KNOWN = {
    "object_id": Column("object_id", TEXT, "the survey's name of the object", "meta.id;src"),
    "candidate_id": Column("candidate_id", TEXT, "the survey's number of the detection", "meta.id"),
    "survey": Column("survey", TEXT, "ztf, lsst, or as the table says", "meta.curation"),
    "label": Column(
        "label", "uint8", "1 candidate, 0 artifact, as the stamps are labelled", "meta.code.class"
    ),
    "snr": Column("snr", "float32", "signal-to-noise ratio as the survey gives it", "stat.snr"),
}
_NORMALISATIONS = {
    "none": "(x - min) / (max - min) of each channel of each stamp",
    "minmax": "as the stamps are kept, scaled already",
}


@dataclass(frozen=True)
class Threshold:
    """Where p(candidate) makes a candidate, and the FPR that this was found for, if it was."""

    value: float = 0.5
    fpr: float | None = None


class Scorer:
    """One network, or several that vote, on a device."""

    def __init__(self, k: Kernels, models: Sequence[Model], threshold: Threshold) -> None:
        self.k, self.models, self.threshold = k, tuple(models), threshold
        self.names = subjects.unique_names(models)
        self._params = [k.asarray(model.params) for model in models]

    def columns(self, known: Sequence[str]) -> list[Column]:
        """The catalogue's columns, for stamps of which this is known (see sources.Source)."""
        p = self.k.dtype.name
        ids = [_KNOWN[name] for name in known if name in ("object_id", "candidate_id", "survey")]
        return [
            Column("index", "int64", "number of the stamp or alert, from 0", "meta.record"),
            *ids,
            Column("probability", p, "p(candidate), the models' median; NaN: no score", "stat.probability"),
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
        """What holds for all rows: versions, weights, threshold, how the pixels were scaled, the flags."""
        facts = [
            Fact("version", "RIVERSN", __version__),
            Fact("channels", "CHANNELS", ",".join(self.models[0].config.channels)),
            Fact("normalisation", "NORM", _NORMALISATIONS[normalisation]),
            Fact("threshold", "THRESH", self.threshold.value),
            Fact("threshold_fpr", "THRFPR", "none" if self.threshold.fpr is None else self.threshold.fpr),
        ]
        for i, (name, model) in enumerate(zip(self.names, self.models, strict=True), 1):
            facts += [
                Fact(f"model_{i}", f"MODEL{i}", name),
                Fact(f"model_{i}_sha256", f"MHASH{i}", runs.digest(model)),
                Fact(f"model_{i}_version", f"MVERS{i}", model.config.version),
            ]
        return [*facts, *(Fact(f"flag_{name}", f"FLAG{bit}", bit) for name, (bit, _) in FLAGS.items())]

    def rows(self, block: Block) -> dict[str, NDArray]:
        """The catalogue's rows, by column; stamps with pixels that are not finite get no score."""
        pairs = [
            scoring.with_rotation_std(self.k, model.network, params, block.stamps[block.scorable])
            for model, params in zip(self.models, self._params, strict=True)
        ]
        each = [_spread(block.scorable, p) for p, _ in pairs]
        probability = ensembles.majority(np.stack(each))
        vote = metrics.classify(probability, self.threshold.value).astype(np.int8)
        return {
            "index": block.index,
            **block.known,
            "probability": probability,
            "class": np.where(block.scorable, vote, np.int8(NOT_SCORED)),
            **{f"probability_{name}": p for name, p in zip(self.names, each, strict=True)},
            **{
                f"rotation_std_{name}": _spread(block.scorable, std)
                for name, (_, std) in zip(self.names, pairs, strict=True)
            },
            "flags": block.flags,
        }


def _spread(where: NDArray[np.bool_], values: NDArray) -> NDArray:
    """The values at their places, NaN elsewhere."""
    out = np.full(len(where), np.nan, dtype=values.dtype)
    out[where] = values
    return out
