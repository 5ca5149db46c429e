"""Make a stamp store of alerts: python -m rotinv.import_alerts FILES… --out alerts.h5."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli
from rotinv.alerts import stamp
from rotinv.alerts.files import Alerts, find_files, raw_blocks
from rotinv.alerts.labelled import LabelledImport
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import Tally
from rotinv.stamps import packing
from rotinv.stamps.label_lists import read_labels
from rotinv.stamps.labels import Words
from rotinv.stamps.store import CHANNELS, create_store
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parse(argv)
    refuse_existing(options.out, options.overwrite)
    making = _labelled(options) if options.labels else None
    profiles = [read_profile(path) for path in options.profile]
    files = Alerts(find_files(options.files), profiles)
    with tqdm(total=len(files), unit="alerts", disable=not cli.progress_wanted()) as bar:
        if making:
            making.run(files, bar.update)
        tally = making.tally if making else _import(options, files, bar)
    cli.warn(*stamp.first_of(files.problems), *(making.warnings if making else []))
    cli.note(*tally.lines("all alerts" if making else options.out))
    read = f"{cli.counted(len(files), 'alert')} of {cli.counted(len(files.files), 'file')}"
    for line in making.lines(read) if making else [f"{options.out}: {read}"]:
        print(line)
    return 0


def _labelled(options: argparse.Namespace) -> LabelledImport:
    labels = read_labels(options.labels, Words.of(options.real, options.bogus))
    fractions = options.split or packing.FRACTIONS
    return LabelledImport(
        labels, options.out, options.size, fractions, options.seed or 0, overwrite=options.overwrite
    )


def _import(options: argparse.Namespace, files: Alerts, bar: tqdm) -> Tally:
    """A store of all alerts, in the split test; gives the counts of their flags."""
    tally = Tally()
    about = {f"flag_{name}": bit for name, bit in stamp.BIT.items()}
    with create_store(
        options.out,
        channels=CHANNELS,
        size=options.size,
        attributes=about,
        labels=False,
        alerts=True,
        overwrite=options.overwrite,
    ) as store:
        for _, stamps, flags, known in raw_blocks(files, 0, len(files), options.size):
            store.append("test", stamps, None, flags=flags, **known)
            tally.add(flags, known["survey"])
            bar.update(len(stamps))
        counts = {f"count_{name}": count for name, count in tally.flags.items()}
        store.note({**counts, "unreadable_files": len(files.unreadable)})
    return tally


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options: argparse.Namespace = parser.parse_args(argv)
    given = [name for name in ("real", "bogus", "split", "seed") if getattr(options, name) is not None]
    if given and not options.labels:
        parser.error(f"--{given[0]}: needs --labels, which says what the alerts are")
    return options


def _parser() -> cli.Parser:
    parser = cli.Parser("import_alerts", "Make a stamp store of alert packets and cut-outs.")
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Avro containers of a survey or a broker, FITS cut-outs (images or tables), Parquet; or folders "
        "of them",
    )
    add("--out", type=Path, required=True, metavar="STORE.h5", help="the store to make")
    add(
        "--size",
        type=cli.integer(1, 1000),
        default=21,
        help="side of the stamps, pixels about the alert's own",
    )
    cli.add_overwrite(parser)
    cli.add_profile(parser)
    text = "make a store to train on of the alerts in this list: CSV with id or object_id, and label"
    add("--labels", type=Path, metavar="LABELS.csv", help=text)
    cli.add_words(parser)
    add(
        "--split",
        type=cli.fractions,
        metavar="TRAIN,VALIDATE,TEST",
        help="fractions of the labelled alerts; those of an object go to one split (default: 0.8,0.1,0.1)",
    )
    add("--seed", type=cli.integer(0, 2**63 - 1), help="which objects go where (default: 0)")
    return parser


if __name__ == "__main__":
    cli.run("import_alerts", main)
