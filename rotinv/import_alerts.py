"""Make a stamp store of alerts: python -m rotinv.import_alerts FILES… --out alerts.h5."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli
from rotinv.alerts import stamp
from rotinv.alerts.files import Alerts, find_files, raw_blocks
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import Tally
from rotinv.stamps.store import CHANNELS, create_store
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    refuse_existing(options.out)
    profiles = [read_profile(path) for path in options.profile]
    files = Alerts(find_files(options.files), profiles)
    tally = Tally()
    about = {f"flag_{name}": bit for name, bit in stamp.BIT.items()}
    bar = tqdm(total=len(files), unit="alerts", disable=not cli.progress_wanted())
    with (
        bar,
        create_store(
            options.out, channels=CHANNELS, size=options.size, attributes=about, alerts=True
        ) as store,
    ):
        for _, stamps, flags, known in raw_blocks(files, 0, len(files), options.size):
            store.append("test", stamps, None, flags=flags, **known)
            tally.add(flags, known["survey"])
            bar.update(len(stamps))
        counts = {f"count_{name}": count for name, count in tally.flags.items()}
        store.note({**counts, "unreadable_files": len(files.unreadable)})
    cli.warn(*stamp.first_of(files.problems))
    cli.note(*tally.lines(options.out))
    print(f"{options.out}: {cli.counted(len(files), 'alert')} of {cli.counted(len(files.files), 'file')}")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("import_alerts", "Make a stamp store of alert packets and cut-outs.")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Avro containers of a survey or a broker, FITS cut-outs (images or tables), Parquet; or folders "
        "of them",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="STORE.h5", help="the store to make")
    parser.add_argument(
        "--size",
        type=cli.integer(1, 1000),
        default=21,
        help="side of the stamps, pixels about the alert's own",
    )
    cli.add_profile(parser)
    return parser


if __name__ == "__main__":
    cli.run("import_alerts", main)
