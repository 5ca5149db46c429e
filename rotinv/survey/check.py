"""`python -m rotinv.survey.check survey.h5`: hold a simulated survey against the real one.

Real figures are those of HiTS's test set. A gate that fails makes the program exit with 1.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from rotinv import cli
from rotinv.errors import UserError
from rotinv.splits import Split
from rotinv.stamps import SPLITS, StampStore
from rotinv.survey import selection

SHOWN = slice(2, 10)  # quantiles from 1% to 95% of the tables
NOISE_STAMPS = 2000  # stamps from which noise and widths are measured
EDGE = 5  # px: the stamp's rows at the top, where a candidate's light is faint


class Columns(NamedTuple):
    """A split with all its columns."""

    pixels: Any
    label: np.ndarray
    snr: np.ndarray
    kind: np.ndarray
    image: np.ndarray


class Gate(NamedTuple):
    """One line of the report."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies in its range (a NaN does not)."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name:<52}{self.value:10.4g}   [{self.low:g}, {self.high:g}]"


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    with StampStore(options.survey) as store:
        if list(store.channels) != ["template", "science", "difference", "snr_difference"]:
            raise UserError(
                f"{options.survey}: has the channels {', '.join(store.channels)}; "
                "check a survey made by rotinv simulate"
            )
        full = {name: _columns(store.split(name)) for name in SPLITS if store.sizes[name]}
        split = _columns(store.split(options.split))
        print("\n".join(_tables(split, list(store.kinds))))
        gates = [*_distribution_gates(split), *_pixel_gates(split), *_store_gates(full)]
    print("\n".join(str(gate) for gate in gates))
    failed = sum(not gate.passed for gate in gates)
    print(f"{options.survey}: {len(gates) - failed} of {len(gates)} gates passed")
    return 1 if failed else 0


def _columns(split: Split) -> Columns:
    """The split's columns. Raises UserError if one is missing."""
    if split.label is None or split.snr is None or split.kind is None or split.image is None:
        raise UserError(
            f"{split.path}: {split.name} lacks snr, kind or image; check a survey of rotinv simulate"
        )
    return Columns(split.pixels, split.label, split.snr, split.kind, split.image)


def _tables(split: Columns, kinds: list[str]) -> Iterator[str]:
    """SNR quantiles beside the real ones, and the share of each kind among its label."""
    for name, chosen, real in _populations(split):
        found = np.quantile(chosen, selection.QUANTILES[SHOWN]) if chosen.size else np.full(8, np.nan)
        yield f"{name} ({chosen.size:,}): quantile, simulated, real"
        for q, a, b in zip(selection.QUANTILES[SHOWN], found, real[SHOWN], strict=True):
            yield f"  {100 * q:5.1f}%{a:10.2f}{b:10.2f}"
    yield "kinds of artifact, share of all artifacts"
    artifact = split.kind[split.label == 0]
    for number, kind in enumerate(kinds):
        if number and artifact.size:
            yield f"  {kind:<26}{100 * np.mean(artifact == number):7.2f}%"


def _populations(split: Columns) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    candidate = split.label == 1
    return (
        ("SNR of candidates", split.snr[candidate], selection.CANDIDATE_SNR),
        ("|SNR| of artifacts", np.abs(split.snr[~candidate]), selection.ARTIFACT_SNR),
    )


def _distribution_gates(split: Columns) -> Iterator[Gate]:
    for name, chosen, real in _populations(split):
        found = np.quantile(chosen, selection.QUANTILES[SHOWN]) if chosen.size else np.full(8, np.nan)
        deviation = float(np.abs(found / real[SHOWN] - 1).max())
        yield Gate(f"{name}: largest relative deviation, 1-95%", deviation, 0, 0.1)
    artifact = split.label == 0
    yield Gate("share of negative artifacts", float(np.mean(split.snr[artifact] < 0)), 0.27, 0.33)
    yield Gate("share of candidates", float(np.mean(split.label)), 0.495, 0.505)
    kind_says = np.mean((split.kind == 0) == (split.label == 1))
    yield Gate("labels that agree with their kind", float(kind_says), 1, 1)


def _pixel_gates(split: Columns) -> Iterator[Gate]:
    """Noise of template and science about candidates, and the width of bright candidates."""
    chosen = np.flatnonzero(split.label == 1)
    stamps = (
        split.pixels[: chosen[min(NOISE_STAMPS, chosen.size) - 1] + 1]
        if chosen.size
        else np.empty((0, 21, 21, 4))
    )
    candidate = split.label[: len(stamps)] == 1
    corners = np.asarray(stamps)[candidate][:, :EDGE]
    for channel, name, ranges in (
        (0, "template", ((-0.1, 0.1), (-0.1, 0.1))),
        (1, "science", ((0.45, 0.75), (-0.1, 0.2))),
    ):
        for lag, span in zip((1, 2), ranges, strict=True):
            yield Gate(
                f"noise correlation of {name} at lag {lag} px", correlation(corners[..., channel], lag), *span
            )
    bright = np.asarray(stamps)[candidate & (split.snr[: len(stamps)] > 30)]
    width = [fwhm(image) for image in bright[:200, ..., 1]]
    yield Gate("FWHM of bright candidates, px", float(np.median(width)) if width else np.nan, 3.0, 4.0)
    moment = np.abs(bright[:, 8:13, 8:13, 2]).mean((1, 2)) / np.abs(bright[:, :3, :, 2]).mean((1, 2))
    yield Gate(
        "light of bright candidates, centre over edge",
        float(np.median(moment)) if len(moment) else np.nan,
        3,
        np.inf,
    )


def correlation(noise: np.ndarray, lag: int) -> float:
    """Median over patches (N, rows, columns) of the pixels' correlation at `lag` px along rows."""
    x = noise.astype(float) - noise.mean((1, 2), keepdims=True, dtype=float)
    variance = np.maximum(x.var((1, 2)), 1e-30)
    return (
        float(np.median((x[:, :, lag:] * x[:, :, :-lag]).mean((1, 2)) / variance)) if len(x) else float("nan")
    )


def fwhm(image: np.ndarray) -> float:
    """FWHM (px) of the Gaussian that fits the central 9 x 9 pixels best; NaN for none."""
    middle = image.shape[0] // 2
    core = image[middle - 4 : middle + 5, middle - 4 : middle + 5].astype(float)
    y, x = np.mgrid[-4:5, -4:5]

    def residual(parameters: np.ndarray) -> np.ndarray:
        height, y0, x0, sigma, floor = parameters
        return (height * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2)) + floor - core).ravel()

    fit = optimize.least_squares(
        residual, [core[4, 4], 0, 0, 1.5, 0], x_scale=[max(abs(core[4, 4]), 1), 1, 1, 1, 1]
    )
    return 2.3548 * abs(fit.x[3]) if fit.success else float("nan")


def _store_gates(splits: dict[str, Columns]) -> Iterator[Gate]:
    names, shared, inexact = list(splits), 0, 0
    for n, name in enumerate(names):
        for other in names[n + 1 :]:
            shared += np.intersect1d(splits[name].image, splits[other].image).size
        pixels = splits[name].pixels
        for start in range(0, len(pixels), 4096):
            block = np.asarray(pixels[start : start + 4096])
            inexact += int((block[..., 2] != block[..., 1] - block[..., 0]).any((1, 2)).sum())
    yield Gate("images shared between splits", shared, 0, 0)
    yield Gate("stamps whose difference is not science - template", inexact, 0, 0)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        "survey.check", "Hold a simulated survey against the real one; exit 1 if a gate fails."
    )
    parser.add_argument("survey", type=Path, help="a stamp store made by rotinv simulate")
    parser.add_argument(
        "--split", choices=SPLITS, default="test", help="the split whose distributions are measured"
    )
    return parser


if __name__ == "__main__":
    cli.run("survey.check", main)
