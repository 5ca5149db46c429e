"""Make a stamp store from one's own arrays: python -m rotinv.pack ARRAYS.npz --out store.h5."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv import cli
from rotinv.stamps import packing
from rotinv.stamps.arrays import channels_last, read_arrays
from rotinv.stamps.splits import Split, check_labels, check_scaled, usable
from rotinv.stamps.store import CHANNELS
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    refuse_existing(options.out)
    arrays, channels = _read(options.arrays, options.channels)
    everything = Split(options.arrays, "stamps", arrays["stamps"], options.normalisation)
    if options.normalisation == "minmax":
        check_scaled(everything)
    kept = usable(everything, options.on_bad)
    if len(kept) < len(everything):
        print(f"dropped {len(everything) - len(kept)} of {len(everything)} stamps: NaN or infinite pixels")
    kinds = _name_kinds(options.arrays, arrays)
    columns = {key: values for key, values in arrays.items() if key != "stamps"}
    parts = packing.pack(
        options.out,
        everything,
        kept,
        columns,
        channels=channels,
        kinds=kinds,
        fractions=options.split,
        seed=options.seed,
    )
    image = arrays.get("image", np.arange(len(everything)))
    for name, chosen in parts.items():
        candidates = int(arrays["label"][chosen].sum())
        images = len(np.unique(image[chosen]))
        print(
            f"{name}: {cli.counted(len(chosen), 'stamp')} ({cli.counted(candidates, 'candidate')}, "
            f"{cli.counted(len(chosen) - candidates, 'artifact')}) of {cli.counted(images, 'image')}"
        )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("pack", "Make a stamp store from one's own arrays.")
    add = parser.add_argument
    add(
        "arrays",
        type=Path,
        metavar="ARRAYS.npz",
        help="arrays stamps (N,S,S,C) or (N,C,S,S), label (1 candidate, 0 artifact), and optionally "
        "snr, kind (of artifact: numbers or names) and image (its number)",
    )
    add("--out", type=Path, required=True, metavar="STORE.h5", help="the store to make")
    add(
        "--split",
        type=_fractions,
        default=packing.FRACTIONS,
        metavar="TRAIN,VALIDATE,TEST",
        help="fractions of the stamps; all stamps of an image go to one split",
    )
    add("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="which images go where")
    add(
        "--channels",
        type=_names,
        metavar="NAME,NAME,...",
        help=f"what the channels are, in their order; by default {','.join(CHANNELS)} if there are four, "
        "otherwise channel0,channel1,...",
    )
    add(
        "--normalisation",
        choices=("none", "minmax"),
        default="none",
        help="none: raw pixels, which are scaled when they are read; minmax: scaled to 0..1 already",
    )
    add(
        "--on-bad",
        choices=("error", "drop"),
        default="error",
        help="what to do about stamps with NaN or infinite pixels",
    )
    return parser


def _fractions(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, as in 0.8,0.1,0.1") from None
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, as in 0.8,0.1,0.1")
    if not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: every fraction must lie between 0 and 1")
    if not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise argparse.ArgumentTypeError(f"{text!r}: the fractions sum to {sum(values):g}, not to 1")
    return values


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r}: every channel needs a name of its own")
    return names


def _read(path: Path, names: Sequence[str] | None) -> tuple[dict[str, NDArray[Any]], Sequence[str]]:
    """The arrays, checked, and the names of the channels."""
    arrays = read_arrays(path)
    if "label" not in arrays:
        raise UserError(f"{path}: has no array 'label' (1 candidate, 0 artifact)")
    stamps = channels_last(path, arrays["stamps"], len(names) if names else None)
    if not len(stamps):
        raise UserError(f"{path}: has no stamps at all")
    arrays["stamps"] = stamps
    arrays["label"] = check_labels(f"{path}: label", arrays["label"])
    return arrays, names or packing.channel_names(stamps.shape[3])


def _name_kinds(path: Path, arrays: dict[str, NDArray[Any]]) -> list[str]:
    """The names of the kinds; names in the array `kind` are replaced by their numbers."""
    kind = arrays.get("kind")
    if kind is None:
        return []
    if kind.dtype.kind in "iu":
        wrong = np.flatnonzero((kind < 0) | (kind > 255))
        if len(wrong):
            raise UserError(
                f"{path}: kind {kind[wrong[0]]} at index {wrong[0]} is out of range; "
                "number kinds from 0 to 255, or name them"
            )
        return [str(number) for number in range(int(kind.max()) + 1)]
    try:
        names, arrays["kind"] = np.unique(kind.astype(str), return_inverse=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: kind holds bytes that are not ASCII ({error}); give text") from error
    if len(names) > 256:
        raise UserError(f"{path}: kind has {len(names)} different names; at most 256 can be stored")
    return [str(name) for name in names]


if __name__ == "__main__":
    cli.run("pack", main)
