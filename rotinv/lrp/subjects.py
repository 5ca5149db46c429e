"""What decisions are asked of: a trained run here, or a network from elsewhere (rotinv/graphs).

Programs and pages ask a `Subject`; which kind it is makes no difference to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, ledger_report
from rotinv.lrp.attribution import Explanation, Question
from rotinv.lrp.ledger_report import Audit
from rotinv.nn.contract import Kernels
from rotinv.runs import model
from rotinv.runs.model import Model
from rotinv.stamps.classes import Classes
from rotinv.stamps.splits import Split


class Subject(Protocol):
    """A network that explains its decisions. Stamps are (n, h, w, c), as it reads them."""

    @property
    def name(self) -> str:
        """What tables and pages call it."""

    @property
    def channels(self) -> Sequence[str]:
        """The names of a stamp's channels."""

    @property
    def classes(self) -> Classes:
        """What its logits are of."""

    @property
    def threshold(self) -> float | None:
        """At which it decides, where that is not the most probable class."""

    def open_stamps(self, path: str | Path, split: str | None = None) -> Split:
        """The stamps at `path`. Raises UserError if the network does not read them."""

    def notes(self, split: Split) -> list[str]:
        """What is to be known of the network and its stamps before its answers are read."""

    def read(self, split: Split, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The stamps at `indices` as it reads them. Raises UserError if a pixel is not finite."""

    def check(self, question: Question) -> None:
        """Raise UserError, before anything slow, if it cannot be asked that."""

    def explain(self, stamps: NDArray[Any], question: Question) -> Iterator[Explanation]:
        """The answers for blocks of stamps."""

    def explain_layers(self, stamps: NDArray[Any], question: Question) -> Iterator[list[Explanation]]:
        """The answers at the stamps and at every layer, for blocks of stamps."""

    def audits(
        self,
        stamps: NDArray[Any],
        question: Question,
        indices: Sequence[int] | None = None,
        labels: Sequence[int | None] | None = None,
        *,
        exact: bool = False,
    ) -> Iterator[Audit]:
        """The audit of each of the stamps; `exact` in fractions."""


@dataclass(frozen=True)
class Run:
    """A trained run, on a device."""

    k: Kernels
    model: Model
    name: str

    @property
    def channels(self) -> Sequence[str]:
        return self.model.config.channels

    @property
    def classes(self) -> Classes:
        return self.model.config.classes

    @property
    def threshold(self) -> float | None:
        return self.model.threshold

    def open_stamps(self, path: str | Path, split: str | None = None) -> Split:
        return model.open_stamps_for(self.model, path, split)

    def notes(self, split: Split) -> list[str]:
        return []

    def read(self, split: Split, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return model.stamps_as_read(self.model, split, indices)

    def check(self, question: Question) -> None:
        attribution.check(self.k, self.model, question)

    def explain(self, stamps: NDArray[np.float32], question: Question) -> Iterator[Explanation]:
        return attribution.explain(self.k, self.model, stamps, question)

    def explain_layers(self, stamps: NDArray[np.float32], question: Question) -> Iterator[list[Explanation]]:
        return attribution.explain_layers(self.k, self.model, stamps, question)

    def audits(
        self,
        stamps: NDArray[np.float32],
        question: Question,
        indices: Sequence[int] | None = None,
        labels: Sequence[int | None] | None = None,
        *,
        exact: bool = False,
    ) -> Iterator[Audit]:
        return ledger_report.audits(self.k, self.model, stamps, question, indices, labels, exact=exact)


def runs(k: Kernels, models: Sequence[Model], names: Sequence[str] | None = None) -> list[Run]:
    """Trained runs on a device, by names that tell them apart, or by those given."""
    called = names or model.unique_names(models)
    return [Run(k, one, name) for one, name in zip(models, called, strict=True)]


def answer(subject: Subject, stamps: NDArray[Any], question: Question, progress: Any = None) -> Explanation:
    """One answer for all stamps; `progress` is told how many were done."""
    parts = []
    for part in subject.explain(stamps, question):
        parts.append(part)
        if progress:
            progress(len(part.maps))
    return attribution.joined(parts, subject.name)
