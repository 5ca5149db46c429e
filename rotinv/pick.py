"""`python -m rotinv.pick`: the stamps that teach a network most, and a page on which to label them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import first_of
from rotinv.catalogue import formats, labelling_pages, picking, sources
from rotinv.catalogue.picking import Picks
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.catalogue.sources import Source
from rotinv.lrp.viewer.fragments import whole_page
from rotinv.nn.devices import get_kernels
from rotinv.runs import folder, model
from rotinv.stamps.label_lists import read_labels
from rotinv.stamps.labels import Words
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole

COUNT = 200


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    folders, paths = folder.runs_and_stamps(options.inputs)
    table, page = (_named(options.out, suffix) for suffix in (".csv", ".html"))
    formats.check(table, options.overwrite)
    refuse_existing(page, options.overwrite)
    labels = options.labelled and read_labels(options.labelled, Words.of(options.real, options.bogus))
    models = model.open_models(folders)
    threshold = Threshold.at(folders, models, options.at_fpr)
    profiles = tuple(read_profile(path) for path in options.profile)
    source = sources.open_source(models[0], paths, options.split, profiles)
    scorer = Scorer(get_kernels(options.device, options.threads), models, threshold)
    hidden = not cli.progress_wanted()
    is_labelled = labelling_pages.labelled_by(labels) if labels else None
    with tqdm(desc="looking", total=len(source), unit="stamps", disable=hidden, leave=False) as bar:
        picks = picking.pick(
            scorer, source, options.count, is_labelled, seed=options.seed, progress=bar.update
        )
    _write(table, page, scorer, source, picks, options.overwrite)
    _tell(picks, source, options)
    cli.note(f"{page}: open it in a browser and label; {table}: why each stamp was chosen")
    return 0


def _named(out: Path, suffix: str) -> Path:
    """The file of that kind; OUT may itself be named as one of the two. Raises UserError for no name."""
    if not out.name:
        raise UserError(f"--out {out}: is a folder; add a name for the page and the table, as in {out}/next")
    stem = out.with_suffix("") if out.suffix in (".csv", ".html") else out
    return stem.with_name(f"{stem.name}{suffix}")


def _write(table: Path, page: Path, scorer: Scorer, source: Source, picks: Picks, overwrite: bool) -> None:
    """The chosen stamps as a catalogue, and as a page."""
    columns, facts = picking.columns(scorer, source.known), scorer.facts(source.normalisation)
    with formats.create(table, columns, facts, overwrite=overwrite) as write:
        write(picks.rows)
    where = source.paths[0].name if len(source.paths) == 1 else cli.counted(len(source.paths), "file")
    title = f"{cli.counted(len(picks.stamps), 'stamp')} to label, of {where}"
    fragment = labelling_pages.fragment(picks, scorer.models[0].config.channels)
    with written_whole(page, overwrite=overwrite) as temporary:
        temporary.write_text(whole_page(title, fragment), encoding="utf-8")


def _tell(picks: Picks, source: Source, options: argparse.Namespace) -> None:
    """What a user should know of the choice."""
    cli.warn(*first_of(source.problems))
    if options.labelled:
        among = f"{cli.counted(picks.labelled, 'stamp')} of {len(source):,}"
        cli.note(f"{options.labelled}: {among} are labelled already and left out")
    if picks.without_score:
        cli.note(f"{cli.counted(picks.without_score, 'stamp')} without a score cannot be chosen")
    without = sum(not labelling_pages.has_ids(row) for row in labelling_pages.rows_of(picks))
    if without:
        what = f"{cli.counted(without, 'stamp')} without an id: the id in LABELS.csv is the index from 0"
        (cli.warn if "candidate_id" in source.known else cli.note)(what)
    if len(picks.stamps) < options.count:
        cli.warn(f"--count {options.count}: only {cli.counted(len(picks.stamps), 'stamp')} could be chosen")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "pick",
        "Choose the stamps that would teach networks most if they were labelled: those that the networks, "
        "their rotations and their threshold leave in doubt, and no two alike. Writes OUT.html, a page on "
        "which to label them with the keyboard, and OUT.csv, a catalogue of them with the reasons.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=Path,
        metavar="RUN [RUN …] STAMPS",
        help="folders of trained runs, then what to choose from, as for score: stamp store, array, alerts",
    )
    add("--out", type=Path, required=True, metavar="OUT", help="the files' name without .html or .csv")
    add("--count", type=cli.integer(1), default=COUNT, metavar="N", help="how many stamps")
    add(
        "--labelled", type=Path, metavar="LABELS.csv", help="leave out what is labelled already, and its like"
    )
    cli.add_words(parser)
    add("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="same seed, same choice")
    cli.add_at_fpr(parser)
    cli.add_split(parser)
    cli.add_profile(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    return parser


if __name__ == "__main__":
    cli.run("pick", main)
