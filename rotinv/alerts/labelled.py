"""Labelled alerts as a store to train on, and beside it a store of the alerts that have no label.

Alerts are read once, block by block. Labelled stamps wait on the disk for their splits, which are known when
all alerts are read: the alerts of an object go to one split, so that none is tested on a source that it was
trained with.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.files import Alerts, raw_blocks
from rotinv.alerts.stamp import BIT, Tally
from rotinv.stamps import packing
from rotinv.stamps.label_lists import ROUNDED, LabelList, is_rounded
from rotinv.stamps.splits import Split, first_few
from rotinv.stamps.store import CHANNELS, Writer, create_store
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, refuse_existing
from rotinv.system.messages import counted

_MOST_WORDS = 256  # that a store can tell apart

Columns = dict[str, NDArray[Any]]


def apart(out: str | Path) -> Path:
    """The store of the alerts without a label, beside the store `out` of those with one."""
    out = Path(out)
    return out.with_name(f"{out.stem}-unlabelled{out.suffix}")


class LabelledImport:
    """Makes the two stores of alerts and a list of labels; `warnings` and `lines` then tell what they have.

    Parameters
    ----------
    labels : LabelList
        The list.
    out : str or Path
        The store to train on; that of alerts without a label is apart(out), if there are such.
    size : int
        The side of the stamps, in pixels.
    fractions : sequence of float
        The share of the stamps that the splits train, validate and test get.
    seed : int
        Which objects go where.
    overwrite : bool
        Whether to replace stores that are there already.
    """

    def __init__(
        self,
        labels: LabelList,
        out: str | Path,
        size: int,
        fractions: Sequence[float],
        seed: int,
        *,
        overwrite: bool = False,
    ) -> None:
        self._overwrite = overwrite
        self._out, self._size, self._fractions, self._seed = Path(out), size, tuple(fractions), seed
        self._matching = Matching(labels)
        self._labels = labels
        self._columns: list[Columns] = []
        self._labelled = self._lacking = self._unlabelled = 0
        self.tally = Tally()
        self._splits: list[str] = []
        self._removed = False
        self.warnings: list[str] = []
        for path in (self._out, apart(out)):
            refuse_existing(path, overwrite)

    def run(self, files: Alerts, progress: Callable[[int], object]) -> None:
        """Read the alerts and write the stores, both or neither.

        Raises UserError if no label matches an alert, if no labelled alert has pixels in every channel, and
        if the objects are too few for the splits.
        """
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(_Waiting(self._out, self._size))
            writer: Writer | None = None
            for _, stamps, flags, known in raw_blocks(files, 0, len(files), self._size):
                self.tally.add(flags, known["survey"])
                columns = {**known, "flags": flags}
                has_label = self._sort(waiting, stamps, columns)
                if not has_label.all():
                    writer = writer or stack.enter_context(self._store_apart())
                    rest = {name: values[~has_label] for name, values in columns.items()}
                    writer.append("test", stamps[~has_label], None, **rest)
                    self._unlabelled += len(rest["flags"])
                progress(len(stamps))
            self._write(waiting.stamps(), {**_about(), "unreadable_files": len(files.unreadable)})
        if not self._unlabelled:
            self._remove_old()

    def lines(self, read: str) -> list[str]:
        """What was made of the alerts that were `read`."""
        lines = [*self._splits, f"{self._out}: {counted(self._labelled, 'labelled alert')}, of {read}"]
        if self._unlabelled:
            lines.append(f"{apart(self._out)}: {counted(self._unlabelled, 'alert')} without a label")
        if self._removed:
            lines.append(f"{apart(self._out)}: removed, for every alert has a label now")
        return lines

    def _remove_old(self) -> None:
        """Remove an earlier import's store of alerts without a label, of which there are none any more."""
        old = apart(self._out)
        self._removed = self._overwrite and old.exists()
        if self._removed:
            with disk_errors(old):
                old.unlink()

    def _store_apart(self) -> contextlib.AbstractContextManager[Writer]:
        return create_store(
            apart(self._out),
            channels=CHANNELS,
            size=self._size,
            attributes=_about(),
            labels=False,
            alerts=True,
            overwrite=self._overwrite,
        )

    def _sort(self, waiting: "_Waiting", stamps: NDArray[np.float32], columns: Columns) -> NDArray[np.bool_]:
        """Have the labelled alerts of a block wait, if they have pixels; says which have a label."""
        words = self._matching.words(columns["candidate_id"], columns["object_id"])
        has_label = words != ""
        good = has_label & np.isfinite(stamps).reshape(len(stamps), -1).all(axis=1)
        self._lacking += int(has_label.sum() - good.sum())
        self._columns.append({name: values[good] for name, values in {**columns, "word": words}.items()})
        waiting.add(stamps[good])
        return np.asarray(has_label)

    def _write(self, stamps: NDArray[np.float32], about: dict[str, Any]) -> None:
        """The store of labelled alerts."""
        self.warnings = self._matching.check()
        if not len(stamps):
            raise UserError(
                f"{self._labels.path}: none of its {counted(self._lacking, 'alert')} has pixels in every "
                f"channel ({', '.join(CHANNELS)}); {'; '.join(self.tally.lines('all alerts')[:1])}"
            )
        columns, kinds = self._joined()
        ids = columns["candidate_id"]
        group = packing.groups_of(columns["object_id"], ids)
        parts = packing.pack(
            self._out,
            Split(self._labels.path, "labelled", stamps),
            np.arange(len(stamps)),
            columns,
            channels=CHANNELS,
            kinds=kinds,
            fractions=self._fractions,
            seed=self._seed,
            group=group,
            together="object",
            attributes=about,
            overwrite=self._overwrite,
        )
        self._labelled = len(stamps)
        self._splits = packing.lines(parts, columns["label"], group, "object")
        self._tell(parts, columns["label"], ids[ids != ""])
        self._tell_of_objects(columns["object_id"], columns["label"])

    def _joined(self) -> tuple[Columns, list[str]]:
        """The columns of all labelled alerts, with `label` and `kind`, and the kinds' names: their words."""
        columns = {name: np.concatenate([one[name] for one in self._columns]) for name in self._columns[0]}
        for name in ("object_id", "candidate_id", "word"):
            columns[name] = columns[name].astype(str)
        words, kind = np.unique(columns.pop("word"), return_inverse=True)
        if len(words) > _MOST_WORDS:
            text = f"has {len(words)} different words; give {_MOST_WORDS} at most"
            raise UserError(f"{self._labels.path}: {text}")
        kinds = [str(word) for word in words]
        label = np.array([self._labels.label_of(word) for word in kinds])[kind]
        return {**columns, "kind": kind, "label": label}, kinds

    def _tell(self, parts: dict[str, NDArray[np.int64]], label: NDArray, ids: NDArray[np.str_]) -> None:
        """What the user should know of the two stores."""
        out, where = self._out, self._labels.path
        for name, part in parts.items():
            if len(part) and len(classes := np.unique(label[part])) == 1:
                only = ("artifacts", "candidates")[classes[0]]
                self.warnings.append(f"{out}: {name} has {only} only; label more of both, or change --split")
        if again := len(ids) - len(np.unique(ids)):
            self.warnings.append(f"{where}: {counted(again, 'alert')} came again; each counts")
        if self._lacking:
            lacking = counted(self._lacking, "labelled alert")
            self.warnings.append(f"{out}: {lacking} left out, which lack the pixels of a channel")

    def _tell_of_objects(self, objects: NDArray[np.str_], label: NDArray) -> None:
        """Tell of objects of which some alerts are labelled real and others bogus: it may be meant."""
        both = set(objects[label == 1]) & set(objects[label == 0]) - {""}
        if both:
            few = first_few(np.array(sorted(both)))
            text = (
                f"{counted(len(both), 'object')} with real and with bogus alerts ({few}); each label counts"
            )
            self.warnings.append(f"{self._labels.path}: {text}")


class Matching:
    """Finds the label of each alert in a list, and keeps account of the labels that were found."""

    def __init__(self, labels: LabelList) -> None:
        self._labels = labels
        self._found: tuple[set[str], set[str]] = set(), set()  # ids of candidates, of objects
        self._misplaced: tuple[set[str], set[str]] = set(), set()  # those that stand in the other column
        self._overruled = 0

    def words(self, candidate_ids: NDArray, object_ids: NDArray) -> NDArray[Any]:
        """The word of each alert: its own, or else that of its object; "" where it has none."""
        found = [self._word(*ids) for ids in zip(candidate_ids, object_ids, strict=True)]
        return np.array(found, dtype=object)

    def _word(self, candidate: str, source: str) -> str:
        labels = self._labels
        if candidate in labels.objects:
            self._misplaced[1].add(candidate)
        if source in labels.candidates:
            self._misplaced[0].add(source)
        own, of_object = labels.candidates.get(candidate), labels.objects.get(source)
        if of_object is not None:
            self._found[1].add(source)
        if own is None:
            return of_object or ""
        self._found[0].add(candidate)
        if of_object is not None and labels.label_of(own) != labels.label_of(of_object):
            self._overruled += 1
        return own

    def check(self) -> list[str]:
        """What the user should know of the list. Raises UserError if none of its labels matches an alert."""
        labels = self._labels
        missing = [
            [key for key in known if key not in found]
            for known, found in zip((labels.candidates, labels.objects), self._found, strict=True)
        ]
        lost, total = sum(map(len, missing)), len(labels.candidates) + len(labels.objects)
        told = []
        if lost:
            few = first_few(np.array(missing[0] + missing[1]))
            text = f"{labels.path}: no alert matches {lost:,} of {counted(total, 'label')} ({few})"
            text += self._why(missing)
            if lost == total:
                raise UserError(text)
            told.append(text)
        if self._overruled:
            count = counted(self._overruled, "alert")
            told.append(f"{labels.path}: {count} labelled otherwise than the object; the own label counts")
        if labels.blank:
            told.append(f"{labels.path}: {counted(labels.blank, 'row')} without a label passed over")
        return told

    def _why(self, missing: Sequence[list[str]]) -> str:
        """Why labels may match no alert, and what to do; empty if it is not known."""
        of_objects, of_candidates = (
            len(found & set(keys)) for found, keys in zip(self._misplaced, missing, strict=True)
        )
        if of_objects:
            return f"; {of_objects:,} of these are ids of objects: name their column object_id"
        if of_candidates:
            return f"; {of_candidates:,} of these are ids of candidates: name their column id"
        if any(map(is_rounded, missing[0] + missing[1])):
            return f"; some end in zeros, and {ROUNDED}"
        return ""


class _Waiting:
    """Stamps that are kept in a file without a name, on the disk of the store; a context manager."""

    def __init__(self, out: Path, size: int) -> None:
        self._out, self._shape, self._count = out, (size, size, len(CHANNELS)), 0

    def __enter__(self) -> "_Waiting":
        with disk_errors(self._out):
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._out.parent)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, stamps: NDArray[np.float32]) -> None:
        with disk_errors(self._out):
            self._file.write(np.ascontiguousarray(stamps, np.float32).data)
        self._count += len(stamps)

    def stamps(self) -> NDArray[np.float32]:
        """All of them (n, size, size, channels)."""
        shape = (self._count, *self._shape)
        with disk_errors(self._out):
            self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=shape) if self._count else np.empty(shape, "f4")


def _about() -> dict[str, int]:
    """What a store says of the bits of its flags."""
    return {f"flag_{name}": bit for name, bit in BIT.items()}
