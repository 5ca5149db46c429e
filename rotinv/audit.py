"""`python -m rotinv.audit`: where each layer's relevance went, for single stamps or over a split, to the last
unit."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.graphs import opening
from rotinv.lrp import composites, ledger_split, targets
from rotinv.lrp.attribution import Question
from rotinv.lrp.ledger_report import Audit
from rotinv.lrp.subjects import Subject
from rotinv.runs.model import check_indices
from rotinv.stamps.splits import Split
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing
from rotinv.system.messages import counted

_COUNT = 200  # stamps whose ledgers are told together


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    _check(options)
    question = Question(rule=options.rule, target=options.target)
    (subject,) = opening.open_subjects([options.run], options.device, options.threads, options.at_fpr)
    split = subject.open_stamps(options.stamps, options.split)
    subject.check(question)
    indices = _indices(split, options)
    stamps = subject.read(split, indices)
    cli.note(*subject.notes(split))
    labels = None if split.label is None else [int(split.label[i]) for i in indices]
    found = subject.audits(stamps, question, indices.tolist(), labels, exact=options.exact)
    watched = _Watch(options.fail_above)
    if options.index:
        _single(options, subject, map(watched.look, found), len(indices))
    else:
        _together(options, subject, map(watched.look, found), len(indices))
    return watched.status


def _check(options: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together, and for pictures that cannot be written."""
    if options.index and options.count is not None:
        raise UserError("choose the stamps by either --index or --count")
    if options.out and not options.index:
        raise UserError("--out: draws single stamps, name them by --index")
    if options.out:
        _check_pictures(options.out, options.index, options.overwrite)


def _indices(split: Split, options: argparse.Namespace) -> NDArray[np.int64]:
    """The stamps asked for, or some of the split at random, in their order."""
    if options.index:
        return check_indices(split, options.index)
    count = min(options.count or _COUNT, len(split))
    rng = np.random.default_rng(options.seed)
    return np.sort(rng.choice(len(split), count, replace=False)).astype(np.int64)


def _single(options: argparse.Namespace, subject: Subject, found: Iterator[Audit], count: int) -> None:
    """Print each stamp's ledger, or all as JSON, and draw them."""
    documents = []
    for audit in found:
        if options.json:
            documents.append(_document(audit))
        else:
            print(audit, end="\n\n")
        if options.out:
            audit.save_picture(_picture(options.out, audit.index, count))
    if options.json:
        print(json.dumps({**_about(options, subject), "stamps": documents}, indent=2))


def _together(options: argparse.Namespace, subject: Subject, found: Iterator[Audit], count: int) -> None:
    """Print how the lines are distributed over the stamps."""
    shown = tqdm(found, "auditing", count, unit="stamps", disable=not cli.progress_wanted(), leave=False)
    amounts = [audit.amounts() for audit in shown if audit.output]
    if len(amounts) < count:
        cli.warn(f"{counted(count - len(amounts), 'stamp')} left out: the relevance at the output is 0")
    if not amounts:
        raise UserError(f"{options.stamps}: no stamp has relevance at the output; choose another --target")
    rows = ledger_split.distribution(amounts)
    if options.json:
        document = {**_about(options, subject), "count": len(amounts), "rows": ledger_split.documents(rows)}
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(ledger_split.lines(rows, len(amounts))))


class _Watch:
    """The exit status: 1 if a ledger does not close, which would be an error of this program or of a rule's
    account, or if a line is above the limit, in shares of the relevance at the output."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.status = limit, 0

    def look(self, audit: Audit) -> Audit:
        """The audit, after a warning for the first of each."""
        for layer, error in audit.not_closed():
            self._fail(f"stamp {audit.index}: layer {layer} does not close ({error:g})")
        limit = math.inf if self.limit is None else self.limit
        for layer, line, share in audit.trust.losses[:1] if audit.output else ():
            if abs(share) > limit:
                told = f"{layer}'s {line.replace('_', ' ')} is {abs(share):.0%} of what is explained"
                self._fail(f"stamp {audit.index}: {told}, above --fail-above {limit:g}")
        return audit

    def _fail(self, told: str) -> None:
        if not self.status:
            cli.warn(told)
        self.status = 1


def _about(options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """What --json says of the question; amounts are in shares of `output`, the sum of |R| at the logits."""
    device = "exact" if options.exact else options.device
    about = {"run": subject.name, "rule": options.rule, "target": options.target, "device": device}
    return about if subject.threshold is None else {**about, "threshold": subject.threshold}


def _document(audit: Audit) -> dict[str, Any]:
    """What --json says of a stamp; p is p(candidate)."""
    return {
        "index": audit.index,
        "label": audit.label,
        "predicted": audit.predicted,
        "probability": audit.probability,
        "logits": [float(z) for z in audit.logits],
        "output": audit.output,
        "layers": audit.amounts(),
        "trust": {
            "share": audit.trust.share if audit.output else None,
            "deviation": audit.trust.deviation,
            "doubts": audit.trust.doubts if audit.output else [],
        },
    }


def _picture(out: Path, index: int | None, count: int) -> Path:
    """The picture of a stamp: the file asked for, or, of several, one with the index in its name."""
    return out if count == 1 else out.with_name(f"{out.stem}-{index}{out.suffix}")


def _check_pictures(out: Path, indices: Sequence[int], overwrite: bool) -> None:
    """Raise UserError if pictures cannot be drawn or would overwrite."""
    pictures.require_matplotlib()
    for index in indices:
        refuse_existing(_picture(out, index, len(indices)), overwrite)


def _parser() -> cli.Parser:
    parser = cli.Parser("audit", "Account for relevance, layer by layer: of single stamps, or over a split.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help=opening.HELP)
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--index", type=cli.integer(0), nargs="+", metavar="I", help="single stamps, a ledger each")
    add(
        "--count",
        type=cli.integer(1),
        metavar="N",
        help=f"without --index: of so many stamps at random, each line's distribution (default: {_COUNT})",
    )
    add("--seed", type=cli.integer(0), default=0, help="of the choice of --count")
    add(
        "--fail-above",
        type=cli.number(0),
        metavar="X",
        help="exit with status 1 if a line of a stamp is above X times the relevance at the output",
    )
    add("--rule", default=composites.DEFAULT, help=composites.HELP)
    add(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"{', '.join(targets.TARGETS)}, or a class by its number or name (0 artifact, 1 candidate)",
    )
    cli.add_at_fpr(parser)
    cli.add_split(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    add("--exact", action="store_true", help="in fractions, without any rounding; for small networks")
    add("--json", action="store_true", help="print the ledger as JSON")
    add("--out", type=Path, metavar="FILE.png", help="draw a waterfall (several stamps: FILE-INDEX.png)")
    return parser


if __name__ == "__main__":
    cli.run("audit", main)
