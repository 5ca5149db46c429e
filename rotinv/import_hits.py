"""Make a stamp store of the original HiTS files: python -m rotinv.import_hits SOURCE --out hits.h5."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rotinv import cli
from rotinv.stamps import hits
from rotinv.stamps.store import CHANNELS, SPLITS, Writer, create_store
from rotinv.stamps.unpickling import refuse_other_files
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing

ALL_SIZES = 0
_MOST_NAMES = 500  # of files that could not be read, kept in the attributes

Choice = str | tuple[float, ...]  # of --split: a split's name, or fractions


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    refuse_existing(options.out, options.overwrite)
    skipped = Counter[str](dict.fromkeys(hits.SKIPPED, 0))
    parts = _find(options, skipped)
    attributes: dict[str, object] = {
        "source": options.source.resolve().name,
        "import_normalisation": options.normalisation,
    }
    if options.split is not None:
        attributes |= {"split": options.split, "seed": options.seed}
    faithful = options.normalisation == "faithful"
    with create_store(
        options.out,
        channels=CHANNELS,
        size=hits.SIDE,
        normalisation="minmax" if faithful else "none",
        attributes=attributes,
        overwrite=options.overwrite,
    ) as writer:
        report = _Import(writer, skipped, faithful, options.skip_bad_files)
        report.read(parts, options.seed)
        report.check(options.source, parts)
        writer.note(report.attributes())
    report.show(options.out)
    return 0


@dataclass(frozen=True)
class _Part:
    """A file and where its rows go."""

    path: Path
    split: Choice


def _find(options: argparse.Namespace, skipped: Counter[str]) -> list[_Part]:
    """The files to read, in order. Raises UserError unless source and --split fit one another."""
    source: Path = options.source
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    folders = {split: source / f"chunks_{split}" for split in SPLITS}
    there = [folder.name for folder in folders.values() if folder.is_dir()]
    if there:
        _check_folders(source, folders, there, options.split)
        return [
            _Part(path, split)
            for split, folder in folders.items()
            for path in hits.list_chunks(folder, options.chunk_size, skipped)
        ]
    paths = [source] if source.is_file() else hits.list_chunks(source, options.chunk_size, skipped)
    if options.split is None:
        if source.is_file():
            refuse_other_files(source)
        what = (
            "is one file" if source.is_file() else "has no folders chunks_train, chunks_validate, chunks_test"
        )
        raise UserError(
            f"{source}: {what}; say with --split what its stamps are: train, validate or test, "
            "or fractions of the three such as 0.8,0.1,0.1"
        )
    if isinstance(options.split, str) or len(paths) == 1:
        return [_Part(path, options.split) for path in paths]
    place = _divide(len(paths), options.split, options.seed)
    for split, fraction, number in zip(SPLITS, options.split, range(3), strict=True):
        if fraction and number not in place:
            raise UserError(
                f"{source}: its {len(paths)} chunks are too few for --split: '{split}' gets none; "
                "give it the fraction 0"
            )
    return [_Part(path, SPLITS[number]) for path, number in zip(paths, place, strict=True)]


def _check_folders(source: Path, folders: dict[str, Path], there: list[str], split: Choice | None) -> None:
    if split is not None:
        raise UserError(
            f"{source}: has {', '.join(there)}, which say what is what; leave --split out, "
            f"or name one of them: {source / there[0]} --split train"
        )
    for folder in folders.values():
        if folder.name not in there:
            raise UserError(
                f"{source}: has {', '.join(there)} but no {folder.name}; add it, or import one folder "
                f"alone: {source / there[0]} --split {there[0].removeprefix('chunks_')}"
            )


def _divide(count: int, fractions: Sequence[float], seed: int) -> NDArray[np.int64]:
    """For each of `count` chunks or rows, the number of its split; the seed decides which go where."""
    bounds = np.rint(np.cumsum(fractions)[:-1] * count)
    place = np.searchsorted(bounds, np.arange(count), side="right")
    return np.random.default_rng(seed).permutation(place)


class _Import:
    """What is read and written, and the counts of it."""

    def __init__(self, writer: Writer, skipped: Counter[str], faithful: bool, skip_bad_files: bool) -> None:
        self._writer, self._faithful, self._skip_bad_files = writer, faithful, skip_bad_files
        self._skipped = skipped
        self._unreadable: list[str] = []
        self._alone = False
        self._constant = self._files = self._read = 0
        self._labels = {split: np.zeros(2, dtype=np.int64) for split in SPLITS}

    def read(self, parts: Sequence[_Part], seed: int) -> None:
        """Read every file in turn, with a bar; what a file holds is forgotten before the next."""
        self._alone = len(parts) == 1
        sizes = [part.path.stat().st_size if part.path.exists() else 0 for part in parts]
        bar = tqdm(total=sum(sizes), unit="B", unit_scale=True, disable=not cli.progress_wanted())
        with bar:
            for part, size in zip(parts, sizes, strict=True):
                bar.set_postfix_str(part.path.name, refresh=False)
                for share in self._read_file(part, seed):
                    bar.update(share * size)

    def _read_file(self, part: _Part, seed: int) -> Iterator[float]:
        """Write the rows of a file; gives the share of it that is done, block by block."""
        try:
            chunk = hits.read_chunk(part.path)
        except UserError as error:
            if not self._skip_bad_files:
                remedy = "" if self._alone else "; or go on without such files: --skip-bad-files"
                raise UserError(f"{error}{remedy}") from error
            self._skipped["unreadable_files"] += 1
            self._unreadable.append(f"{part.path.parent.name}/{part.path.name}")
            tqdm.write(f"left out: {error}", file=sys.stderr)
            return
        place = None if isinstance(part.split, str) else _divide(len(chunk), part.split, seed)
        for block in chunk.blocks(self._faithful):
            for number, split in enumerate(SPLITS):
                chosen = slice(None) if place is None else place[block.rows] == number
                if place is not None or split == part.split:
                    self._append(split, block.stamps[chosen], block.label[chosen], block.snr[chosen])
            self._constant += block.constant
            yield len(block.rows) / len(chunk)
        self._files += 1
        self._read += len(chunk)
        self._skipped += chunk.skipped

    def _append(self, split: str, stamps: NDArray, label: NDArray, snr: NDArray) -> None:
        self._writer.append(split, stamps, label, snr)
        self._labels[split] += np.bincount(label, minlength=2)

    def check(self, source: Path, parts: Sequence[_Part]) -> None:
        """Raise UserError if a split that should have stamps has none."""
        for number, split in enumerate(SPLITS):
            wanted = any(
                part.split == split if isinstance(part.split, str) else part.split[number] > 0
                for part in parts
            )
            if wanted and not self._labels[split].sum():
                raise UserError(
                    f"{source}: no good stamp is left for '{split}' ({self._told() or 'no rows'})"
                )

    def attributes(self) -> dict[str, object]:
        """The counts, for the store."""
        counts = {f"skipped_{name}": self._skipped[name] for name in hits.SKIPPED}
        names = np.array(self._unreadable[:_MOST_NAMES], dtype=object)
        named = {"unreadable_files": names.astype(h5py.string_dtype())} if len(names) else {}
        return {
            "files_read": self._files,
            "rows_read": self._read,
            **counts,
            "constant_channels": self._constant,
            **named,
        }

    def show(self, out: Path) -> None:
        """Print what became of everything."""
        for split, (artifacts, candidates) in self._labels.items():
            total = artifacts + candidates
            classes = (
                f"{cli.counted(int(candidates), 'candidate')}, {cli.counted(int(artifacts), 'artifact')}"
            )
            print(f"{split}: {cli.counted(int(total), 'stamp')} ({classes})")
        read = f"{cli.counted(self._files, 'file')}, {cli.counted(self._read, 'row')} read"
        print(f"{out}: {read}; skipped: {self._told() or 'nothing'}")
        if self._constant:
            constant = cli.counted(self._constant, "constant channel")
            print(f"{constant} of stamps became NaN, as in the original; give train and score --on-bad drop")

    def _told(self) -> str:
        return ", ".join(
            f"{self._skipped[k]:,} {text}" for k, text in hits.SKIPPED.items() if self._skipped[k]
        )


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "import_hits", "Make a stamp store of the original HiTS files; nothing in them is run."
    )
    add = parser.add_argument
    add(
        "source",
        type=Path,
        metavar="SOURCE",
        help="folder of chunks_train, chunks_validate and chunks_test, or of chunks "
        "(chunk_<i>_5000.pkl, chunk_<i>_50000.pkl), or one pickle (a chunk, or images and labels)",
    )
    add("--out", type=Path, required=True, metavar="STORE.h5", help="the store to make")
    cli.add_overwrite(parser)
    add(
        "--split",
        type=_split,
        metavar="{train,validate,test} or TRAIN,VALIDATE,TEST",
        help="of a folder of chunks or one file: the split that it is, or fractions; "
        "a chunk goes to one split whole, the rows of one file are divided",
    )
    add("--seed", type=cli.integer(0), default=0, help="with fractions: which chunks or rows go where")
    add(
        "--normalisation",
        choices=("none", "faithful"),
        default="none",
        help="none: raw pixels, which are scaled when they are read; faithful: scaled with the original's "
        "arithmetic, (x - min)/(max - min) in the file's own type, NaN where max = min",
    )
    add(
        "--chunk-size",
        type=_chunk_size,
        metavar="{5000,50000,all}",
        help="of a folder that has chunks of several sizes: which to read",
    )
    add("--skip-bad-files", action="store_true", help="go on without the files that cannot be read")
    return parser


def _split(text: str) -> Choice:
    if text in SPLITS:
        return text
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values) or abs(math.fsum(values) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither train, validate or test nor fractions that sum to 1, as 0.8,0.1,0.1"
        )
    return values


def _chunk_size(text: str) -> int:
    return ALL_SIZES if text == "all" else cli.integer(1)(text)


if __name__ == "__main__":
    cli.run("import_hits", main)
