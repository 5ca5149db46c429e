"""`python -m rotinv.simulate`: make a simulated survey to train, validate and test on."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli, survey
from rotinv.survey import build, parts, preview
from rotinv.system.files import refuse_existing

MOST = 100_000_000  # stamps of one split: about 0.7 TB


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    counts = {split: getattr(options, split) for split in build.SPLITS}
    parts.clear_made(options.out)
    refuse_existing(options.out, options.overwrite)
    if options.preview is not None:
        preview.check(options.preview, overwrite=options.overwrite)
    begin = time.perf_counter()
    hidden = not cli.progress_wanted()
    with (
        tqdm(total=sum(counts.values()), unit=" stamps", desc="survey", disable=hidden) as bar,
        cli.goes_on_when_repeated(),
    ):
        images = survey.make_survey(
            options.out,
            counts,
            options.seed,
            options.workers,
            options.band,
            progress=bar.update,
            overwrite=options.overwrite,
        )
    seconds = time.perf_counter() - begin
    total = sum(counts.values())
    made = ", ".join(
        f"{split} {counts[split]:,} of {cli.counted(images[split], 'image')}" for split in counts
    )
    print(f"{options.out}: {made}; {seconds:.1f} s, {total / seconds:.0f} stamps/s")
    if options.preview is not None:
        preview.draw(options.out, options.preview, overwrite=options.overwrite)
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "simulate",
        "Simulate a survey and cut its candidates and artifacts into a stamp store. A run that was cut off "
        "goes on when the same command is given again; what it has until then is in the folder OUT.part.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the stamp store to make")
    for split, count in (("train", 20_000), ("validate", 2_500), ("test", 5_000)):
        parser.add_argument(
            f"--{split}",
            type=cli.integer(2, MOST),
            default=count,
            metavar="N",
            help=f"stamps to {split} {'on' if split == 'train' else 'with'}, half of them candidates",
        )
    parser.add_argument("--seed", type=cli.integer(0, 2**63 - 1), default=1, help="same seed, same data")
    parser.add_argument(
        "--workers",
        type=cli.integer(1, 1024),
        default=os.cpu_count() or 1,
        help="processes; the data do not depend on it",
    )
    parser.add_argument(
        "--band", choices=survey.BANDS, default="g", help="filter: u has a dark sky, g a bright one"
    )
    parser.add_argument(
        "--preview", type=Path, metavar="PNG", help="also draw a contact sheet of the test split"
    )
    cli.add_overwrite(parser)
    return parser


if __name__ == "__main__":
    cli.run("simulate", main)
