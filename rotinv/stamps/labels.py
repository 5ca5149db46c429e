"""Labels as people write them: numbers, and words for real and bogus sources."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rotinv.stamps.classes import TWO, Classes, check_labels
from rotinv.system.errors import UserError


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
