"""`python -m rotinv.view`: an HTML page on which to look at what decisions rest on, by LRP."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli
from rotinv.graphs import opening
from rotinv.lrp import composites, targets
from rotinv.lrp.viewer import page
from rotinv.lrp.viewer.fragments import whole_page
from rotinv.system.files import refuse_existing, written_whole

_DOZEN = 12


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    refuse_existing(options.out, options.overwrite)
    for rule in options.rule:
        composites.named(rule)
    subjects = opening.open_subjects(options.runs, options.device, options.threads, options.at_fpr)
    for subject in reversed(subjects):
        split = subject.open_stamps(options.stamps, options.split)
        cli.note(*subject.notes(split))
    indices = list(dict.fromkeys(options.index or range(min(_DOZEN, len(split)))))
    total = len(indices) * len(subjects) * len(options.rule)
    with tqdm(total=total, unit="maps", disable=not cli.progress_wanted(), leave=False) as bar:
        fragment = page.viewer_fragment(
            subjects,
            split,
            indices,
            rule_names=options.rule,
            target=options.target,
            editable=options.editable,
            progress=bar.update,
        )
    title = f"Relevance: {', '.join(subject.name for subject in subjects)} on {options.stamps.name}"
    with written_whole(options.out, overwrite=options.overwrite) as temporary:
        temporary.write_text(whole_page(title, fragment), encoding="utf-8")
    number = {"stamp": len(indices), "model": len(subjects), "rule": len(options.rule)}
    counts = ", ".join(cli.counted(count, noun) for noun, count in number.items())
    cli.note(f"{options.out}: {counts}")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("view", "Make an HTML page on which to look at what decisions rest on, by LRP.")
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help=f"one or more: {opening.HELP}")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--out", type=Path, required=True, metavar="FILE.html", help="the page")
    add("--index", nargs="+", type=cli.integer(0), metavar="I", help=f"stamps (default: the first {_DOZEN})")
    add("--rule", nargs="+", default=list(page.RULES), help=f"one or more: {composites.HELP}")
    cli.add_at_fpr(parser)
    add(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"{', '.join(targets.TARGETS)}, or a class by its number or name",
    )
    add(
        "--editable",
        action="store_true",
        help="pixels can be painted; the page computes score and map anew (with CAP's weights: 1.4 MB more)",
    )
    cli.add_split(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    return parser


if __name__ == "__main__":
    cli.run("view", main)
