"""`python -m rotinv.score`: a catalogue of one trained network's scores, or of the vote of several (CAPE)."""

import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import Tally, first_of
from rotinv.catalogue import dask_scoring, explained_pages, formats, sources
from rotinv.catalogue.scorer import NEAR, QUESTION, Choice, Here, Scorer, Threshold, Work
from rotinv.catalogue.sources import Source
from rotinv.lrp import map_files
from rotinv.metrics.rates import NOT_SCORED
from rotinv.nn.devices import get_kernels
from rotinv.runs import calibrated, folder, model
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    folders, paths = folder.runs_and_stamps(options.inputs)
    maps = _check(options)
    models = model.open_models(folders)
    threshold = Threshold.at(folders, models, options.at_fpr)
    calibrator = calibrated.find(folders, models) if options.calibrated else None
    choice = Choice(options.explain, threshold.value) if options.explain else None
    profiles = tuple(read_profile(path) for path in options.profile)
    readers = 0 if options.dask else options.readers
    source = sources.open_source(models[0], paths, options.split, profiles, readers)
    on_bad = options.on_bad or ("flag" if "object_id" in source.known else "error")
    source.check(on_bad)
    k = get_kernels(options.device, options.threads, options.precision)
    scorer = Scorer(k, models, threshold, calibrator)
    work: Work = Here(scorer, source)
    if options.dask:
        computing = options.device, options.threads, options.precision
        plan = dask_scoring.Plan(options.dask, options.shard, *computing, options.split, profiles)
        work = dask_scoring.Cluster(plan, scorer, source, options.out)
    with work:
        started = time.perf_counter()
        tally, scored, candidates = _catalogue(
            options.out, scorer, source, work.rows(), choice, on_bad == "drop", options.overwrite
        )
        seconds = time.perf_counter() - started
        where = paths[0] if len(paths) == 1 else cli.counted(len(source.paths), "file")
        cli.warn(*first_of(work.problems))
        cli.note(*tally.lines(where))
        if missing := len(source) - scored:
            how = "left out" if on_bad == "drop" else "without a score"
            cli.note(f"{where}: {cli.counted(missing, 'stamp')} {how}")
        cli.note(
            f"{options.out or 'standard output'}: {cli.counted(scored, 'stamp')} scored in {seconds:.1f} s, "
            f"{scorer.counted(candidates)} {scorer.decision}"
        )
        if choice and maps:
            with map_files.create(
                maps, QUESTION, {"stamps": str(paths[0])}, overwrite=options.overwrite
            ) as writer:
                with _bar("explaining", len(choice.indices)) as bar:
                    work.explain(choice.indices, writer, bar.update)
            cli.note(f"{maps}: maps of {cli.counted(len(choice.indices), 'stamp')}, not scaled")
            _draw(maps, scorer, source, len(choice.indices), options.overwrite)
    return 0


def _draw(maps: Path, scorer: Scorer, source: Source, count: int, overwrite: bool) -> None:
    """Draw the stamps that were explained, if they are few, and say which page shows which.

    To overwrite pages also means that those of earlier maps go where none are drawn.
    """
    pages = _pages(maps)
    if not count or count > explained_pages.MOST:
        _remove(pages, overwrite)
        cli.note(
            f"{pages}: not drawn, there are {count:,} stamps (a page each, {explained_pages.MOST} at most)"
        )
    elif not pictures.matplotlib_available():
        _remove(pages, overwrite)
        cli.note(f"{pages}: not drawn, pictures need matplotlib: pip install 'rotinv[plot]'")
    else:
        titles = explained_pages.draw(pages, maps, scorer, source, overwrite=overwrite)
        for number, title in enumerate(titles, 1):
            cli.note(f"{pages}, page {number}: {title}")


def _remove(pages: Path, overwrite: bool) -> None:
    """Remove pages that show earlier maps, if they may be overwritten."""
    if overwrite:
        with disk_errors(pages):
            pages.unlink(missing_ok=True)


def _pages(maps: Path) -> Path:
    """The pictures beside a file of maps."""
    return maps.with_suffix(".pdf")


def _check(options: Namespace) -> Path | None:
    """Raise UserError for outputs that cannot be, before anything is computed; gives the maps' file."""
    formats.check(options.out, options.overwrite)
    if options.out is None and (options.explain or options.dask):
        raise UserError(f"--{'explain' if options.explain else 'dask'} needs --out, a file for the scores")
    if options.out is None:
        return None
    maps: Path = options.out.with_name(f"{options.out.stem}-maps.h5")
    if not options.explain:
        if options.overwrite and maps.exists():
            cli.warn(f"{maps}: is of an earlier catalogue; --explain makes it anew")
        return None
    refuse_existing(maps, options.overwrite)
    refuse_existing(_pages(maps), options.overwrite)
    return maps


def _catalogue(
    out: Path | None,
    scorer: Scorer,
    source: Source,
    parts: Iterable[dict[str, NDArray]],
    choice: Choice | None,
    drop: bool,
    overwrite: bool,
) -> tuple[Tally, int, int]:
    """Write the catalogue, a part of its rows at a time.

    Gives the counts of what the alerts lack, how many stamps have a score, and how many are candidates.
    """
    tally, scored, candidates = Tally(), 0, 0
    columns = scorer.columns(source.known)
    with (
        formats.create(out, columns, scorer.facts(source.normalisation), overwrite=overwrite) as write,
        _bar("scoring", len(source)) as bar,
    ):
        for rows in parts:
            tally.add(rows["flags"], rows.get("survey", ()))
            good = rows["class"] != NOT_SCORED
            scored += int(good.sum())
            candidates += int((rows["class"] == scorer.classes.candidate).sum())
            if choice:
                choice.add(rows)
            bar.update(len(good))
            write({name: values[good] for name, values in rows.items()} if drop else rows)
    return tally, scored, candidates


def _bar(what: str, total: int) -> tqdm:
    return tqdm(desc=what, total=total, unit="stamps", disable=not cli.progress_wanted(), leave=False)


def _parser() -> cli.Parser:
    parser = cli.Parser("score", "Score stamps with a trained network; several vote by majority (CAPE).")
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="RUN [RUN …] STAMPS",
        help="folders of trained runs, then what to score: a stamp store, a .npy or .npz of (N,S,S,C) or "
        "(N,C,S,S), or alerts: Avro, FITS or Parquet files, or folders of them (extra 'alerts')",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=".csv, .ecsv, .parquet, .fits or .h5 to write (default: CSV to standard output)",
    )
    cli.add_at_fpr(parser)
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="add the column calibrated: p(candidate) by the calibrator of rotinv evaluate --calibrate",
    )
    parser.add_argument(
        "--explain",
        nargs="+",
        metavar="WHICH",
        help="write heatmaps beside the scores, in OUT-maps.h5, and draw up to "
        f"{explained_pages.MOST} of them, OUT-maps.pdf: near-threshold [K] (the K nearest it, "
        f"default {NEAR}), top K, or all",
    )
    cli.add_split(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    cli.add_precision(parser)
    cli.add_profile(parser)
    parser.add_argument(
        "--on-bad",
        choices=("error", "drop", "flag"),
        help="NaN or infinite pixels: flag gives the stamp no score, NaN (default: error; of alerts: flag)",
    )
    parser.add_argument(
        "--readers",
        type=cli.integer(0, 1024),
        metavar="N",
        help="processes that read alerts (Avro) ahead of the kernels (default: one for every four cores, of "
        "20,000 alerts or more; 0: a thread of this process)",
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS|local:N",
        help="score on a cluster: its scheduler's address, or N processes here (extra 'dask')",
    )
    parser.add_argument(
        "--shard",
        type=cli.integer(1),
        default=20_000,
        help="stamps that a worker scores at a time with --dask",
    )
    return parser


if __name__ == "__main__":
    cli.run("score", main)
