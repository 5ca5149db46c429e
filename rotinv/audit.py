"""`python -m rotinv.audit`: where each layer's relevance went, for single stamps, to the last unit."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rotinv import cli
from rotinv.lrp import ledger, rules, targets
from rotinv.lrp.ledger import LINES, Audit
from rotinv.nn.devices import DEVICES, get_kernels
from rotinv.runs.model import CLASS_NAMES, Model, check_indices, open_models, open_stamps_for, stamps_as_read
from rotinv.stamps.store import SPLITS
from rotinv.system import pictures
from rotinv.system.files import refuse_existing

_CLOSES = 1e-9  # of the largest amount in a ledger; float64 leaves about 1e-14


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.out:
        _check_pictures(options.out, options.index)
    composite = rules.named(options.rule)
    (model,) = open_models([options.run])
    split = open_stamps_for(model, options.stamps, options.split)
    indices = check_indices(split, options.index)
    stamps = stamps_as_read(model, split, indices)
    if options.exact:
        answers = ledger.audit_exactly(model.network, model.params, stamps, composite, options.target)
    else:
        k = get_kernels(options.device, options.threads)
        answers = ledger.audit_on_device(k, model.network, model.params, stamps, composite, options.target)
    labels = [None if split.label is None else int(split.label[i]) for i in indices]
    found = []
    for index, label, (logits, entries, deviations) in zip(indices, labels, answers, strict=True):
        audit = Audit(int(index), label, logits, entries, deviations)
        found.append(audit)
        if not options.json:
            _print(audit, exact=options.exact)
        if options.out:
            path = _picture(options.out, audit.index, len(indices))
            ledger.waterfall(
                path, audit.amounts()[0]["received"], _steps(audit), _title(model, audit, options.rule)
            )
    if options.json:
        print(json.dumps(_document(options, model, found), indent=2))
    return _status(found)


def _status(found: list[Audit]) -> int:
    """1 if a ledger does not close, which would be an error of this program or of a rule's account."""
    for audit in found:
        largest = max(float(np.abs(entry.received[0])) for entry in audit.entries)
        for entry in audit.entries:
            error = abs(float(entry.closing_error[0]))
            if not error <= _CLOSES * largest:
                print(f"stamp {audit.index}: layer {entry.layer} does not close ({error:g})", file=sys.stderr)
                return 1
    return 0


def _document(options: argparse.Namespace, model: Model, found: list[Audit]) -> dict[str, Any]:
    """What --json prints: amounts in shares of `output`, the sum of |R| at the logits."""
    return {
        "run": model.name,
        "rule": options.rule,
        "target": options.target,
        "device": "exact" if options.exact else options.device,
        "stamps": [
            {
                "index": audit.index,
                "label": audit.label,
                "predicted": int(np.argmax(audit.logits)),
                "logits": [float(z) for z in audit.logits],
                "output": audit.output,
                "layers": audit.amounts(),
            }
            for audit in found
        ],
    }


def _print(audit: Audit, exact: bool) -> None:
    """The table of one stamp, in percent of the output's relevance."""
    print(f"stamp {audit.index}: {_verdict(audit)}; 100% is {audit.output:.6g}, the sum of |R| at the output")
    layer, *columns = ledger.AUDIT_COLUMNS
    print(f"{layer:<26}" + "".join(f"{name:>11}" for name in columns))
    for layer, *cells in audit.cells(exact):
        print(f"{layer:<26}" + "".join(f"{cell:>11}" for cell in cells))
    print()


def _verdict(audit: Audit) -> str:
    logits = np.asarray(audit.logits, dtype=np.float64)
    p = np.exp(logits - logits.max())
    predicted = int(np.argmax(audit.logits))
    truth = "" if audit.label is None else f", labelled {CLASS_NAMES[audit.label]}"
    return f"predicted {CLASS_NAMES[predicted]} (p {p[predicted] / p.sum():.6f}){truth}"


def _steps(audit: Audit) -> list[tuple[str, float]]:
    """What the waterfall draws: each line above a thousandth of the output's relevance, then the others."""
    rows = audit.amounts()
    lines = [(f"{row['layer']}: {line.replace('_', ' ')}", row[line]) for row in rows for line in LINES]
    large = [(name, amount) for name, amount in lines if abs(amount) > 1e-3]
    small = sum(amount for _, amount in lines if abs(amount) <= 1e-3)
    return [*large, ("all smaller lines", small)]


def _title(model: Model, audit: Audit, rule: str) -> str:
    return f"{model.name}, stamp {audit.index}, {rule}\n{_verdict(audit)}"


def _picture(out: Path, index: int, count: int) -> Path:
    """The picture of a stamp: the file asked for, or, of several, one with the index in its name."""
    return out if count == 1 else out.with_name(f"{out.stem}-{index}{out.suffix}")


def _check_pictures(out: Path, indices: Sequence[int]) -> None:
    """Raise UserError if pictures cannot be drawn or would overwrite."""
    pictures.require_matplotlib()
    for index in indices:
        refuse_existing(_picture(out, index, len(indices)))


def _parser() -> cli.Parser:
    parser = cli.Parser("audit", "Account for the relevance of single stamps, layer by layer.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--index", type=cli.integer(0), nargs="+", required=True, metavar="I", help="the stamps' indices")
    add("--rule", default="alpha2beta1", help=f"one of {', '.join(rules.COMPOSITES)}")
    add(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"{', '.join(targets.TARGETS)}, or a class: 0 or 1",
    )
    add("--split", choices=SPLITS, default="test", help="of a stamp store")
    add("--device", choices=DEVICES, default="cpu", help="whose relevance is audited")
    add("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    add("--exact", action="store_true", help="in fractions, without any rounding; for small networks")
    add("--json", action="store_true", help="print the ledger as JSON")
    add("--out", type=Path, metavar="FILE.png", help="draw a waterfall (several stamps: FILE-INDEX.png)")
    return parser


if __name__ == "__main__":
    cli.run("audit", main)
