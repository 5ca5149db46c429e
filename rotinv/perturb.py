"""`python -m rotinv.perturb`: how good each method's maps are, by region perturbation (AOPC)."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.lrp import heatmaps, perturbation, rules
from rotinv.lrp.perturbation import RANDOM, Result, Way, aopc_rows, maps_of, score_function
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import DEVICES, get_kernels
from rotinv.runs.model import Model, check_indices, open_models, open_stamps_for, stamps_as_read
from rotinv.stamps.splits import Split, usable
from rotinv.stamps.store import SPLITS
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole

STEPS = 30  # regions replaced where no number is asked for


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    ways = _ways(options)
    _check_files(options)
    (model,) = open_models([options.run])
    split = open_stamps_for(model, options.stamps, options.split)
    indices = _indices(split, options)
    stamps = stamps_as_read(model, split, indices)
    regions = perturbation.region_of_pixels(stamps.shape[1], options.region)
    options.steps = _steps(options, int(regions.max()) + 1)
    k = get_kernels(options.device, options.threads)
    _report(options, model, indices, list(_results(k, model, ways, stamps, indices, regions, options)))
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """Raise UserError if what is asked for cannot be written."""
    for path in (options.csv, options.out):
        if path:
            refuse_existing(path)
    if options.out:
        if options.out.suffix.lower() not in perturbation.PICTURE_FORMATS:
            formats = " or ".join(perturbation.PICTURE_FORMATS)
            raise UserError(f"{options.out}: pictures are {formats}; name it so")
        pictures.require_matplotlib()


def _indices(split: Split, options: argparse.Namespace) -> NDArray[np.int64]:
    """The stamps that are perturbed."""
    if options.index:
        return check_indices(split, options.index)
    return usable(split, options.on_bad)[: options.count]


def _steps(options: argparse.Namespace, most: int) -> int:
    """L. Raises UserError if a stamp has not so many regions."""
    if options.steps is None:
        return min(STEPS, most)
    if options.steps > most:
        raise UserError(
            f"--steps {options.steps}: a stamp has {most} {_regions(options)}; ask for at most so many"
        )
    return int(options.steps)


def _report(
    options: argparse.Namespace, model: Model, indices: NDArray[np.int64], results: list[Result]
) -> None:
    """Write the files that are asked for, and print the table as text or JSON."""
    rows = list(aopc_rows(results))
    if options.csv:
        _write(options.csv, rows)
    if options.out:
        perturbation.draw_curves(
            options.out,
            {result.name: result.drops for result in results},
            f"{options.of} of the class predicted at first",
            f"{model.name}, {len(indices)} stamps, {_regions(options)}",
        )
    if options.json:
        print(json.dumps(_document(options, model, indices, results, rows), indent=1))
    else:
        print("\n".join(_lines(options, model, len(indices), rows)))


def _ways(options: argparse.Namespace) -> list[Way]:
    """All that is compared. Raises UserError for an unknown method or rule."""
    for method in options.methods:
        if method not in heatmaps.METHODS:
            raise UserError(
                f"--methods {method}: is not known; choose of {','.join(heatmaps.METHODS)} "
                "(random is always there)"
            )
    for rule in options.rules:
        rules.named(rule)
    ways = []
    for method in dict.fromkeys(options.methods):
        if method == "lrp":
            ways += [Way(f"lrp {rule}", method, rule) for rule in dict.fromkeys(options.rules)]
        else:
            ways.append(Way(method, method, options.rules[0]))
    return ways


def _results(
    k: Kernels,
    model: Model,
    ways: list[Way],
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    regions: NDArray[np.int64],
    options: argparse.Namespace,
) -> Iterator[Result]:
    """The drops by each way, then by random orders, a block of stamps at a time."""
    params = k.asarray(model.params)
    score = score_function(k, model, params, options.of)
    blocks = [slice(start, start + heatmaps.BATCH) for start in range(0, len(stamps), heatmaps.BATCH)]
    total = (len(ways) + 1) * len(stamps)
    with tqdm(total=total, unit="stamps", disable=not sys.stderr.isatty(), leave=False) as bar:
        for way in [*ways, Way(RANDOM, RANDOM, "")]:
            parts = []
            for block in blocks:
                x, here = stamps[block], indices[block]
                maps = None if way.name == RANDOM else maps_of(k, model, params, x, way)
                parts.append(_drops(score, x, here, maps, way, regions, options))
                bar.update(len(x))
            yield Result(way.name, np.concatenate(parts))


def _drops(
    score: Callable[[NDArray], NDArray],
    x: NDArray[np.float32],
    indices: NDArray[np.int64],
    maps: NDArray | None,
    way: Way,
    regions: NDArray[np.int64],
    options: argparse.Namespace,
) -> NDArray[np.float64]:
    """The drops of stamps, the mean over the draws; without maps each draw has its own random order."""
    found = []
    for draw in range(options.draws):
        if maps is None:
            order = perturbation.random_ranks(indices, int(regions.max()) + 1, options.seed, draw)
        else:
            order = perturbation.ranks(maps, regions, way.method)
        replacement = perturbation.noise(indices, x.shape[1:], options.seed, draw)
        found.append(perturbation.drops(score, x, order, regions, replacement, options.steps))
    return np.mean(found, axis=0)


def _lines(
    options: argparse.Namespace, model: Model, count: int, rows: list[dict[str, Any]]
) -> Iterator[str]:
    yield (
        f"{model.name}: AOPC of the {options.of} over {options.steps} {_regions(options)}, {count} stamps; "
        "+- standard errors"
    )
    yield f"{'method':<30}{'AOPC':>10}{'+-':>9}{'above random':>15}{'+-':>9}"
    for row in sorted(rows, key=lambda row: -row["aopc"]):
        yield (
            f"{row['method']:<30}{row['aopc']:>10.4f}{row['error']:>9.4f}"
            f"{row['above_random']:>15.4f}{row['above_random_error']:>9.4f}"
        )


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _document(
    options: argparse.Namespace,
    model: Model,
    indices: NDArray[np.int64],
    results: list[Result],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """What --json prints; an error that one stamp does not have is null."""
    settings = ("of", "steps", "region", "draws", "seed", "split", "device")
    return {
        "run": model.name,
        "stamps": str(options.stamps),
        **{name: getattr(options, name) for name in settings},
        "index": indices.tolist(),
        "table": [{key: None if value != value else value for key, value in row.items()} for row in rows],
        "mean_drop": {result.name: result.drops.mean(axis=0).tolist() for result in results},
    }


def _regions(options: argparse.Namespace) -> str:
    return f"regions of {options.region}x{options.region} pixels"


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
    add("--rules", type=_names, default=["alpha2beta1"], metavar="A,B", help="of lrp, each compared")
    add("--steps", type=cli.integer(1), metavar="L", help=f"regions replaced (default: {STEPS}, or all)")
    add("--region", type=cli.integer(1, 21), default=3, metavar="PIXELS", help="side of a region")
    add("--draws", type=cli.integer(1), default=1, help="of the noise and the random order; a stamp's mean")
    add("--seed", type=cli.integer(0), default=0, help="of the noise and the random orders")
    add("--of", choices=("logit", "probability"), default="logit", help="f: whose fall is measured")
    add("--split", choices=SPLITS, default="test", help="of a stamp store")
    add("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    add("--out", type=Path, metavar="FIG", help="draw the curves (.png or .pdf)")
    add("--json", action="store_true", help="print the table and the curves as JSON")
    add("--device", choices=DEVICES, default="cpu", help="where to compute")
    add("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    return parser


if __name__ == "__main__":
    cli.run("perturb", main)
