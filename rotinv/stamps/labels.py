"""Labels as people write them: words for real and bogus sources, and lists of labels by the alerts' ids."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.classes import TWO, Classes, check_labels
from rotinv.system.errors import UserError

# What a list's columns may be called, in lower case; Fink puts one letter and a colon before each.
_OWN = "id"  # as rotinv pick writes it: 0 alone is the first of stamps that have no ids
_CANDIDATE = (_OWN, "candidate_id", "candid", "diasourceid")
_OBJECT = ("object_id", "objectid", "diaobjectid", "ssobjectid")
_LABEL = "label"
_SEPARATORS = ",;\t"  # spreadsheets write ; where the comma is the decimal mark
_ROUNDED = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+|\d+\.\d*")  # 1.5E+18, 15.0: an id that was a float


@dataclass(frozen=True)
class Words:
    """The words that say of a source that it is real (a candidate, 1) and that it is bogus (an artifact, 0).

    Case does not matter, and 1.0 is 1. Raises UserError for a word that says both.
    """

    real: tuple[str, ...] = ("real", "1")
    bogus: tuple[str, ...] = ("bogus", "0")

    def __post_init__(self) -> None:
        if both := set(map(plain, self.real)) & set(map(plain, self.bogus)):
            raise UserError(f"--real and --bogus both have the word {min(both)!r}; give it to one of them")

    @cached_property
    def _known(self) -> dict[str, int]:
        return {**{plain(word): 1 for word in self.real}, **{plain(word): 0 for word in self.bogus}}

    @classmethod
    def of(cls, real: tuple[str, ...] | None, bogus: tuple[str, ...] | None) -> "Words | None":
        """The words of the options --real and --bogus; None where neither is given."""
        if real is None and bogus is None:
            return None
        return cls(real or cls.real, bogus or cls.bogus)

    def label_of(self, where: str, word: str) -> int:
        """1 or 0. Raises UserError for a word that is not among them."""
        found = self._known.get(plain(word))
        if found is None:
            raise UserError(
                f"{where}: the label {word!r} is neither real ({', '.join(self.real)}) nor bogus "
                f"({', '.join(self.bogus)}); say which with --real or --bogus"
            )
        return found


def plain(word: str) -> str:
    """A word as it is compared: without blanks about it, in lower case, a whole number without decimals."""
    word = word.strip().casefold()
    return word[:-2] if word.endswith(".0") and word[:-2].isdigit() else word


def labels_of(
    where: str, values: NDArray, words: Words | None = None, classes: Classes = TWO
) -> NDArray[np.uint8]:
    """Labels (n,), numbers or words, as the numbers of classes; without `words`, names of classes will do.

    Raises UserError for numbers of no class, unless `words` says what they mean, and for other words.
    """
    if words is None and values.dtype.kind not in "US":
        return check_labels(where, values, classes)
    if words is None and classes != TWO:
        return _by_name(where, values, classes)
    words = words or Words()
    names, owner = np.unique(texts_of(where, values), return_inverse=True)
    found = [words.label_of(where, str(name)) for name in names]
    return np.array(found, np.uint8)[owner]


def _by_name(where: str, values: NDArray, classes: Classes) -> NDArray[np.uint8]:
    names, owner = np.unique(texts_of(where, values), return_inverse=True)
    if unknown := [str(name) for name in names if name not in classes.names]:
        raise UserError(f"{where}: the label {unknown[0]!r} is none of the classes {classes}")
    return np.array([classes.names.index(name) for name in names], np.uint8)[owner]


def texts_of(where: str, values: NDArray) -> NDArray[np.str_]:
    """Numbers, texts or bytes (n,) as texts. Raises UserError for bytes that are not ASCII."""
    try:
        return values.astype(str)
    except UnicodeDecodeError as error:
        raise UserError(f"{where} holds bytes that are not ASCII ({error}); give text") from error


@dataclass(frozen=True)
class LabelList:
    """A list of labels.

    Attributes
    ----------
    path
        The file that it was read from.
    words
        What its words mean.
    candidates, objects
        The words by the ids of candidates (single alerts) and of objects (all alerts of a source).
    blank
        How many rows have no label.
    """

    path: Path
    words: Words
    candidates: Mapping[str, str]
    objects: Mapping[str, str]
    blank: int

    def label_of(self, word: str) -> int:
        """1 or 0 of a word of the list."""
        return self.words.label_of(str(self.path), word)


def read_labels(path: str | Path, words: Words | None = None) -> LabelList:
    """A list of labels: CSV with a header, the column `label`, and `id`, `object_id` or both.

    A row with an id labels that candidate; one with an object's id alone labels all alerts of the object.
    The surveys' own names of these columns will do, and a spreadsheet's separators (, ; tab) and mark of
    UTF-8. Ids are texts and never pass through a float.

    Raises UserError if the file is missing or is no such list, for a word that is neither real nor bogus, for
    an id that a program has rounded, and where two rows contradict each other.
    """
    path, words = Path(path), words or Words()
    candidates: dict[str, tuple[str, int]] = {}
    objects: dict[str, tuple[str, int]] = {}
    blank = 0
    for line, candidate, source, word in _rows(path):
        if not word:
            blank += 1
            continue
        where = f"{path}: line {line}"
        label = words.label_of(where, word)
        what, key, known = ("candidate", candidate, candidates) if candidate else ("object", source, objects)
        if not key:
            raise UserError(f"{where}: has a label and no id; give the candidate's id, or the object's")
        if _ROUNDED.fullmatch(key):
            raise UserError(
                f"{where}: the id {key} is a number that a program has rounded; write ids as whole numbers "
                "(in a spreadsheet, as text)"
            )
        other, first = known.setdefault(key, (word, line))
        if words.label_of(where, other) != label:
            raise UserError(
                f"{path}: {what} {key} is {other!r} on line {first} and {word!r} on line {line}; keep one"
            )
    if not candidates and not objects:
        raise UserError(f"{path}: has no labels; give each row one, real or bogus")
    by_candidate, by_object = (
        {key: word for key, (word, _) in known.items()} for known in (candidates, objects)
    )
    return LabelList(path, words, by_candidate, by_object, blank)


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """The rows that are not empty: line, id of the candidate, id of the object, word; "" where absent."""
    text = _text(path)
    header, separator = _header(path, text)
    places = [[header.index(name) for name in names if name in header] for names in (_CANDIDATE, _OBJECT)]
    label = header.index(_LABEL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        next(reader)
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if any(values[len(header) :]):
                raise UserError(
                    f"{path}: line {reader.line_num} has more values than the header; put those with a "
                    f"{separator!r} within into quotes"
                )
            values += [""] * (len(header) - len(values))
            candidate, source = (_first(values, some) for some in places)
            if not candidate + source and _OWN in header:
                candidate = values[header.index(_OWN)]
            yield reader.line_num, candidate, source, values[label]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is no CSV ({error})") from error


def _first(values: Sequence[str], places: Sequence[int]) -> str:
    """The first of these values that is an id: not empty, nor the 0 that is a broker's null."""
    return next((values[at] for at in places if values[at] not in ("", "0")), "")


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """The names of the columns, in lower case, and what stands between them."""
    line = next(iter(text.splitlines()), "")
    for separator in _SEPARATORS:
        names = [_named(name) for name in next(csv.reader([line], delimiter=separator), [])]
        if {*_CANDIDATE, *_OBJECT} & set(names) and _LABEL in names:
            return names, separator
    raise UserError(
        f"{path}: begins with {line[:60]!r}; wanted is CSV whose header has label, and id (of the candidate) "
        "or object_id"
    )


def _named(column: str) -> str:
    name = column.strip().lower()
    return name[2:] if name[1:2] == ":" else name


def _text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a CSV file of labels")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason}); save the table as CSV UTF-8") from error
