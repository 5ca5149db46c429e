"""`python -m rotinv.survey.check survey.h5`: compare a simulated survey with the real one.

The real numbers are those of HiTS's test set. If a check fails, the program exits with status 1.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rotinv import cli
from rotinv.metrics import significance
from rotinv.nn.devices import get_kernels
from rotinv.runs import model
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.splits import BLOCK, Split
from rotinv.stamps.store import CHANNELS, SPLITS, StampStore
from rotinv.survey import kinds, low_end, measures, preview, selection
from rotinv.survey.gates import Gate
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import open_hdf5, reading_hdf5

SHOWN = slice(2, 10)  # of the tables: the quantiles from 1% to 95%
SAMPLE = 4000  # candidates, and as many artifacts, whose pixels are measured
BRIGHT = 30.0  # SNR of the candidates whose width is measured
EDGE = 5  # px: the stamp's rows at the top, where a candidate's light is faint
ONLY = "only a survey made by rotinv simulate can be checked"


class Columns(NamedTuple):
    """A split with all its columns."""

    stamps: Split
    label: np.ndarray
    snr: np.ndarray
    kind: np.ndarray
    image: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.preview is not None:
        preview.check(options.preview, overwrite=options.overwrite)
    network = None if options.run is None else model.load_model(options.run)
    _check_origin(options.survey)
    with StampStore(options.survey) as store:
        _check_names(store)
        full = {name: _columns(store.split(name)) for name in SPLITS if store.sizes[name]}
        split = _columns(store.split(options.split))
        print("\n".join(_tables(split)))
        gates = [*_distribution_gates(split), *low_end.share_gates(split.kind[split.label == 0])]
        gates += [*_pixel_gates(split), *_store_gates(full)]
        if network is not None:
            gates += _det_gates(network, split)
    if options.preview is not None:
        preview.draw(options.survey, options.preview, options.split, overwrite=options.overwrite)
    print("\n".join(str(gate) for gate in gates))
    failed = sum(not gate.passed for gate in gates)
    print(f"{options.survey}: {len(gates) - failed} of {len(gates)} gates passed")
    return 1 if failed else 0


def _check_origin(path: Path) -> None:
    """Raise UserError unless the HDF5 file was made by rotinv simulate."""
    with open_hdf5(path) as file, reading_hdf5(path):
        missing = [name for name in ("survey_version", "band", "seed") if name not in file.attrs]
    if missing:
        raise UserError(f"{path}: lacks the attribute '{missing[0]}'; {ONLY}")


def _check_names(store: StampStore) -> None:
    """Raise UserError unless channels and kinds are those of a survey."""
    if tuple(store.channels) != CHANNELS:
        raise UserError(f"{store.path}: has the channels {', '.join(store.channels)}; {ONLY}")
    if tuple(store.kinds) != kinds.KINDS:
        raise UserError(f"{store.path}: names other kinds of artifact; {ONLY}")


def _columns(split: Split) -> Columns:
    """The split's columns. Raises UserError if one is missing."""
    columns = {name: getattr(split, name) for name in ("label", "snr", "kind", "image")}
    for name, column in columns.items():
        if column is None:
            raise UserError(f"{split.path}: {split.name} lacks {name}; {ONLY}")
    return Columns(split, **columns)


def _tables(split: Columns) -> Iterator[str]:
    """SNR quantiles beside the real ones, and the share of each kind among its label."""
    for name, chosen, real in _populations(split):
        quantiles = np.quantile(chosen, selection.QUANTILES[SHOWN]) if chosen.size else np.full(8, np.nan)
        yield f"{name} ({chosen.size:,}): quantile, simulated, real"
        for q, a, b in zip(selection.QUANTILES[SHOWN], quantiles, real[SHOWN], strict=True):
            yield f"  {100 * q:5.1f}%{a:10.2f}{b:10.2f}"
    yield "kinds of artifact, share of all artifacts [95% interval]"
    artifact = split.kind[split.label == 0]
    for number, kind in enumerate(kinds.KINDS):
        interval = significance.wilson(int(np.sum(artifact == number)), artifact.size)
        if number and interval:
            low, high = (100 * end for end in interval)
            yield f"  {kind:<26}{100 * np.mean(artifact == number):7.2f}%   [{low:.2f}, {high:.2f}]"


def _populations(split: Columns) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    candidate = split.label == 1
    return (
        ("SNR of candidates", split.snr[candidate], selection.CANDIDATE_SNR),
        ("|SNR| of artifacts", np.abs(split.snr[~candidate]), selection.ARTIFACT_SNR),
    )


def _distribution_gates(split: Columns) -> Iterator[Gate]:
    for name, chosen, real in _populations(split):
        deviation, error = quantile_deviation(chosen, real)
        yield Gate(f"{name}: largest relative deviation, 1-95%", deviation, 0, 0.1, error)
    artifact = split.label == 0
    yield Gate("share of negative artifacts", float(np.mean(split.snr[artifact] < 0)), 0.27, 0.33)
    unequal = abs(2 * int(split.label.sum()) - split.label.size)
    yield Gate("candidates less artifacts, or the reverse", unequal, 0, max(1, 0.01 * split.label.size))
    kind_says = np.mean((split.kind == kinds.CANDIDATE) == (split.label == 1))
    yield Gate("labels that agree with their kind", float(kind_says), 1, 1)
    yield Gate(
        "error of the best SNR threshold (real: 0.215)", threshold_error(split.label, split.snr), 0.15, 0.3
    )


def quantile_deviation(snr: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The largest relative deviation of the quantiles of snr (N,) from the real ones, and its standard error.

    It is the largest relative to what is allowed, two standard errors; an error is sqrt(q (1 - q) / N) of the
    rank, times the slope of the table there.
    """
    if not snr.size:
        return float("nan"), 0.0
    q = selection.QUANTILES[SHOWN]
    deviation = np.abs(np.quantile(snr, q) / real[SHOWN] - 1)
    slopes = np.diff(np.log(real)) / np.diff(selection.QUANTILES)
    slope = np.minimum(slopes[SHOWN.start - 1 : SHOWN.stop - 1], slopes[SHOWN])
    error = slope * np.sqrt(q * (1 - q) / snr.size)
    worst = int(np.argmax(deviation - 2 * error))
    return float(deviation[worst]), float(error[worst])


def threshold_error(label: np.ndarray, snr: np.ndarray) -> float:
    """The smallest share of stamps (N,) that one threshold of the SNR can classify wrongly."""
    candidate = label[np.argsort(snr, kind="stable")] == 1
    missed = np.concatenate([[0], np.cumsum(candidate)])  # with the threshold above the first n
    accepted = np.count_nonzero(~candidate) - np.concatenate([[0], np.cumsum(~candidate)])
    return float((missed + accepted).min() / label.size)


def _pixel_gates(split: Columns) -> Iterator[Gate]:
    """The noise of template and science around candidates, and the width of bright candidates."""
    chosen = np.flatnonzero(split.label == 1)
    chosen = chosen[:: max(1, chosen.size // SAMPLE)]
    stamps, image = split.stamps.raw(chosen), split.image[chosen]
    for channel, name, ranges in (
        (0, "template", ((-0.1, 0.1), (-0.1, 0.1))),
        (1, "science", ((0.45, 0.75), (-0.1, 0.2))),
    ):
        for lag, span in zip((1, 2), ranges, strict=True):
            value, error = measures.correlation(stamps[:, :EDGE, :, channel], image, lag)
            yield Gate(f"noise correlation of {name} at lag {lag} px", value, *span, error)
    bright = stamps[split.snr[chosen] > BRIGHT]
    width = [measures.fwhm(one) for one in bright[:200, ..., 1]]
    yield Gate("FWHM of bright candidates, px", float(np.median(width)) if width else np.nan, 3.0, 4.0)
    yield Gate(
        "light of bright candidates, centre over edge", measures.concentration(bright[..., 2]), 3, np.inf
    )
    ratio = measures.pixel_snr(stamps[..., 3]) / split.snr[chosen]
    yield Gate("SNR of candidates from their pixels, over their SNR", float(np.median(ratio)), 0.95, 1.05)
    alike = float(np.mean(np.abs(ratio - 1) < 0.1))
    yield Gate("candidates whose pixels give their SNR to 10%", alike, 0.95, 1)
    yield Gate("artifacts whose pixels give their SNR to 25%", _artifacts_alike(split), 0.7, 1)
    corners = np.concatenate([stamps[:, :4, :4, 3], stamps[:, -4:, -4:, 3]], axis=1)
    yield Gate("noise of the SNR difference in the corners", measures.noise(corners), 0.8, 1)
    signs = [_sign_agrees(split, start) for start in range(0, len(split.stamps), BLOCK)]
    yield Gate("stamps whose centre has the sign of their SNR", float(np.concatenate(signs).mean()), 0.9, 1)


def _artifacts_alike(split: Columns) -> float:
    """The share of artifacts whose pixels reproduce their SNR. Those with defects of the variance do not."""
    chosen = np.flatnonzero(split.label == 0)
    chosen = chosen[:: max(1, chosen.size // SAMPLE)]
    ratio = measures.pixel_snr(split.stamps.raw(chosen)[..., 3]) / split.snr[chosen]
    return float(np.mean(np.abs(ratio - 1) < 0.25)) if chosen.size else float("nan")


def _sign_agrees(split: Columns, start: int) -> np.ndarray:
    """Whether the middle 3 x 3 pixels of each stamp of a block have the sign of its SNR."""
    block = split.stamps.raw(start, start + BLOCK)
    return block[:, 9:12, 9:12, 3].sum((1, 2)) * split.snr[start : start + BLOCK] > 0


def _det_gates(network: model.Model, split: Columns) -> Iterator[Gate]:
    """The DET curve of a trained network on the split's stamps."""
    if split.label.all() or not split.label.any():
        raise UserError(f"{split.stamps.path}: {split.stamps.name} has one class; a DET curve needs both")
    stamps = model.fit_split(network, split.stamps)
    (found,) = labelled_scores(get_kernels("cpu"), [network], stamps, np.arange(len(stamps))).values()
    yield from low_end.det_gates(found.label, found.probability)


def _store_gates(splits: dict[str, Columns]) -> Iterator[Gate]:
    """Checks of what must hold exactly in all splits."""
    names, shared, inexact, signs = list(splits), 0, 0, 0
    for n, name in enumerate(names):
        for other in names[n + 1 :]:
            shared += np.intersect1d(splits[name].image, splits[other].image).size
        for start in range(0, len(splits[name].stamps), BLOCK):
            template, science, difference, snr = np.moveaxis(
                splits[name].stamps.raw(start, start + BLOCK), -1, 0
            )
            inexact += int((difference != science - template).any((1, 2)).sum())
            signs += int((np.sign(snr) != np.sign(difference)).any((1, 2)).sum())
    yield Gate("images shared between splits", shared, 0, 0)
    yield Gate("stamps whose difference is not science - template", inexact, 0, 0)
    yield Gate("stamps whose SNR difference has another sign", signs, 0, 0)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        "survey.check", "Hold a simulated survey against the real one; exit 1 if a gate fails."
    )
    parser.add_argument("survey", type=Path, help="a stamp store made by rotinv simulate")
    parser.add_argument(
        "--split", choices=SPLITS, default="test", help="the split whose distributions are measured"
    )
    text = "also hold the DET curve of this trained network (10,000 iterations or more) against the real one"
    parser.add_argument("--run", type=Path, metavar="RUN", help=text)
    parser.add_argument("--preview", type=Path, metavar="PNG", help="also draw a contact sheet of it")
    cli.add_overwrite(parser)
    return parser


if __name__ == "__main__":
    cli.run("survey.check", main)
