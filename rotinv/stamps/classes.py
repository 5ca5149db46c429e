"""The classes of stamps: their names in the order of the labels, and which of them is the candidate.

Most networks tell two classes apart, artifact 0 and candidate 1. A network of more classes has one that is
searched for, the candidate (as "SN" among "AGN, SN, VS, asteroid, bogus"); p(candidate), thresholds and rates
are of that class against the rest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.system.errors import UserError, not_known
from rotinv.system.messages import counted

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")  # it becomes part of a column's name
MOST = 100  # classes


@dataclass(frozen=True)
class Classes:
    """The names of classes, a label each from 0 on, and the label of the candidate."""

    names: tuple[str, ...] = ("artifact", "candidate")
    candidate: int = 1

    @classmethod
    def of(cls, names: Sequence[str], candidate: str | None = None) -> "Classes":
        """Classes by their names. Without `candidate` it is the second of two, or the class of that name.

        Raises UserError for names that cannot be told apart or stand in a column's name, for fewer than two
        classes, and where there is no telling which class the candidate is.
        """
        if isinstance(names, str) or not 2 <= len(names) <= MOST or len(set(names)) < len(names):
            raise UserError(f"classes {names!r}: give from 2 to {MOST} names, each a name of its own")
        for name in names:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise UserError(
                    f"class {name!r}: a name begins with a letter; letters, digits, _, . and - follow"
                )
        if candidate is None:
            candidate = names[1] if len(names) == 2 else "candidate"
            if candidate not in names:
                known = ", ".join(names)
                raise UserError(f"classes {known}: say which of them is searched for (--candidate NAME)")
        if candidate not in names:
            raise not_known("class", candidate, names)
        if len(names) == 2 and candidate == names[0]:
            raise UserError(
                f"classes {', '.join(names)}: of two classes name the candidate, {candidate}, second"
            )
        return cls(tuple(names), list(names).index(candidate))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def by_largest(self) -> bool:
        """Whether, without a threshold, the most probable class is predicted, the first of several; of two
        the candidate is, from 0.5 on."""
        return len(self) > 2

    def __str__(self) -> str:
        return ", ".join(self.names)

    @property
    def p(self) -> str:
        """What the candidate's probability is called in tables, as "p(candidate)"."""
        return f"p({self.names[self.candidate]})"

    @property
    def numbered(self) -> str:
        """The labels with their meanings, the last first: "1 candidate, 0 artifact"."""
        return ", ".join(f"{label} {self.names[label]}" for label in reversed(range(len(self))))

    @property
    def further(self) -> tuple[str, ...]:
        """The classes whose probabilities p(candidate) does not tell: none of two, all of more."""
        return self.names if len(self) > 2 else ()

    def number(self, target: Any) -> Any:
        """The label of a class's name; anything else as it is."""
        return self.names.index(target) if target in self.names else target

    def is_candidate(self, label: NDArray[np.integer]) -> NDArray[np.uint8]:
        """1 where a label (n,) is the candidate's, else 0."""
        return (label == self.candidate).astype(np.uint8)

    def decide(self, probability: ArrayLike, threshold: float | None = None) -> NDArray[np.uint8]:
        """The class (n,) that probabilities (n, classes) mean.

        The candidate where its probability is at least `threshold`, elsewhere the most probable of the
        others. Without a threshold it is the most probable class, the first of several; of two classes the
        candidate from 0.5 on.
        """
        p = np.asarray(probability)
        if threshold is None and self.by_largest:
            return p.argmax(axis=-1).astype(np.uint8)
        others = np.where(np.arange(len(self)) == self.candidate, -np.inf, p).argmax(axis=-1)
        accepted = p[..., self.candidate] >= (0.5 if threshold is None else threshold)
        return np.where(accepted, self.candidate, others).astype(np.uint8)

    def counts(self, label: NDArray[np.integer]) -> list[int]:
        """How many labels there are of each class."""
        return [int(np.sum(label == number)) for number in range(len(self))]

    def counts_in_words(self, label: NDArray[np.integer]) -> list[str]:
        """How many labels there are of each class, the last class first: "3 candidates", "2 artifacts"; of
        other classes the plural is not known: "3 SN"."""
        counts = list(zip(self.counts(label), self.names, strict=True))[::-1]
        return [counted(n, name) if self == TWO else f"{n:,} {name}" for n, name in counts]


TWO = Classes()


def check_labels(where: str, label: NDArray[Any], classes: Classes = TWO) -> NDArray[np.uint8]:
    """The labels as uint8. Raises UserError, naming the first, if any is no number of a class."""
    wrong = np.flatnonzero(~np.isin(label, np.arange(len(classes))))
    if len(wrong):
        numbers = "0 or 1" if len(classes) == 2 else f"from 0 to {len(classes) - 1}"
        raise UserError(
            f"{where}: {len(wrong)} of {len(label)} labels are not {numbers} "
            f"(the first is {label[wrong[0]]!s} at index {wrong[0]}); {classes.numbered}"
        )
    return label.astype(np.uint8)
