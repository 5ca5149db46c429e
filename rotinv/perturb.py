"""`python -m rotinv.perturb`: how good each method's maps are, by region perturbation (AOPC)."""

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.lrp import composites, heatmaps, perturbation
from rotinv.lrp.perturbation import STEPS, How, Result, aopc_rows
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model, check_indices, open_models, open_stamps_for, stamps_as_read
from rotinv.stamps.splits import Split, usable
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    ways = perturbation.ways(options.methods, options.rule)
    _check_files(options)
    (model,) = open_models([options.run])
    for way in ways:
        composites.named(way.rule).check(model.network.ruled)
    split = open_stamps_for(model, options.stamps, options.split)
    options.split = split.name
    indices = _indices(split, options)
    stamps = stamps_as_read(model, split, indices)
    how = _how(options, stamps.shape[1])
    k = get_kernels(options.device, options.threads)
    total = (len(ways) + 1) * len(stamps)
    with tqdm(total=total, unit="stamps", disable=not cli.progress_wanted(), leave=False) as bar:
        results = list(perturbation.measure(k, model, stamps, indices, ways, how, bar.update))
    _report(options, model, indices, how, results)
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """Raise UserError if what is asked for cannot be written."""
    for path in (options.csv, options.out):
        if path:
            refuse_existing(path, options.overwrite)
    if options.out:
        pictures.check_format(options.out)
        pictures.require_matplotlib()


def _indices(split: Split, options: argparse.Namespace) -> NDArray[np.int64]:
    """The stamps that are perturbed."""
    if options.index:
        return check_indices(split, options.index)
    return usable(split, options.on_bad)[: options.count]


def _how(options: argparse.Namespace, size: int) -> How:
    """How stamps of size x size pixels are perturbed. Raises UserError if they have too few regions."""
    most = int(perturbation.region_of_pixels(size, options.region).max()) + 1
    how = How(
        min(STEPS, most) if options.steps is None else options.steps,
        options.region,
        options.draws,
        options.seed,
        options.of,
    )
    if how.steps > most:
        raise UserError(f"--steps {how.steps}: a stamp has {most} {_regions(how)}; ask for at most so many")
    return how


def _report(
    options: argparse.Namespace, model: Model, indices: NDArray[np.int64], how: How, results: list[Result]
) -> None:
    """Write the files that are asked for, and print the table as text or JSON."""
    rows = list(aopc_rows(results))
    if options.csv:
        _write(options.csv, rows, options.overwrite)
    if options.out:
        figure = pictures.new_figure(width=8.5)
        axes = perturbation.draw_drops(
            {result.name: result.drops for result in results},
            f"{how.of} of the class predicted at first",
            figure.subplots(),
        )
        axes.set_title(f"{model.name}, {len(indices)} stamps, {_regions(how)}", size=10)
        pictures.save(figure, options.out, overwrite=options.overwrite)
    if options.json:
        print(json.dumps(_document(options, model, indices, how, results, rows), indent=1))
    else:
        print("\n".join(_lines(how, model, len(indices), rows)))


def _lines(how: How, model: Model, count: int, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        f"{model.name}: AOPC of the {how.of} over {how.steps} {_regions(how)}, {count} stamps; "
        "+- standard errors"
    )
    wide = max(30, *(len(row["method"]) + 2 for row in rows))
    yield f"{'method':<{wide}}{'AOPC':>12}{'+-':>12}{'above random':>15}{'+-':>12}"
    for row in sorted(rows, key=lambda row: -row["aopc"]):
        cells = (_number(row[name]) for name in ("aopc", "error", "above_random", "above_random_error"))
        yield f"{row['method']:<{wide}}" + "".join(
            f" {cell:>{width - 1}}" for cell, width in zip(cells, (12, 12, 15, 12), strict=True)
        )


def _number(value: float) -> str:
    """With four decimals, or, where that takes too much room, with four digits and an exponent."""
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.3e}"


def _write(path: Path, rows: list[dict[str, Any]], overwrite: bool) -> None:
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _document(
    options: argparse.Namespace,
    model: Model,
    indices: NDArray[np.int64],
    how: How,
    results: list[Result],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """What --json prints; the standard error of a single stamp, which does not exist, is null."""
    return {
        "run": model.name,
        "stamps": str(options.stamps),
        **{name: getattr(how, name) for name in ("of", "steps", "region", "draws", "seed")},
        "split": options.split,
        "device": options.device,
        "index": indices.tolist(),
        "table": [{key: None if value != value else value for key, value in row.items()} for row in rows],
        "mean_drop": {result.name: result.drops.mean(axis=0).tolist() for result in results},
    }


def _regions(how: How) -> str:
    return f"regions of {how.region}x{how.region} pixels"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _parser() -> cli.Parser:
    text = "Measure how good maps are: replace regions by noise, the most relevant first (AOPC)."
    parser = cli.Parser("perturb", text)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--index", type=cli.integer(0), nargs="+", metavar="I", help="these stamps, in place of --count")
    add("--count", type=cli.integer(1), default=200, help="the first so many usable stamps")
    add("--methods", type=_names, default=list(heatmaps.METHODS), metavar="A,B", help="of explain's methods")
    add("--rule", nargs="+", default=[composites.DEFAULT], help=f"of lrp, one or more: {composites.HELP}")
    add("--steps", type=cli.integer(1), metavar="L", help=f"regions replaced (default: {STEPS}, or all)")
    add("--region", type=cli.integer(1, 21), default=3, metavar="PIXELS", help="side of a region")
    add("--draws", type=cli.integer(1), default=1, help="of the noise and the random order; a stamp's mean")
    add("--seed", type=cli.integer(0), default=0, help="of the noise and the random orders")
    add("--of", choices=("logit", "probability"), default="logit", help="f: whose fall is measured")
    cli.add_split(parser)
    cli.add_overwrite(parser)
    add("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    add("--out", type=Path, metavar="FIG", help="draw the curves (.png or .pdf)")
    add("--json", action="store_true", help="print the table and the curves as JSON")
    cli.add_device(parser)
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    return parser


if __name__ == "__main__":
    cli.run("perturb", main)
