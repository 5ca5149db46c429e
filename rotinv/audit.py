"""`python -m rotinv.audit`: where each layer's relevance went, for single stamps, to the last unit."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv import cli, figures, rules, seeds, subjects
from rotinv.backend import DEVICES, Kernels, exact_kernels, get_kernels
from rotinv.errors import UserError
from rotinv.files import refuse_existing
from rotinv.ledger import LINES, Entry, ledger
from rotinv.network import Network
from rotinv.rules import Composite
from rotinv.runs import Model
from rotinv.stamps import SPLITS

_BLOCK = 10  # stamps audited together
_EXACT_LIMIT = 1_000_000  # multiply-adds of a stamp that fractions manage in about a minute
_CLOSES = 1e-9  # of the largest amount in a ledger; float64 leaves about 1e-14


@dataclass(frozen=True)
class Audit:
    """One stamp's ledger: its entries' arrays hold one number each; deviations are by layer."""

    index: int
    label: int | None
    logits: NDArray[Any]
    entries: list[Entry]
    deviations: list[float]

    @property
    def output(self) -> float:
        """The sum of |R| at the output, in which all amounts are told; 1 where it is 0."""
        return float(np.abs(self.entries[0].received[0])) or 1.0

    def amounts(self) -> list[dict[str, Any]]:
        """The rows of the table: a layer's amounts in shares of the output's relevance."""
        return [
            {
                "layer": entry.layer,
                "received": float(entry.received[0]) / self.output,
                "passed": float(entry.passed[0]) / self.output,
                **{line: float(entry.lines[line][0]) / self.output for line in LINES},
                "closing_error": float(entry.closing_error[0]) / self.output,
                "deviation": deviation,
            }
            for entry, deviation in zip(self.entries, self.deviations, strict=True)
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.out:
        _check_pictures(options.out, options.index)
    composite = rules.named(options.rule)
    (model,) = subjects.open_models([options.run])
    split = subjects.open_for(model, options.stamps, options.split)
    indices = subjects.chosen(split, options.index)
    stamps = subjects.as_read(model, split, indices)
    if options.exact:
        audits = _exact(model.network, model.params, stamps, composite, options.seed)
    else:
        k = get_kernels(options.device, options.threads)
        audits = _on_device(k, model.network, model.params, stamps, composite, options.seed)
    labels = [None if split.label is None else int(split.label[i]) for i in indices]
    found = []
    for index, label, (logits, entries, deviations) in zip(indices, labels, audits, strict=True):
        audit = Audit(int(index), label, logits, entries, deviations)
        found.append(audit)
        if not options.json:
            _print(audit, exact=options.exact)
        if options.out:
            path = _picture(options.out, audit.index, len(indices))
            figures.waterfall(
                path, audit.amounts()[0]["received"], _steps(audit), _title(model, audit, options.rule)
            )
    if options.json:
        print(json.dumps(_document(options, model, found), indent=2))
    return _status(found)


Found = tuple[NDArray[Any], list[Entry], list[float]]


def _on_device(
    k: Kernels, network: Network, params: NDArray, stamps: NDArray, rule: Composite, seed: seeds.Seed
) -> Iterator[Found]:
    """Each stamp's logits, ledger and deviations from the reference, layer by layer."""
    judge = get_kernels("reference")
    own, wide = k.asarray(params), np.float64(params)
    for start in range(0, len(stamps), _BLOCK):
        block = stamps[start : start + _BLOCK]
        logits, entries = ledger(k, judge, network, own, k.asarray(block), rule, seed)
        exact = network.relevance(judge, wide, np.float64(block), rule, seed).relevance[-2::-1]
        for row in range(len(block)):
            each = [_of_stamp(entry, row, len(block)) for entry in entries]
            pairs = zip(each, exact, strict=True)
            yield k.to_host(logits)[row], each, [_deviation(e.below, r[row :: len(block)]) for e, r in pairs]


def _exact(
    network: Network, params: NDArray, stamps: NDArray, rule: Composite, seed: seeds.Seed
) -> Iterator[Found]:
    """The same in fractions, without any rounding; deviations are the reference's from them."""
    if (count := _multiply_adds(network, params, stamps[:1])) > _EXACT_LIMIT:
        raise UserError(
            f"--exact: {count:,} multiply-adds a stamp exceed what fractions manage ({_EXACT_LIMIT:,}); "
            "train --arch cap-mini, or leave --exact out"
        )
    if seed == "probability":
        raise UserError("--exact: a probability is no fraction; choose another --seed")
    k, reference = exact_kernels(), get_kernels("reference")
    twin = Network([rules.exactly(layer) for layer in network.layers], network.in_shape)
    own = k.asarray(params)
    for stamp in stamps:
        logits, entries = ledger(k, k, twin, own, k.asarray(stamp[None]), rules.exact(rule), seed)
        close = network.relevance(reference, np.float64(params), np.float64(stamp[None]), rule, seed)
        pairs = zip(entries, close.relevance[-2::-1], strict=True)
        yield logits[0], entries, [_deviation(r, np.float64(e.below)) for e, r in pairs]


def _multiply_adds(network: Network, params: NDArray, stamp: NDArray) -> int:
    """The products that a stamp's forward pass sums, over its four rotations."""
    k = get_kernels("reference")
    _, steps = network.descend(k, np.float64(params), np.float64(stamp), rules.named("flat"))
    return sum(
        step.saved.z_pos.size * step.p["w"][..., 0].size for step in steps if hasattr(step.layer, "share")
    )


def _of_stamp(entry: Entry, row: int, n: int) -> Entry:
    lines = {name: amounts[row : row + 1] for name, amounts in entry.lines.items()}
    here = slice(row, row + 1)
    return Entry(entry.layer, entry.received[here], entry.passed[here], lines, entry.below[row::n])


def _deviation(found: NDArray, exact: NDArray) -> float:
    """max|R - R_reference| / max|R_reference| at a layer's input."""
    largest = np.abs(exact).max()
    return float(np.abs(found - exact).max() / (largest or 1))


def _status(audits: list[Audit]) -> int:
    """1 if a ledger does not close, which would be an error of this program or of a rule's account."""
    for audit in audits:
        largest = max(float(np.abs(entry.received[0])) for entry in audit.entries)
        for entry in audit.entries:
            error = abs(float(entry.closing_error[0]))
            if not error <= _CLOSES * largest:
                print(f"stamp {audit.index}: layer {entry.layer} does not close ({error:g})", file=sys.stderr)
                return 1
    return 0


def _document(options: argparse.Namespace, model: Model, audits: list[Audit]) -> dict[str, Any]:
    """What --json prints: amounts in shares of `output`, the sum of |R| at the logits."""
    return {
        "run": model.name,
        "rule": options.rule,
        "seed": options.seed,
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
            for audit in audits
        ],
    }


def _print(audit: Audit, exact: bool) -> None:
    """The table of one stamp, in percent of the output's relevance."""
    print(f"stamp {audit.index}: {_verdict(audit)}; 100% is {audit.output:.6g}, the sum of |R| at the output")
    names = ("received", "passed", "bias +", "bias -", "stabiliser", "one-sided", "dead", "crop")
    print(f"{'layer':<26}" + "".join(f"{name:>11}" for name in (*names, "rounding", "closing", "deviation")))
    for entry, row in zip(audit.entries, audit.amounts(), strict=True):
        shares = [row["received"], row["passed"], *(row[line] for line in LINES[:-1])]
        cells = "".join(f"{_percent(share):>11}" for share in shares)
        closing = _zero_or(entry.closing_error[0]) if exact else f"{row['closing_error']:.1e}"
        rounding = _zero_or(entry.lines["rounding"][0]) if exact else f"{row['rounding']:.1e}"
        print(f"{row['layer']:<26}{cells}{rounding:>11}{closing:>11}{row['deviation']:>11.1e}")
    print()


def _percent(share: float) -> str:
    return f"{100 * share:.4f}" if share else "0"


def _zero_or(fraction: Fraction) -> str:
    return "0" if fraction == 0 else f"{float(fraction):.1e}"


def _verdict(audit: Audit) -> str:
    logits = np.asarray(audit.logits, dtype=np.float64)
    p = np.exp(logits - logits.max())
    predicted = int(np.argmax(audit.logits))
    truth = "" if audit.label is None else f", labelled {subjects.CLASSES[audit.label]}"
    return f"predicted {subjects.CLASSES[predicted]} (p {p[predicted] / p.sum():.6f}){truth}"


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
    figures.require()
    for index in indices:
        refuse_existing(_picture(out, index, len(indices)))


def _parser() -> cli.Parser:
    parser = cli.Parser("audit", "Account for the relevance of single stamps, layer by layer.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a trained run")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    add("--index", type=cli.integer(0), nargs="+", required=True, metavar="I", help="the stamps' indices")
    add("--rule", default="alpha2beta1", help=f"one of {', '.join(rules.COMPOSITES)}")
    add("--seed", type=seeds.parse, default="predicted", help=f"{', '.join(seeds.SEEDS)}, or a class: 0 or 1")
    add("--split", choices=SPLITS, default="test", help="of a stamp store")
    add("--device", choices=DEVICES, default="cpu", help="whose relevance is audited")
    add("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    add("--exact", action="store_true", help="in fractions, without any rounding; for small networks")
    add("--json", action="store_true", help="print the ledger as JSON")
    add("--out", type=Path, metavar="FILE.png", help="draw a waterfall (several stamps: FILE-INDEX.png)")
    return parser


if __name__ == "__main__":
    cli.run("audit", main)
