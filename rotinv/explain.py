"""`python -m rotinv.explain`: what decisions rest on, as tables, pictures (Figs. 3, 4) and maps."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.cli import counted
from rotinv.graphs import opening
from rotinv.graphs.opening import only_runs
from rotinv.lrp import attribution, composites, heatmaps, map_figures, map_files, targets, trust
from rotinv.lrp.attribution import Explanation, Question
from rotinv.lrp.methods import derivatives
from rotinv.lrp.study import Study, study
from rotinv.lrp.subjects import Run, Subject
from rotinv.runs.model import Model, check_indices
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.splits import Split, usable
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing
from rotinv.system.pictures import require_matplotlib

PICTURES = (".png", ".pdf")


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    _check(options)
    question = Question(options.method, options.rule or Question.rule, options.target, options.layer)
    paths = [options.run] + ([options.compare] if options.compare else [])
    subjects = opening.open_subjects(paths, options.device, options.threads, options.at_fpr)
    split = subjects[0].open_stamps(options.stamps, options.split)
    for subject in subjects[1:]:
        subject.open_stamps(options.stamps, options.split)
    for subject in subjects:
        subject.check(question)
    listed: list[str] = []
    if options.disagreements:
        indices, listed = _disagreements(only_runs(subjects, "--disagreements"), split, options)
    else:
        indices = check_indices(split, list(dict.fromkeys(options.index)))
    cli.note(*(note for subject in subjects for note in subject.notes(split)))
    tables = _explain(subjects, split, indices, question, options) if len(indices) else []
    print("\n".join([*listed, *tables]))  # after the files: who reads it with `head` still gets those
    return 0


def _explain(
    subjects: list[Subject],
    split: Split,
    indices: NDArray[np.int64],
    question: Question,
    options: Namespace,
) -> list[str]:
    """Explain the stamps at `indices`, write the files that are asked for, and give the tables' lines."""
    pictures = _picture_names(options.out, indices, options.overwrite)
    with _bar(None, "explaining", "stamps", len(subjects) * len(indices)) as bar:
        found = study(subjects, split, indices, question, bar.update)
    notes = _notes(found)
    if options.maps:
        found.save(options.maps, overwrite=options.overwrite)
        cli.note(f"{options.maps}: maps of {counted(len(indices), 'stamp')}, not scaled")
    if pictures:
        pages = (found.page(i, options.scale, realign=options.realign) for i in range(len(indices)))
        drawn = _bar(pages, "drawing", "pages", len(indices))
        map_figures.save(pictures, drawn, overwrite=options.overwrite)
        cli.note(f"{', '.join(map(str, pictures))}: {counted(len(indices), 'stamp')} drawn")
    return _tables(found, notes)


def _notes(found: Study) -> list[list[str]]:
    """What is to be known of each network's maps before they are trusted, a line for each stamp, and a
    warning for each stamp whose map misleads. Only relevance and integrated gradients have an account; of
    maps by one pass of derivatives the deviations alone are told."""
    method, notes = found.question.method, []
    if method == "lrp":
        for of, answer in enumerate(found.answers):
            trusts = [found.trust(i, of=of) for i in range(len(found))]
            _warn(answer, found, [one.doubts for one in trusts])
            notes.append([str(one) for one in trusts])
        return notes
    for run, answer in zip(only_runs(found.subjects, f"--method {method}"), found.answers, strict=True):
        if method == "integrated-gradients":
            accounts = attribution.completeness(run.k, run.model, found.stamps, found.question, answer)
            _warn(answer, found, [one.doubts for one in accounts])
            notes.append([str(one) for one in accounts])
        elif method in derivatives.METHODS:
            _warn_of_deviations(run.model, found, answer)
    return notes


def _warn(answer: Explanation, found: Study, doubts: list[list[str]]) -> None:
    """Name the stamps whose maps mislead, and why."""
    for index, reasons in zip(found.indices, doubts, strict=True):
        if reasons:
            cli.warn(f"{answer.name}, stamp {index}: {'; '.join(reasons)}")


def _warn_of_deviations(model: Model, found: Study, answer: Explanation) -> None:
    """Name the stamps whose maps are not the float64 reference's, if there are some."""
    off = attribution.deviations(model, found.stamps, found.question, answer)
    far = np.flatnonzero(~(off <= trust.LARGEST_DEVIATION))
    which = ", ".join(map(str, found.indices[far]))
    if len(far):
        cli.warn(
            f"{answer.name}: rounding changes maps by more than {trust.LARGEST_DEVIATION:.2%} of their "
            f"largest value: stamp {which} (by up to {off[far].max():.2g} of it); --device reference draws "
            "them in float64"
        )


def _check(options: Namespace) -> None:
    """Raise UserError for options that do not go together, before anything is computed."""
    if options.disagreements == bool(options.index):
        raise UserError("choose the stamps by either --index or --disagreements")
    if options.disagreements and not options.compare:
        raise UserError("--disagreements needs --compare RUN2, the model that is right where RUN is wrong")
    if options.rule and options.method != "lrp":
        raise UserError(f"--rule {options.rule}: only --method lrp has rules, not {options.method}")
    for path in (options.out, options.maps):
        if path:
            refuse_existing(path, options.overwrite)
    if options.maps:
        map_files.check_name(options.maps)
    if options.out and options.out.suffix.lower() not in PICTURES:
        raise UserError(f"{options.out}: is no picture; name it .png or .pdf (--maps writes HDF5)")
    if options.out:
        require_matplotlib()


def _disagreements(runs: list[Run], split: Split, options: Namespace) -> tuple[NDArray[np.int64], list[str]]:
    """The first --count stamps where the second model is right and the first wrong, and a list of all."""
    if split.label is None:
        raise UserError(f"{split.path}: has no labels, and --disagreements needs them: add an array 'label'")
    indices = usable(split, options.on_bad, progress=cli.progress_wanted())
    with _bar(None, "scoring", "stamps", len(runs) * len(indices)) as bar:
        models = [run.model for run in runs]
        scores = labelled_scores(runs[0].k, models, split, indices, bar.update)
    one, other = (run.name for run in runs)
    first, second = scores[one].probability, scores[other].probability
    label = scores[one].label
    limits = [0.5 if model.threshold is None else model.threshold for model in models]
    places = attribution.only_second_right(label, first, second, limits)
    candidates = int(label[places].sum())
    listed = [
        f"{other} is right and {one} wrong on {len(places)} of {counted(len(indices), 'stamp')}: "
        f"{counted(candidates, 'candidate')}, {counted(len(places) - candidates, 'artifact')}"
    ]
    for place in places:
        name = attribution.title(split, int(indices[place]))
        listed.append(f"  {name}: p(candidate) {first[place]:.4g} and {second[place]:.4g}")
    return indices[places[: options.count]], [*listed, ""]


def _tables(found: Study, notes: list[list[str]]) -> list[str]:
    """A table for each stamp, a row for each model: the sum of its maps for each channel, and of all; then
    what is to be known of the maps before they are trusted."""
    where = ", ".join(dict.fromkeys(one.layer for one in found.answers))
    lines = [f"{found.question.text}: sums of the maps at the layer '{where}'"]
    decided = [one for one in found.answers if one.threshold is not None]
    lines += [f"{one.name}: classes at the threshold {one.threshold:.9g}" for one in decided]
    channels = found.answers[0].channels
    width = max(len("model"), *(len(one.name) for one in found.answers))
    heads = "".join(f"  {name:>{max(10, len(name))}}" for name in (*channels, "all"))
    for i in range(len(found.indices)):
        p = found.answers[0].classes.p
        lines += ["", found.title(i), f"  {'model':<{width}}  class      {p:>12}{heads}"]
        for one in found.answers:
            total = one.maps[i].sum(axis=tuple(range(one.maps.ndim - 2)), dtype=np.float64)
            sums = zip((*channels, "all"), (*total[: len(channels)], total.sum()), strict=True)
            cells = "".join(f"  {value:>{max(10, len(name))}.4g}" for name, value in sums)
            name = one.verdict(i)
            lines.append(f"  {one.name:<{width}}  {name:<9}  {one.probability[i]:>12.4g}{cells}")
        told = zip(found.answers, notes, strict=bool(notes))
        lines += [f"  {one.name}: {own[i]}" for one, own in told]
    return lines


def _picture_names(out: Path | None, indices: NDArray[np.int64], overwrite: bool) -> list[Path]:
    """One PDF for all stamps, or a PNG for each: stamps.png for one, stamps-12.png, … for several.

    Raises UserError if one exists already, unless it may be overwritten.
    """
    if out is None:
        return []
    if out.suffix.lower() == ".pdf" or len(indices) == 1:
        return [out]
    names = [out.with_name(f"{out.stem}-{index}{out.suffix}") for index in indices]
    for name in names:
        refuse_existing(name, overwrite)
    return names


def _bar(of: Iterable | None, what: str, unit: str, total: int) -> tqdm:
    return tqdm(of, desc=what, total=total, unit=unit, disable=not cli.progress_wanted(), leave=False)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "explain",
        "Show what a network's decisions rest on: maps of a stamp's four rotations, and their average.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help=opening.HELP)
    parser.add_argument(
        "stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz of (N,S,S,C) or (N,C,S,S)"
    )
    parser.add_argument("--index", nargs="+", type=cli.integer(0), metavar="I", help="stamps, counted from 0")
    parser.add_argument(
        "--compare", type=Path, metavar="RUN2", help="another run, drawn to the right (the paper's CAP)"
    )
    parser.add_argument(
        "--disagreements",
        action="store_true",
        help="instead of --index: list the stamps where RUN2 is right and RUN wrong, those with the "
        "probabilities furthest apart first, and explain the first --count",
    )
    parser.add_argument("--count", type=cli.integer(1), default=12, help="disagreements to explain")
    _add_what(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=".pdf, a page a stamp, or .png; for several FILE-INDEX.png"
    )
    parser.add_argument("--maps", type=Path, metavar="FILE", help="HDF5 of the maps, never scaled")
    parser.add_argument(
        "--scale", choices=heatmaps.SCALES, default="max-abs", help="of the picture: one for a model's maps"
    )
    parser.add_argument("--realign", action="store_true", help="draw the four maps turned back")
    cli.add_at_fpr(parser)
    cli.add_split(parser)
    cli.add_overwrite(parser)
    parser.add_argument(
        "--on-bad",
        choices=("error", "drop"),
        default="error",
        help="NaN or infinite pixels in --disagreements",
    )
    cli.add_device(parser)
    return parser


def _add_what(parser: cli.Parser) -> None:
    """What is asked of the network."""
    parser.add_argument("--method", choices=heatmaps.METHODS, default="lrp", help="how maps are made")
    parser.add_argument("--rule", help=f"of lrp (default: alpha2beta1, the paper's): {composites.HELP}")
    parser.add_argument(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"what is shared out: {', '.join(targets.TARGETS)}, or a class by its number or name (0 "
        "artifact, 1 candidate)",
    )
    parser.add_argument(
        "--layer",
        metavar="L",
        help="number or name of a layer to look at in place of the stamps (a wrong one lists them); of more "
        f"channels than the stamps', the sum and the {map_figures.STRONGEST} strongest are drawn",
    )


if __name__ == "__main__":
    cli.run("explain", main)
