"""`python -m rotinv.evaluate`: how good a network is, or a table of scores, with intervals and thresholds."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rotinv import cli
from rotinv.metrics import calibrators, classification_report, operating, rates, scores
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.curves import evaluation_picture
from rotinv.metrics.operating import Night, OperatingPoint
from rotinv.metrics.scores import Scores
from rotinv.nn.devices import DEVICES, get_kernels
from rotinv.runs import calibrated, thresholds
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
    _check(options, last, bool(folders))
    models, fitted = [], {}
    if folders:
        models = open_models(folders)
        if options.calibrate:
            fitted = _fitted(models, last, options)
        each = _scored(models, last, options.split, options)
    else:
        each = {last.name: scores.read(last)}
    points = _points(list(each.values())[-1], options)
    fprs = sorted({*rates.FPRS, *options.fpr})
    found = {
        name: classification_report.evaluate(one, fprs, calibrator=fitted.get(name))
        for name, one in each.items()
    }
    if options.out:
        curves = {name: _curve(last, one) for name, one in each.items()}
        evaluation_picture(options.out, curves, list(found.values())[-1], _title(options))
    _report(options, found, points)
    if folders and options.keep:
        _keep(folders, models, last, options.split, found, fitted)
    return 0


def _title(options: argparse.Namespace) -> str:
    *folders, last = options.inputs
    return last.name + (f", {options.split}" if folders else "")


def _report(
    options: argparse.Namespace, found: dict[str, dict[str, Any]], points: list[OperatingPoint]
) -> None:
    """Print what was found, as text or JSON."""
    *folders, last = options.inputs
    final = list(found.values())[-1]
    if options.json:
        night = {"operating_points": [operating.as_json(point) for point in points]} if points else {}
        document = {"scored": str(last), **final, **night, "models": found if folders else {}}
        print(json.dumps(document, indent=1))
        return
    print(_title(options), *classification_report.report_lines(final, found), sep="\n")
    if points:
        print("", *operating.lines(points, _night(options)), sep="\n")


def _check(options: argparse.Namespace, last: Path, runs: bool) -> None:
    """Raise UserError for options that do not go together, before anything is computed."""
    if options.out:
        refuse_existing(options.out)
        pictures.require_matplotlib()
    if (options.prevalence is None) != (options.per_night is None):
        raise UserError("--prevalence and --per-night go together: the real share of a night, and its alerts")
    if options.best and options.prevalence is None:
        raise UserError("--best needs --prevalence and --per-night, which say what a night is")
    if options.calibrate and not runs:
        raise UserError(f"--calibrate: {last} is a table of scores; name runs and a store")
    if options.calibrate and last.suffix.lower() in (".npy", ".npz"):
        raise UserError(f"--calibrate: {last} has no validation split; rotinv pack makes a store with one")


def _night(options: argparse.Namespace) -> Night:
    return Night(options.prevalence, options.per_night)


def _points(one: Scores, options: argparse.Namespace) -> list[OperatingPoint]:
    """The operating points that are asked for. Raises UserError where the labelled stamps are too few."""
    artifacts = int(np.sum(one.label == 0))
    for fpr in options.fpr:
        operating.check_fpr(fpr, artifacts)
    if options.prevalence is None:
        return []
    fprs = options.fpr or [fpr for fpr in rates.FPRS if fpr * artifacts >= 1]
    try:
        points = operating.at_fprs(one.label, one.probability, fprs, _night(options))
        return points + operating.at_best(one.label, one.probability, options.best, _night(options))
    except ValueError as error:
        raise UserError(f"--prevalence: {error}") from error


def _fitted(models: list[Model], path: Path, options: argparse.Namespace) -> dict[str, Calibrator]:
    """A calibrator for each model and for their vote, fitted on the validation split."""
    each = _scored(models, path, "validate", options)
    return {
        name: calibrators.fit(options.calibrate, one.label, one.probability) for name, one in each.items()
    }


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
    folders: Sequence[Path],
    models: list[Model],
    path: Path,
    split: str,
    found: dict[str, dict[str, Any]],
    fitted: dict[str, Calibrator],
) -> None:
    """Keep the thresholds and the calibrators with the models, those of each and of all together."""
    about = {"stamps": str(path), "split": split}
    ones = [([folder], [model]) for folder, model in zip(folders, models, strict=True)]
    together = [(list(folders), models)] if len(models) > 1 else []
    for (where, of), (name, one) in zip([*ones, *together], found.items(), strict=True):
        if name in fitted:
            calibrated.store(where, of, fitted[name], {"stamps": str(path), "split": "validate"})
        if not (one["candidates"] and one["artifacts"]):  # the same stamps for all
            cli.warn(f"no thresholds are kept: {path} has stamps of one class only")
            return
        values = {float(f): np.inf if t is None else t for f, t in one["thresholds"].items()}
        thresholds.store(where, of, values, {**about, "artifacts": one["artifacts"]})
    if fitted:
        cli.note(f"calibrators are kept in {', '.join(f'{f / calibrated.FILE}' for f in folders)}")
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
    share = cli.number(0, 1, open_low=True, open_high=True)
    add("--fpr", type=share, nargs="+", default=[], metavar="F", help="further FPRs to find thresholds for")
    add("--prevalence", type=share, metavar="P", help="the share of a night's alerts that is real")
    add("--per-night", type=cli.integer(1), metavar="N", help="alerts a night: precision, and how many pass")
    add(
        "--best", type=cli.integer(1), nargs="+", default=[], metavar="K", help="recall at the best K a night"
    )
    add(
        "--calibrate",
        choices=calibrators.KINDS,
        help="fit a calibrator of p(candidate) on the store's validation split and keep it with the runs",
    )
    add("--no-keep", dest="keep", action="store_false", help="do not keep the thresholds with the runs")
    add("--split", choices=SPLITS, default="test", help="of a stamp store")
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    add("--device", choices=DEVICES, default="cpu", help="where to compute")
    add("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    return parser


if __name__ == "__main__":
    cli.run("evaluate", main)
