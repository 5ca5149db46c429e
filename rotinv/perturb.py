"""`python -m rotinv.perturb`: how good each method's maps are, by perturbing the stamps or the weights."""

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
from rotinv.lrp import composites, heatmaps
from rotinv.lrp.quality import measures, perturbation, ways
from rotinv.lrp.quality.measures import MEASURES, Outcome, Row, Task
from rotinv.lrp.quality.perturbation import STEPS, How
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model, check_indices, open_models, open_stamps_for, stamps_as_read
from rotinv.stamps.splits import Split, usable
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole

_QUICK = tuple(method for method in heatmaps.METHODS if method not in ("integrated-gradients", "occlusion"))
_METHODS = f"of {', '.join(heatmaps.METHODS)} (default: all but the slow last two)"


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    chosen = ways.ways(options.methods, options.rule)
    _check(options)
    (model,) = open_models([options.run])
    for way in chosen:
        composites.named(way.rule).check(model.network.ruled)
    split = open_stamps_for(model, options.stamps, options.split)
    options.split = split.name
    indices = _indices(split, options)
    stamps = stamps_as_read(model, split, indices)
    how = _how(options, stamps.shape[1])
    k = get_kernels(options.device, options.threads)
    classes = _predicted(k, model, stamps)
    with tqdm(unit="stamps", disable=not cli.progress_wanted(), leave=False) as bar:
        task = Task(k, model, stamps, indices, classes, chosen, how, bar.update)
        bar.total = measures.work(options.measure, task)
        outcome = MEASURES[options.measure](task)
    _report(options, task, outcome)
    return 0


def _predicted(k: Kernels, model: Model, stamps: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class (n,) that the model predicts of each stamp."""
    score = ways.score_function(k, model, k.asarray(model.params), "logit")
    blocks = (stamps[at : at + heatmaps.BATCH] for at in range(0, len(stamps), heatmaps.BATCH))
    return np.concatenate([np.zeros(0, np.int64), *(ways.predicted(score(block)) for block in blocks)])


def _check(options: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together, and if what is asked for cannot be written."""
    if options.smooth and options.measure != "randomisation":
        raise UserError(f"--smooth: is of --measure randomisation, not of {options.measure}")
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
    steps = options.steps or (min(STEPS, most) if options.measure == "aopc" else most)
    if steps > most:
        regions = f"regions of {options.region}x{options.region} pixels"
        raise UserError(f"--steps {steps}: a stamp has {most} {regions}; ask for at most so many")
    return How(steps, options.region, options.draws, options.seed, options.of, options.smooth)


def _report(options: argparse.Namespace, task: Task, outcome: Outcome) -> None:
    """Write the files that are asked for, and print the table as text or JSON."""
    if options.csv:
        _write(options.csv, outcome.rows, options.overwrite)
    if options.out:
        figure = pictures.new_figure(width=8.5)
        outcome.draw(figure)
        figure.suptitle(
            f"{task.model.name}, {cli.counted(len(task.stamps), 'stamp')}\n{outcome.title}", size=10
        )
        pictures.save(figure, options.out, overwrite=options.overwrite)
    if options.json:
        print(json.dumps(_document(options, task, outcome), indent=1))
    else:
        print("\n".join(_lines(task, outcome)))


def _lines(task: Task, outcome: Outcome) -> Iterator[str]:
    yield f"{task.model.name}: {outcome.title}, {cli.counted(len(task.stamps), 'stamp')}; +- standard errors"
    yield from measures.lines(outcome)


def _write(path: Path, rows: list[Row], overwrite: bool) -> None:
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _document(options: argparse.Namespace, task: Task, outcome: Outcome) -> dict[str, Any]:
    """What --json prints; the standard error of a single stamp, which does not exist, is null."""
    settings = ("of", "steps", "region", "draws", "seed", "smooth")
    return {
        "run": task.model.name,
        "stamps": str(options.stamps),
        "measure": options.measure,
        **{name: getattr(task.how, name) for name in settings},
        "split": options.split,
        "device": options.device,
        "index": task.indices.tolist(),
        "table": [{key: None if cell != cell else cell for key, cell in row.items()} for row in outcome.rows],
        **outcome.curves,
    }


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _parser() -> cli.Parser:
    text = (
        "Measure how good maps are: replace regions of the stamps by noise, in the order of the maps (AOPC, "
        "insertion, deletion), or the weights, layer by layer (randomisation)."
    )
    parser = cli.Parser("perturb", text)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--measure", choices=tuple(MEASURES), default="aopc", help="what is measured (default: aopc)")
    add("--index", type=cli.integer(0), nargs="+", metavar="I", help="these stamps, in place of --count")
    add("--count", type=cli.integer(1), default=200, help="the first so many usable stamps")
    add("--methods", type=_names, default=list(_QUICK), metavar="A,B", help=_METHODS)
    add("--rule", nargs="+", default=[composites.DEFAULT], help=f"of lrp, one or more: {composites.HELP}")
    add(
        "--steps", type=cli.integer(1), metavar="L", help=f"regions replaced (default: all, for aopc {STEPS})"
    )
    add("--region", type=cli.integer(1, 21), default=3, metavar="PIXELS", help="side of a region")
    add("--draws", type=cli.integer(1), default=1, help="of the noise or the random weights; a stamp's mean")
    add("--seed", type=cli.integer(0), default=0, help="of the noise, the orders and the weights")
    add("--of", choices=("logit", "probability"), default="logit", help="f: whose fall is measured")
    add("--smooth", type=cli.integer(0), default=0, metavar="N", help="smooth MPRT: maps over N noisy copies")
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
