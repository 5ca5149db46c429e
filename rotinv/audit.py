"""`python -m rotinv.audit`: where each layer's relevance went, for single stamps, to the last unit."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rotinv import cli
from rotinv.lrp import composites, targets
from rotinv.lrp.attribution import Question
from rotinv.lrp.ledger_report import Audit, audits
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model, check_indices, open_models, open_stamps_for, stamps_as_read
from rotinv.system import pictures
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.out:
        _check_pictures(options.out, options.index, options.overwrite)
    question = Question(rule=options.rule, target=options.target)
    composites.named(question.rule)
    (model,) = open_models([options.run])
    split = open_stamps_for(model, options.stamps, options.split)
    indices = check_indices(split, options.index)
    stamps = stamps_as_read(model, split, indices)
    labels = None if split.label is None else [int(split.label[i]) for i in indices]
    k = get_kernels(options.device, options.threads)
    found = []
    for audit in audits(k, model, stamps, question, indices.tolist(), labels, exact=options.exact):
        found.append(audit)
        if not options.json:
            print(audit, end="\n\n")
        if options.out:
            audit.save_picture(_picture(options.out, audit.index, len(indices)))
    if options.json:
        print(json.dumps(_document(options, model, found), indent=2))
    return _status(found)


def _status(found: list[Audit]) -> int:
    """1 if a ledger does not close, which would be an error of this program or of a rule's account."""
    for audit in found:
        for layer, error in audit.not_closed():
            cli.warn(f"stamp {audit.index}: layer {layer} does not close ({error:g})")
            return 1
    return 0


def _document(options: argparse.Namespace, model: Model, found: list[Audit]) -> dict[str, Any]:
    """What --json prints: amounts in shares of `output`, the sum of |R| at the logits; p is p(candidate)."""
    return {
        "run": model.name,
        "rule": options.rule,
        "target": options.target,
        "device": "exact" if options.exact else options.device,
        "stamps": [
            {
                "index": audit.index,
                "label": audit.label,
                "predicted": audit.predicted,
                "probability": audit.probability,
                "logits": [float(z) for z in audit.logits],
                "output": audit.output,
                "layers": audit.amounts(),
            }
            for audit in found
        ],
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
    parser = cli.Parser("audit", "Account for the relevance of single stamps, layer by layer.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--index", type=cli.integer(0), nargs="+", required=True, metavar="I", help="the stamps' indices")
    add("--rule", default=composites.DEFAULT, help=composites.HELP)
    add(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"{', '.join(targets.TARGETS)}, or a class: 0 or 1",
    )
    cli.add_split(parser)
    cli.add_overwrite(parser)
    cli.add_device(parser)
    add("--exact", action="store_true", help="in fractions, without any rounding; for small networks")
    add("--json", action="store_true", help="print the ledger as JSON")
    add("--out", type=Path, metavar="FILE.png", help="draw a waterfall (several stamps: FILE-INDEX.png)")
    return parser


if __name__ == "__main__":
    cli.run("audit", main)
