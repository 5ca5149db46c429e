"""Lists of labels by the alerts' ids, as spreadsheets, astropy, brokers and `rotinv pick` write them."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rotinv.stamps.labels import Words
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

# What a list's columns may be called, in lower case; Fink puts one letter and a colon before each.
_OWN = "id"  # as rotinv pick writes it: 0 alone is the first of stamps that have no ids
_CANDIDATE = ("candidate_id", "candid", "diasourceid")  # beside one of them `id` is the number of a row
_OBJECT = ("object_id", "objectid", "diaobjectid", "ssobjectid", "oid")
_LABEL = "label"
_SEPARATORS = ",;\t| "  # spreadsheets write ; where the comma is the decimal mark, and astropy blanks
_ROUNDED = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+|\d+\.\d*")  # 1.5E+18, 15.0: an id that was a float
_MARKED = re.compile(r"\d{1,3}([,.'\u2019\u00a0\u202f ]\d{3})+")  # 2,475,433: marks between thousands
_ZEROS = re.compile(r"\d{15}0+")  # what a spreadsheet makes of a number of more than 15 digits
_AS_TEXT = re.compile(r'="(.*)"|\'(.*)')  # how an id is kept from a spreadsheet's arithmetic
_UNSEEN = "\u200b\u200e\u200f\u2060\ufeff"  # signs without width, which come with what is copied from a page
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
ROUNDED = "a spreadsheet rounds to 15 digits: have it keep ids as text"


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
    The surveys' own names of these columns will do; between values may stand , ; | a tab or a blank. Lines
    before the header that begin with # (ECSV) are passed over. Ids are texts and never pass through a float.

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
        _check_id(where, key)
        other, first = known.setdefault(key, (word, line))
        if words.label_of(where, other) != label:
            why = f" ({ROUNDED})" if is_rounded(key) else ""
            raise UserError(
                f"{path}: {what} {key} is {other!r} on line {first} and {word!r} on line {line}; keep one"
                f"{why}"
            )
    if not candidates and not objects:
        raise UserError(f"{path}: has no labels; give each row one, real or bogus")
    by_candidate, by_object = (
        {key: word for key, (word, _) in known.items()} for known in (candidates, objects)
    )
    return LabelList(path, words, by_candidate, by_object, blank)


def is_rounded(key: str) -> bool:
    """Whether an id ends in zeros as one does that a spreadsheet has rounded."""
    return _ZEROS.fullmatch(key) is not None


def _check_id(where: str, key: str) -> None:
    """Raise UserError for an id that is none any more."""
    if not key:
        raise UserError(f"{where}: has a label and no id; give the candidate's id, or the object's")
    for form, what in ((_ROUNDED, "rounded"), (_MARKED, "written with marks between thousands")):
        if form.fullmatch(key):
            raise UserError(
                f"{where}: the id {key} is a number that a program has {what}; write ids as whole numbers "
                "(in a spreadsheet, as text)"
            )


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """The rows that are not empty: line, id of the candidate, id of the object, word; "" where absent."""
    text, before = _table(path, _text(path))
    header, separator = _header(path, text)
    own = header.index(_OWN) if _OWN in header and not set(_CANDIDATE) & set(header) else None
    candidates, objects = (
        [header.index(one) for one in names if one in header] for names in (_CANDIDATE, _OBJECT)
    )
    candidates, label = (candidates if own is None else [own]), header.index(_LABEL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        next(reader)
        for row in reader:
            values, line = [_bare(value) for value in row], before + reader.line_num
            if not any(values):
                continue
            if any(values[len(header) :]):
                raise UserError(
                    f"{path}: line {line} has more values than the header; put those with a "
                    f"{separator!r} within into quotes"
                )
            values += [""] * (len(header) - len(values))
            candidate, source = _first(values, candidates), _first(values, objects)
            if not candidate + source and own is not None:
                candidate = values[own]
            yield line, candidate, source, values[label]
    except csv.Error as error:
        raise UserError(f"{path}: line {before + reader.line_num} is no CSV ({error})") from error


def _bare(value: str) -> str:
    """A value without the blanks about it, signs that are not seen, and a spreadsheet's marks of a text."""
    value = value.translate(dict.fromkeys(map(ord, _UNSEEN))).strip()
    marked = _AS_TEXT.fullmatch(value)
    return (marked[1] or marked[2] or "").strip() if marked else value


def _first(values: Sequence[str], places: Sequence[int]) -> str:
    """The first of these values that is an id: not empty, nor the 0 that is a broker's null."""
    return next((values[at] for at in places if values[at] not in ("", "0")), "")


def _table(path: Path, text: str) -> tuple[str, int]:
    """The text from its header on, and how many lines come before: comments, ECSV's, Excel's `sep=;`."""
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines) and (not lines[start].strip() or lines[start].startswith(("#", "sep="))):
        start += 1
    if start == len(lines):
        raise UserError(f"{path}: is empty; wanted is CSV with a header, ids and labels")
    return "".join(lines[start:]), start


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """The names of the columns, in lower case, and what stands between them."""
    line = text.splitlines()[0]
    each = [(_names(line, separator), separator) for separator in _SEPARATORS]
    wanted = {_OWN, *_CANDIDATE, *_OBJECT}
    for names, separator in each:
        if _LABEL in names and wanted & set(names):
            if twice := [name for name in (_LABEL, *wanted) if names.count(name) > 1]:
                raise UserError(f"{path}: has the column {twice[0]} {names.count(twice[0])} times; keep one")
            return names, separator
    text = (
        f"{path}: begins with {line[:60]!r}; wanted is CSV whose header has label, and id (of the candidate) "
    )
    text += "or object_id"
    if any(wanted & set(names) and {"probability", "class"} <= set(names) for names, _ in each):
        text += ": this is a catalogue of scores, whose class is a network's answer and no label"
    raise UserError(text)


def _names(line: str, separator: str) -> list[str]:
    """The names of a header's columns as they are compared."""
    return [_named(name) for name in next(csv.reader([line], delimiter=separator), [])]


def _named(column: str) -> str:
    name = re.sub(r"[\s-]+", "_", _bare(column).lower())
    return name[2:] if name[1:2] == ":" else name


def _text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a CSV file of labels")
    with read_errors(path):
        data = path.read_bytes()
    try:
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason}); save the table as CSV UTF-8") from error
