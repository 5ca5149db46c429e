"""`python -m rotinv.score`: a catalogue of scores, of one trained network or by the vote of several (CAPE)."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import alerts, catalogues, choices, cli, map_files, runs, shards, sources, subjects, thresholds
from rotinv.backend import DEVICES, get_kernels
from rotinv.choices import Choice
from rotinv.errors import UserError
from rotinv.files import refuse_existing
from rotinv.scorer import NOT_SCORED, Scorer, Threshold
from rotinv.sources import Source
from rotinv.stamps import SPLITS

_TOLD = 10  # problems that are told one by one

Rows = dict[str, NDArray]


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    folders, paths = _runs_and_stamps(options.inputs)
    maps = _check(options)
    models = subjects.open_models(folders)
    threshold = Threshold()
    if options.at_fpr is not None:
        threshold = Threshold(thresholds.find(folders, models, options.at_fpr), options.at_fpr)
    choice = Choice(options.explain, threshold.value) if options.explain else None
    source = sources.open_source(models[0], paths, options.split)
    on_bad = options.on_bad or ("flag" if "object_id" in source.known else "error")
    source.check(on_bad)
    scorer = Scorer(get_kernels(options.device, options.threads), models, threshold)
    work: choices.Work = choices.Here(scorer, source)
    if options.dask:
        plan = shards.Plan(options.dask, options.shard, options.device, options.threads, options.split)
        work = shards.Cluster(plan, scorer, source, options.out)
    with work:
        tally = _catalogue(options.out, scorer, source, work.rows(), choice, on_bad)
        _tell(source, work.problems, tally, options.out)
        if choice and maps:
            with map_files.create(maps, choices.QUESTION, {"stamps": str(paths[0])}) as writer:
                with _bar("explaining", len(choice.indices)) as bar:
                    work.explain(choice.indices, writer, bar.update)
            _say(f"{maps}: maps of {len(choice.indices):,} stamps, not scaled")
    return 0


def _runs_and_stamps(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The runs' folders, which come first, and the rest. Raises UserError if there is no rest."""
    count = 1
    while count < len(inputs) and (inputs[count] / runs.CONFIG).is_file():
        count += 1
    if count == len(inputs):
        raise UserError(f"{inputs[-1]}: no stamps are named after it; name a stamp store, an array or alerts")
    return list(inputs[:count]), list(inputs[count:])


def _check(options: Namespace) -> Path | None:
    """Raise UserError for outputs that cannot be, before anything is computed; gives the maps' file."""
    catalogues.check(options.out)
    if options.out is None and (options.explain or options.dask):
        raise UserError(f"--{'explain' if options.explain else 'dask'} needs --out, a file for the scores")
    if not options.explain:
        return None
    maps: Path = options.out.with_name(f"{options.out.stem}-maps.h5")
    refuse_existing(maps)
    return maps


class _Tally:
    """What became of the stamps."""

    def __init__(self) -> None:
        self.scored = self.dropped = 0
        self.flags, self.surveys = Counter[str](), Counter[str]()

    def add(self, rows: Rows) -> None:
        self.scored += int((rows["class"] != NOT_SCORED).sum())
        for name, bit in alerts.BIT.items():
            self.flags[name] += int((rows["flags"] & np.uint32(bit) != 0).sum())
        self.surveys.update(rows.get("survey", ()))


def _catalogue(
    out: Path | None,
    scorer: Scorer,
    source: Source,
    parts: Iterable[Rows],
    choice: Choice | None,
    on_bad: str,
) -> _Tally:
    """Write the catalogue, a block of rows at a time."""
    tally = _Tally()
    columns = scorer.columns(source.known)
    with catalogues.create(out, columns, scorer.facts()) as write, _bar("scoring", len(source)) as bar:
        for rows in parts:
            tally.add(rows)
            if choice:
                choice.add(rows)
            bar.update(len(rows["index"]))
            if on_bad == "drop":
                kept = rows["class"] != NOT_SCORED
                tally.dropped += int((~kept).sum())
                rows = {name: values[kept] for name, values in rows.items()}
            write(rows)
    return tally


def _tell(source: Source, problems: Sequence[str], tally: _Tally, out: Path | None) -> None:
    """Say on standard error what was read, scored and flagged."""
    for text in problems[:_TOLD]:
        _say(text)
    if len(problems) > _TOLD:
        _say(f"… and {len(problems) - _TOLD:,} more that could not be read")
    where = source.paths[0] if len(source.paths) == 1 else f"{len(source.paths):,} files"
    if tally.dropped:
        _say(f"{where}: {tally.dropped:,} stamps left out, their pixels are not finite")
    if flags := ", ".join(f"{count:,} {name}" for name, count in tally.flags.items() if count):
        _say(f"{where}: flags: {flags}")
    if len(tally.surveys) > 1:
        mixed = ", ".join(f"{count:,} {name or 'unnamed'}" for name, count in tally.surveys.items())
        _say(f"{where}: several surveys, whose pixels differ in size and noise: {mixed}")
    if out:
        _say(f"{out}: {tally.scored:,} stamps scored")


def _bar(what: str, total: int) -> tqdm:
    return tqdm(desc=what, total=total, unit="stamps", disable=not sys.stderr.isatty(), leave=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # standard output is the table's


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
        "--out", type=Path, help=".csv, .parquet, .fits or .h5 to write (default: CSV to standard output)"
    )
    parser.add_argument(
        "--at-fpr",
        type=cli.number(0, 1, open_low=True),
        metavar="FPR",
        help="classify at the threshold that rotinv evaluate found for this FPR (default: at 0.5)",
    )
    parser.add_argument(
        "--explain",
        nargs="+",
        metavar="WHICH",
        help="write heatmaps beside the scores, in OUT-maps.h5: near-threshold [K] (the K nearest it, "
        f"default {choices.NEAR}), top K, or all",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="of a stamp store")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    parser.add_argument(
        "--on-bad",
        choices=("error", "drop", "flag"),
        help="NaN or infinite pixels: flag gives the stamp no score, NaN (default: error; of alerts: flag)",
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
