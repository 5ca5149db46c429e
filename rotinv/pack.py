"""Make a stamp store from one's own arrays: python -m rotinv.pack ARRAYS.npz --out store.h5."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv import cli
from rotinv.stamps import packing
from rotinv.stamps.arrays import channels_last, read_arrays
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.labels import Words, labels_of, texts_of
from rotinv.stamps.splits import WHOLE, Split, bad_pixels, check_scaled, usable
from rotinv.stamps.store import CHANNELS
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing

_IDS = ("object_id", "candidate_id")


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    refuse_existing(options.out, options.overwrite)
    words, classes = Words.of(options.real, options.bogus), _classes(options)
    if words and classes != TWO:
        raise UserError("--real and --bogus are words for two classes; with --classes the labels name theirs")
    arrays, channels = _read(options.arrays, options.channels, words, classes)
    everything = Split(options.arrays, WHOLE, arrays["stamps"], options.normalisation, classes=classes)
    if options.normalisation == "minmax":
        check_scaled(everything)
    kept = usable(everything, options.on_bad)
    if len(kept) < len(everything):
        bad = np.setdiff1d(np.arange(len(everything)), kept)
        told = f"dropped {len(bad):,} of {cli.counted(len(everything), 'stamp')}"
        print(f"{told}: {bad_pixels(everything, bad)}")
    kinds = _name_kinds(options.arrays, arrays)
    columns = {key: values for key, values in arrays.items() if key != "stamps"}
    together, group = _together(arrays)
    parts = packing.pack(
        options.out,
        everything,
        kept,
        columns,
        channels=channels,
        kinds=kinds,
        fractions=options.split,
        seed=options.seed,
        group=group,
        together=together,
        overwrite=options.overwrite,
    )
    for line in packing.lines(parts, arrays["label"], group, together, classes):
        print(line)
    return 0


def _classes(options: Namespace) -> Classes:
    if options.classes is None and options.candidate is not None:
        raise UserError(f"--candidate {options.candidate}: name all classes by --classes")
    return TWO if options.classes is None else Classes.of(options.classes, options.candidate)


def _parser() -> cli.Parser:
    parser = cli.Parser("pack", "Make a stamp store from one's own arrays.")
    add = parser.add_argument
    add(
        "arrays",
        type=Path,
        metavar="ARRAYS.npz",
        help="arrays stamps (N,S,S,C) or (N,C,S,S), label (1 candidate, 0 artifact, or words), and "
        "optionally snr, and as numbers or names kind (of artifact), image, object_id and candidate_id",
    )
    add("--out", type=Path, required=True, metavar="STORE.h5", help="the store to make")
    cli.add_overwrite(parser)
    cli.add_words(parser)
    cli.add_classes(parser, "the labels are their names, or their numbers from 0")
    add(
        "--split",
        type=cli.fractions,
        default=packing.FRACTIONS,
        metavar="TRAIN,VALIDATE,TEST",
        help="fractions of the stamps; all stamps of an image, and all of an object, go to one split",
    )
    add("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="which images or objects go where")
    add(
        "--channels",
        type=cli.names,
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


def _read(
    path: Path, names: Sequence[str] | None, words: Words | None, classes: Classes
) -> tuple[dict[str, NDArray[Any]], Sequence[str]]:
    """The arrays, checked, and the names of the channels; labels in words are kinds, where there are none."""
    arrays = read_arrays(path)
    if "label" not in arrays:
        raise UserError(
            f"{path}: has no array 'label' (1 candidate, 0 artifact, or words); np.savez writes stamps and "
            "label into one .npz"
        )
    stamps = channels_last(path, arrays["stamps"], len(names) if names else None)
    if not len(stamps):
        raise UserError(f"{path}: has no stamps at all")
    arrays["stamps"] = stamps
    label = arrays["label"]
    arrays["label"] = labels_of(f"{path}: label", label, words, classes)
    if label.dtype.kind in "US" and classes == TWO:
        arrays.setdefault("kind", label)
    for name in _IDS:
        if name in arrays:
            arrays[name] = texts_of(f"{path}: {name}", arrays[name])
    return arrays, names or packing.channel_names(stamps.shape[3])


def _together(arrays: dict[str, NDArray[Any]]) -> tuple[str, NDArray[np.int64]]:
    """What goes to one split together, in a word, and the number of each stamp's."""
    count = len(arrays["stamps"])
    if "object_id" not in arrays:
        return "image", arrays.get("image", np.arange(count))
    found = arrays["object_id"]
    objects = np.where(found == "0", "", found)  # a broker's null: no object
    if "image" not in arrays:
        return "object", packing.groups_of(objects)
    return "group", packing.groups_of(arrays["image"], objects)


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
    names, arrays["kind"] = np.unique(texts_of(f"{path}: kind", kind), return_inverse=True)
    if len(names) > 256:
        raise UserError(f"{path}: kind has {len(names)} different names; at most 256 can be stored")
    return [str(name) for name in names]


if __name__ == "__main__":
    cli.run("pack", main)
