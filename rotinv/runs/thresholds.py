"""Thresholds at fixed FPRs, kept in a run's folder for the model and its ensembles (see kept.py)."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rotinv.metrics import rates
from rotinv.metrics.scores import Scores
from rotinv.runs import kept
from rotinv.runs.model import Model
from rotinv.system.errors import UserError
from rotinv.system.messages import counted

FILE = "thresholds.json"


def store(
    folders: Sequence[str | Path],
    models: Sequence[Model],
    by_fpr: Mapping[float, float],
    about: Mapping[str, Any],
) -> None:
    """Keep thresholds by FPR in each run's folder, in place of those of the same models, whatever these are.

    `about` says which stamps they are from. An infinite threshold, which accepts nothing, is kept as null.
    Raises UserError if a folder cannot be written.
    """
    values = {f"{fpr:g}": value if math.isfinite(value) else None for fpr, value in by_fpr.items()}
    kept.keep(FILE, folders, models, {**about, "thresholds": values})


class Kept(NamedTuple):
    """What `keep` did: the thresholds by FPR of the vote, or of the only model; None if others stayed.
    `stayed` are the entries of the runs' files that were not replaced."""

    thresholds: dict[float, float] | None
    stayed: list[dict[str, Any]]


def keep(
    folders: Sequence[str | Path],
    models: Sequence[Model],
    scores: Mapping[str, Scores],
    about: Mapping[str, Any],
    fprs: Sequence[float] = rates.FPRS,
    replace: bool = True,
) -> Kept:
    """Choose thresholds at FPRs and keep them in the runs' folders: those of each model, and of several also
    their vote's.

    `scores` are those of predictions.labelled_scores, and `about` says which stamps they are of: `stamps`, a
    path, and `split`. Without `replace`, thresholds that other stamps with more artifacts have fixed stay:
    their FPR is surer. Raises UserError if the stamps are of one class only, or a folder cannot be written.
    """
    if not both_classes(scores):
        raise UserError("no thresholds are kept: the stamps are of one class only")
    by_fpr, stayed = None, []
    for (where, of), one in zip(owners(folders, models), scores.values(), strict=True):
        entry = {**about, "artifacts": int(np.sum(one.label == 0))}
        before = None if replace else kept.find(FILE, where, of)
        if before and _is_surer(before, entry):
            stayed.append(before)
            by_fpr = None
        else:
            by_fpr = {fpr: rates.threshold_at_fpr(one.label, one.probability, fpr) for fpr in fprs}
            store(where, of, by_fpr, entry)
    return Kept(by_fpr, stayed)


def cautions(kept: Kept, about: Mapping[str, Any], artifacts: int) -> list[str]:
    """What a user must know of what was kept: the thresholds that stayed, and those of too few artifacts."""
    stamps = about["stamps"]
    told = [
        f"thresholds of {' and '.join(one['models'])} stay those of {counted(one['artifacts'], 'artifact')} "
        f"('{one['split']}' of {one['stamps']}): {stamps} has {artifacts:,} only; --keep replaces them"
        for one in kept.stayed
    ]
    few = [f"{fpr:g}" for fpr in rates.FPRS if fpr * artifacts < 1]
    if kept.thresholds is not None and few:
        told.append(
            f"{stamps}: '{about['split']}' has only {counted(artifacts, 'artifact')}, too few to fix a "
            f"threshold for FPR {', '.join(few)}; the thresholds kept there accept none of them, and the "
            "true FPR may be higher"
        )
    return told


def _is_surer(before: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the file is of other stamps, and of more artifacts, than a new one."""
    other = any(before.get(name) != entry[name] for name in ("stamps", "split"))
    return other and before.get("artifacts", 0) > entry["artifacts"]


def owners(
    folders: Sequence[str | Path], models: Sequence[Model]
) -> list[tuple[list[str | Path], list[Model]]]:
    """The folders and models of each entry to keep: each model alone and, if there are several, all
    together."""
    ones: list[tuple[list[str | Path], list[Model]]] = [
        ([folder], [model]) for folder, model in zip(folders, models, strict=True)
    ]
    return [*ones, (list(folders), list(models))] if len(models) > 1 else ones


def both_classes(scores: Mapping[str, Scores]) -> bool:
    """Whether the stamps are of both classes: else there is no FPR or no FNR. All models scored the same
    stamps."""
    label = next(iter(scores.values())).label
    return 0 < int(label.sum()) < len(label)


def at_fpr(folders: Sequence[str | Path], models: Sequence[Model], fpr: float | None) -> list[Model]:
    """Models that each decide at their own threshold for an FPR, as `find` finds it; as they are without
    one."""
    if fpr is None:
        return list(models)
    pairs = zip(folders, models, strict=True)
    return [replace(model, threshold=find([folder], [model], fpr)) for folder, model in pairs]


def find(folders: Sequence[str | Path], models: Sequence[Model], fpr: float) -> float:
    """The threshold at an FPR for a model, or for several together.

    Raises UserError if none is kept, or if the FPR is not above 0 and at most 1.
    """
    if not isinstance(fpr, Real) or not 0 < fpr <= 1:
        raise UserError(f"FPR {fpr!r}: give a number above 0 and at most 1")
    path = Path(folders[0]) / FILE
    entry = kept.find(FILE, folders, models)
    if entry is None:
        remedy = f"rotinv evaluate {shlex.join(map(str, folders))} STAMPS finds and keeps them"
        raise UserError(f"{path}: has no thresholds of these weights; {remedy}")
    values = entry.get("thresholds")
    if not isinstance(values, dict):
        raise kept.damaged(path, "an entry has no thresholds")
    if f"{fpr:g}" not in values:
        known = ", ".join(values)
        remedy = f"rotinv evaluate … --fpr {fpr:g} finds it"
        raise UserError(f"{path}: has no threshold at FPR {fpr:g}, but those at {known}; {remedy}")
    if values[f"{fpr:g}"] is None:
        raise UserError(f"{path}: at FPR {fpr:g} no threshold rejects enough artifacts; ask for a higher FPR")
    return float(values[f"{fpr:g}"])
