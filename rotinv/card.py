"""`python -m rotinv.card`: a network's model card, as Markdown or a page of HTML."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rotinv import cli
from rotinv.deploy import model_card
from rotinv.lrp.attribution import Question
from rotinv.lrp.ledger_report import audits
from rotinv.lrp.trust import Trust
from rotinv.metrics.classification_report import evaluate
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model, load_model, open_stamps_for, stamps_as_read
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.splits import usable
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing, written_whole

_EXPLAINED = 20  # stamps whose maps are accounted for
_WRITERS = {".md": model_card.as_markdown, ".html": model_card.as_html}


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    for path in options.out or ():
        if path.suffix.lower() not in _WRITERS:
            raise UserError(f"{path}: a card is Markdown or HTML; name it .md or .html")
        refuse_existing(path, options.overwrite)
    model = load_model(options.run)
    found, scored, trusts = _measured(model, options)
    parts = model_card.sections(options.run, model, found, scored, trusts, options.licence)
    title = f"Model card: {model.name}"
    for path in options.out or ():
        with written_whole(path, overwrite=options.overwrite) as temporary:
            temporary.write_text(_WRITERS[path.suffix.lower()](title, parts), encoding="utf-8")
        cli.note(f"{path}: the card of {model.name}")
    if not options.out:
        print(model_card.as_markdown(title, parts), end="")
    return 0


def _measured(model: Model, options: argparse.Namespace) -> tuple[dict[str, Any] | None, str, list[Trust]]:
    """The figures on the stamps, what these are, and how far maps of some of them can be trusted."""
    if options.stamps is None:
        return None, "", []
    k = get_kernels(options.device, options.threads)
    split = open_stamps_for(model, options.stamps, options.split)
    indices = usable(split, options.on_bad)
    (scores,) = labelled_scores(k, [model], split, indices).values()
    few = np.random.default_rng(0).permutation(indices)[:_EXPLAINED]
    trusts = [
        one.trust for one in audits(k, model, stamps_as_read(model, split, few), Question()) if one.output
    ]
    return evaluate(scores), f"{options.stamps.name}, {split.name}", trusts


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "card",
        "Write a network's model card: data, training, figures with intervals, thresholds, known failures, "
        "and "
        "how it explains.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    text = "labelled stamps to measure it on: a store or .npz (default: the figures of its training)"
    add("stamps", nargs="?", type=Path, metavar="STAMPS", help=text)
    text = "card.md, card.html or both (default: Markdown to standard output)"
    add("--out", nargs="+", type=Path, metavar="FILE", help=text)
    add("--licence", default="none stated", help="of the network")
    text = "what to do about stamps with NaN or infinite pixels"
    add("--on-bad", choices=("error", "drop"), default="error", help=text)
    cli.add_split(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    return parser


if __name__ == "__main__":
    cli.run("card", main)
