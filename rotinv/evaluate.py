"""`python -m rotinv.evaluate`: how good a network is, or a table of scores, with intervals and thresholds."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rotinv import cli
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import first_of
from rotinv.catalogue import sources
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.catalogue.unlabelled import score_unlabelled
from rotinv.metrics import calibrators, operating, rates, scores
from rotinv.metrics.agreement import agreement, agreement_lines
from rotinv.metrics.calibrators import Calibrator
from rotinv.metrics.classification_report import Evaluation
from rotinv.metrics.curves import Agreement, agreement_picture, evaluation_picture
from rotinv.metrics.operating import Night, OperatingPoint
from rotinv.metrics.report_text import kept_lines
from rotinv.metrics.scores import Scores, Unlabelled
from rotinv.nn.devices import get_kernels
from rotinv.runs import calibrated, folder, thresholds
from rotinv.runs.model import Model, open_models, open_stamps_for
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.opening import has_splits
from rotinv.stamps.splits import Split, usable
from rotinv.stamps.store import StampStore
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing

_REMEDY = "rotinv import_alerts --labels makes a store of alerts that has some"
_CHOSEN_ON = "validate"  # thresholds and calibrators are not to be chosen on the stamps of the test


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    of_runs = len(options.inputs) > 1
    folders, paths = folder.runs_and_stamps(options.inputs) if of_runs else ([], options.inputs)
    _check(options, folders, paths)
    models = open_models(folders) if folders else []
    split = _labelled(models, paths, options)
    if split:
        each: dict[str, Scores] | Unlabelled = _scored(models, split, options)
    else:
        each = _unlabelled(models, paths, options) if models else _read(paths[0], options)
    if isinstance(each, Unlabelled):
        _agree(each, paths, options)
        return 0
    tested, fitted = list(each.values())[-1], {}
    if split:
        chosen, on = _chosen(models, paths[0], split, each, options)
        fitted = _fitted(on, options)
    points = _points(tested, options)
    title = f"{paths[0].name}, {split.name}" if split else paths[0].name
    found = Evaluation(title, each, sorted({*rates.FPRS, *options.fpr}), fitted)
    if options.out:
        _draw(options, found, each, title)
    kept = None
    if split and not options.no_keep:
        about = {"stamps": str(paths[0]), "split": chosen}
        _keep_calibrators(folders, models, about, fitted)
        kept = _keep_thresholds(folders, models, about, on, options)
    if split and kept:
        at = rates.at_thresholds(tested.label, tested.probability, kept.pop("at"))
        kept |= {"on": split.name, "at_fpr": at}
    _report(options, found, points, kept)
    return 0


def _labelled(models: list[Model], paths: list[Path], options: argparse.Namespace) -> Split | None:
    """The labelled stamps that are named; None for a table of scores, for alerts, and for a store of them
    that has the survey's own scores in place of labels."""
    if not models or not sources.is_store(paths[0]):
        return None
    split = open_stamps_for(models[0], paths[0], options.split)
    return None if split.label is None and split.alerts else split


def _unlabelled(models: list[Model], paths: list[Path], options: argparse.Namespace) -> Unlabelled:
    """The scores of alerts without labels, those of each model and of their vote, and the survey's own."""
    profiles = tuple(read_profile(path) for path in options.profile)
    source = sources.open_source(models[0], paths, options.split, profiles)
    scorer = Scorer(get_kernels(options.device, options.threads, options.precision), models, Threshold())
    with tqdm(total=len(source), unit="stamps", disable=not cli.progress_wanted()) as bar:
        found = score_unlabelled(scorer, source, bar.update)
    cli.warn(*first_of(source.problems))
    return found


def _agree(found: Unlabelled, paths: list[Path], options: argparse.Namespace) -> None:
    """Tell how scores of stamps without labels agree with the survey's own."""
    for name in ("fpr", "prevalence", "calibrate"):
        if getattr(options, name):
            raise UserError(f"--{name}: {paths[0]} has no labels, and only they tell how good scores are")
    title = paths[0].name if len(paths) == 1 else cli.counted(len(paths), "file")
    rows = agreement(found.probability, found.survey, cut=options.survey_cut)
    if not rows:
        raise UserError(
            f"{paths[0]}: has no labels, and no scores of the survey's own to compare with; {_REMEDY}"
        )
    if options.out:
        drawn = Agreement.of(rows, found.probability, found.survey)
        agreement_picture(options.out, drawn, title, overwrite=options.overwrite)
    if options.json:
        print(json.dumps({"scored": title, "agreement": rows}, indent=1))
    else:
        print(f"{title}, no labels: {_REMEDY}", *agreement_lines(rows), sep="\n")


def _draw(options: argparse.Namespace, found: Evaluation, each: dict[str, Scores], title: str) -> None:
    """Draw the curves; beside them, where the survey has scores of its own, how these agree."""
    last, drawn = list(each.values())[-1], None
    if found.get("agreement") and last.survey:
        probability = {name: one.probability for name, one in each.items()}
        drawn = Agreement.of(found["agreement"], probability, last.survey, last.label)
    evaluation_picture(
        options.out, found.curves(), found["models"], title, drawn, overwrite=options.overwrite
    )


def _fitted(on: dict[str, Scores], options: argparse.Namespace) -> dict[str, Calibrator]:
    """The calibrators that are asked for, of each model and of their vote."""
    if not options.calibrate:
        return {}
    return {name: calibrators.fit(options.calibrate, one.label, one.probability) for name, one in on.items()}


def _report(
    options: argparse.Namespace, found: Evaluation, points: list[OperatingPoint], kept: dict[str, Any] | None
) -> None:
    """Print what was found, as text or JSON."""
    if options.json:
        night = {"operating_points": [operating.as_json(point) for point in points]} if points else {}
        document = {**found, "scored": str(options.inputs[-1]), **night, "kept": kept}
        print(json.dumps(document, indent=1))
        return
    print(found, *(kept_lines(kept) if kept else []), sep="\n")
    if points:
        print("", *operating.lines(points, _night(options)), sep="\n")


def _check(options: argparse.Namespace, folders: list[Path], paths: list[Path]) -> None:
    """Raise UserError for options that do not go together, before anything is computed."""
    last = paths[-1]
    if len(paths) > 1 and sources.is_store(paths[0]):
        raise UserError(f"{paths[1]}: is named after {paths[0]}, which is evaluated by itself")
    if options.out:
        refuse_existing(options.out, options.overwrite)
        pictures.check_format(options.out)
        pictures.require_matplotlib()
    if (options.prevalence is None) != (options.per_night is None):
        raise UserError("--prevalence and --per-night go together: the real share of a night, and its alerts")
    if options.best and options.prevalence is None:
        raise UserError("--best needs --prevalence and --per-night, which say what a night is")
    if options.calibrate and not folders:
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
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--prevalence: {error}") from error


def _read(path: Path, options: argparse.Namespace) -> dict[str, Scores] | Unlabelled:
    """A table of scores; stamps without a score are left out, and told."""
    found = scores.read_any(path, options.on_bad)
    if found.missing:
        cli.note(f"{path}: {cli.counted(found.missing, 'stamp')} without a score left out")
    return found if isinstance(found, Unlabelled) else {path.name: found}


def _scored(models: list[Model], split: Split, options: argparse.Namespace) -> dict[str, Scores]:
    """Each model's scores of the stamps, by its name, and those of their vote where there are several."""
    k = get_kernels(options.device, options.threads, options.precision)
    indices = usable(split, options.on_bad, progress=cli.progress_wanted())
    with tqdm(total=len(models) * len(indices), unit="stamps", disable=not cli.progress_wanted()) as bar:
        return labelled_scores(k, models, split, indices, bar.update)


def _chosen(
    models: list[Model], path: Path, split: Split, each: dict[str, Scores], options: argparse.Namespace
) -> tuple[str, dict[str, Scores]]:
    """The split on which thresholds and calibrators are chosen, and the scores of its stamps.

    It is the store's split validate, or, where it has none, the stamps that are evaluated.
    """
    if (options.no_keep and not options.calibrate) or not has_splits(path) or split.name == _CHOSEN_ON:
        return split.name, each
    with StampStore(path) as store:
        if not store.sizes[_CHOSEN_ON] and not options.calibrate:
            return split.name, each
    return _CHOSEN_ON, _scored(models, open_stamps_for(models[0], path, _CHOSEN_ON), options)


def _keep_calibrators(
    folders: Sequence[Path],
    models: list[Model],
    about: dict[str, str],
    fitted: dict[str, Calibrator],
) -> None:
    """Keep the calibrators, if there are any, with the models: those of each and of all together.

    `about` says of which stamps and split they are.
    """
    if not fitted:
        return
    for calibrator, (where, of) in zip(fitted.values(), thresholds.owners(folders, models), strict=True):
        calibrated.store(where, of, calibrator, about)
    cli.note(f"calibrators are kept in {_files(folders, calibrated.FILE)}")


def _keep_thresholds(
    folders: Sequence[Path],
    models: list[Model],
    about: dict[str, str],
    on: dict[str, Scores],
    options: argparse.Namespace,
) -> dict[str, Any] | None:
    """Keep the thresholds with the models, those of each and of all together.

    `about` says of which stamps and split they are. Gives the thresholds of the last by FPR, if it keeps
    them.
    """
    if not thresholds.both_classes(on):
        cli.warn(
            f"no thresholds are kept: '{about['split']}' of {about['stamps']} has stamps of one class only"
        )
        return None
    label = list(on.values())[-1].label
    artifacts = int(np.sum(label == 0))
    for fpr in options.fpr:
        operating.check_fpr(fpr, artifacts)
    fprs = sorted({*rates.FPRS, *options.fpr})
    kept = thresholds.keep(folders, models, on, about, fprs, replace=options.keep)
    cli.warn(*thresholds.cautions(kept, about, artifacts))
    if kept.thresholds is None:
        return None
    cli.note(f"thresholds are kept in {_files(folders, thresholds.FILE)}")
    return {"split": about["split"], "stamps": len(label), "at": kept.thresholds}


def _files(folders: Sequence[Path], name: str) -> str:
    return ", ".join(str(folder / name) for folder in folders)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "evaluate",
        "Tell how good trained networks are on stamps, each alone and all by majority, or how good a table "
        "of scores is; keep the thresholds at fixed FPRs with the models, for score --at-fpr: those of the "
        "store's split validate where there is one, else of the stamps that are evaluated. Without labels, "
        "tell how the networks agree with the survey's own score.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=Path,
        metavar="RUN STAMPS | SCORES",
        help="runs, then stamps (store, .npz) or alerts; or scores: what score wrote, or HDF5 with label, "
        "p_candidate",
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
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--keep",
        action="store_true",
        help="keep the thresholds even in place of those that more artifacts of other stamps have fixed",
    )
    either.add_argument("--no-keep", action="store_true", help="do not keep the thresholds with the runs")
    text = "without labels: take stamps as real from this score of the survey's own (default: the customary)"
    add("--survey-cut", type=cli.number(0, 1, open_low=True), metavar="X", help=text)
    cli.add_split(parser)
    cli.add_profile(parser)
    cli.add_overwrite(parser)
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels, or scores")
    cli.add_device(parser)
    cli.add_precision(parser)
    return parser


if __name__ == "__main__":
    cli.run("evaluate", main)
