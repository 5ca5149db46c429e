"""`python -m rotinv.evaluate`: how good a network is, or a table of scores, with intervals and thresholds."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rotinv import cli
from rotinv.metrics import classification_report, rates, scores
from rotinv.metrics.curves import evaluation_picture
from rotinv.metrics.scores import Scores
from rotinv.nn.devices import DEVICES, get_kernels
from rotinv.runs import thresholds
from rotinv.runs.model import Model, labelled_scores, open_models, open_stamps_for
from rotinv.stamps.splits import usable
from rotinv.stamps.store import SPLITS
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    *folders, last = options.inputs
    if options.out:
        refuse_existing(options.out)
        pictures.require_matplotlib()
    if folders:
        models = open_models(folders)
        each = _scored(models, last, options.split, options)
    else:
        each = {last.name: scores.read(last)}
    found = {name: classification_report.evaluate(one) for name, one in each.items()}
    title, final = last.name + (f", {options.split}" if folders else ""), list(found.values())[-1]
    if options.out:
        curves = {name: _curve(last, one) for name, one in each.items()}
        evaluation_picture(options.out, curves, final, title)
    if options.json:
        print(json.dumps({"scored": str(last), **final, "models": found if folders else {}}, indent=1))
    else:
        print(title, *classification_report.report_lines(final, found), sep="\n")
    if folders and options.keep:
        _keep(folders, models, last, options.split, found)
    return 0


def _scored(
    models: list[Model], path: Path, split_name: str, options: argparse.Namespace
) -> dict[str, Scores]:
    """Each model's scores of the stamps, by its name, and those of their vote where there are several."""
    k = get_kernels(options.device, options.threads)
    split = open_stamps_for(models[0], path, split_name)
    indices = usable(split, options.on_bad, progress=cli.progress_wanted())
    with tqdm(total=len(models) * len(indices), unit="stamps", disable=not cli.progress_wanted()) as bar:
        return labelled_scores(k, models, split, indices, bar.update)


def _curve(path: Path, one: Scores) -> tuple[np.ndarray, np.ndarray]:
    try:
        return rates.det_curve(one.label, one.probability)
    except ValueError as error:
        raise UserError(f"{path}: {error}; leave --out away") from error


def _keep(
    folders: Sequence[Path], models: list[Model], path: Path, split: str, found: dict[str, dict[str, Any]]
) -> None:
    """Keep the thresholds with the models, those of each and of all together."""
    about = {"stamps": str(path), "split": split}
    ones = [([folder], [model]) for folder, model in zip(folders, models, strict=True)]
    together = [(list(folders), models)] if len(models) > 1 else []
    for (where, of), one in zip([*ones, *together], found.values(), strict=True):
        if not (one["candidates"] and one["artifacts"]):  # the same stamps for all
            cli.warn(f"no thresholds are kept: {path} has stamps of one class only")
            return
        values = {float(f): np.inf if t is None else t for f, t in one["thresholds"].items()}
        thresholds.store(where, of, values, {**about, "artifacts": one["artifacts"]})
    cli.note(f"thresholds are kept in {', '.join(f'{f / thresholds.FILE}' for f in folders)}")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "evaluate",
        "Tell how good trained networks are on stamps, each alone and all by majority, or how good a table "
        "of scores is; keep the thresholds at fixed FPRs with the models, for score --at-fpr.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=Path,
        metavar="RUN STAMPS | SCORES",
        help="runs, then stamps (store, .npz); or scores: CSV of score, HDF5 with label, p_candidate",
    )
    add("--out", type=Path, metavar="FIG.png", help="draw DET and ROC curve, errors by SNR, calibration")
    add("--json", action="store_true", help="print JSON")
    add("--no-keep", dest="keep", action="store_false", help="do not keep the thresholds with the runs")
    add("--split", choices=SPLITS, default="test", help="of a stamp store")
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    add("--device", choices=DEVICES, default="cpu", help="where to compute")
    add("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    return parser


if __name__ == "__main__":
    cli.run("evaluate", main)
