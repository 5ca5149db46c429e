"""`python -m rotinv.score`: score stamps with one trained network, or by the vote of several (CAPE)."""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli, scoring, subjects
from rotinv.backend import DEVICES, Kernels, get_kernels
from rotinv.files import refuse_existing, written_whole
from rotinv.runs import Model
from rotinv.splits import Split, usable
from rotinv.stamps import SPLITS


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.out:
        refuse_existing(options.out)
    models = subjects.open_models(options.runs)
    k = get_kernels(options.device, options.threads, options.precision)
    split = subjects.open_for(models[0], options.stamps, options.split)
    indices = usable(split, options.on_bad)
    if dropped := len(split) - len(indices):
        _say(f"{options.stamps}: {dropped} stamps left out, their pixels are not finite")
    rows = _rows(k, models, split, indices)
    bar = tqdm(rows, total=len(indices), unit="stamps", disable=not sys.stderr.isatty())
    if options.out is None:
        _write(sys.stdout, _header(models, split), bar)
    else:
        with written_whole(options.out) as temporary, temporary.open("w", newline="") as file:
            _write(file, _header(models, split), bar)
        _say(f"{options.out}: {len(indices):,} stamps scored")
    return 0


def _rows(
    k: Kernels, models: list[Model], split: Split, indices: NDArray[np.int64]
) -> Iterator[list[object]]:
    """The table's rows, a block of stamps at a time."""
    params = [k.asarray(model.params) for model in models]
    done = blank = 0
    for stamps, constant in scoring.blocks(split, indices, models[0].config.size):
        here = indices[done : done + len(stamps)]
        done += len(stamps)
        pairs = list(zip(models, params, strict=True))
        each = [scoring.probability(k, m.network, p, stamps) for m, p in pairs]
        spread = [scoring.rotation_std(k, m.network, p, stamps) for m, p in pairs]
        probability, predicted = scoring.vote(each)
        known = [column[here] for column in (split.label, split.snr) if column is not None]
        columns = [here, probability, predicted, *known, *each, *spread]
        yield from map(list, zip(*columns, strict=True))
        blank += constant
    if blank:
        _say(f"{split.path}: {blank} channels of stamps are constant; they were scored as zeros")


def _header(models: list[Model], split: Split) -> list[str]:
    unique = subjects.unique_names(models)
    known = [name for name in ("label", "snr") if getattr(split, name) is not None]
    each = [f"probability_{name}" for name in unique]
    return ["index", "probability", "class", *known, *each, *(f"rotation_std_{name}" for name in unique)]


def _write(file: TextIO, header: list[str], rows: Iterator[list[object]]) -> None:
    """Write the table; a number is given by the fewest digits that read back to the same bits."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([str(value) for value in row] for row in rows)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # standard output is the table's


def _parser() -> cli.Parser:
    parser = cli.Parser("score", "Score stamps with a trained network; several vote by majority (CAPE).")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of trained runs")
    parser.add_argument(
        "stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz of (N,S,S,C) or (N,C,S,S)"
    )
    parser.add_argument("--out", type=Path, help="CSV to write (default: standard output)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="of a stamp store")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--threads", type=cli.integer(1), help="threads of the cpu device (default: all)")
    cli.add_precision(parser)
    parser.add_argument("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    return parser


if __name__ == "__main__":
    cli.run("score", main)
