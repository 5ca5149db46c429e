"""Pictures of the stamps that a catalogue explains: a page for each, as the program explain draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.catalogue.scorer import QUESTION, Scorer, gather
from rotinv.catalogue.sources import Source
from rotinv.lrp import map_figures, map_files
from rotinv.lrp.attribution import Explanation, Question
from rotinv.stamps.classes import Classes

MOST = 50  # pages: more would take longer than the scores, and few people look at them


@dataclass(frozen=True, eq=False)
class Explained:
    """Explained stamps (n, h, h, c), in the form that map_figures.page draws.

    `columns` are arrays (n,) of what the catalogue knows of each stamp, by the names of its columns.
    """

    stamps: NDArray[np.float32]
    channels: Sequence[str]
    question: Question
    answers: Sequence[Explanation]
    columns: Mapping[str, NDArray[Any]]
    classes: Classes

    def label(self, i: int) -> int | None:
        """The class of the i-th stamp, if it is known."""
        return int(self.columns["label"][i]) if "label" in self.columns else None

    def title(self, i: int) -> str:
        """The i-th stamp's name or number, with its label and SNR if they are known."""
        known = {name: values[i] for name, values in self.columns.items()}
        parts = [str(known.get("object_id") or f"stamp {known['indices']}")]
        if known.get("candidate_id"):
            parts.append(f"detection {known['candidate_id']}")
        if "label" in known:
            parts.append(self.classes.names[known["label"]])
        if np.isfinite(known.get("snr", np.nan)):
            parts.append(f"SNR {known['snr']:.4g}")
        return ", ".join(parts)


def draw(
    path: str | Path, maps: str | Path, scorer: Scorer, source: Source, *, overwrite: bool = False
) -> list[str]:
    """Write a PDF with a page for each stamp in a file of maps; returns the pages' titles.

    Needs matplotlib. Raises UserError if the PDF exists and may not be overwritten.
    """
    columns, answers = map_files.read(maps)
    answers.sort(key=lambda answer: scorer.names.index(answer.name))
    stamps, _ = gather(source, columns["indices"])
    explained = Explained(
        stamps, scorer.models[0].config.channels, QUESTION, answers, columns, scorer.classes
    )
    map_figures.save(
        [path], (map_figures.page(explained, i) for i in range(len(stamps))), overwrite=overwrite
    )
    return [f"{explained.title(i)}: {_answers(answers, i)}" for i in range(len(stamps))]


def _answers(answers: Sequence[Explanation], i: int) -> str:
    return ", ".join(f"{answer.name} {answer.classes.p} {answer.probability[i]:.4g}" for answer in answers)
