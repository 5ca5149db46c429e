"""An HTML fragment in which a reader looks at LRP: stamps, maps at every layer and rotation, the ledger.

It needs nothing but itself (fragments.py): viewer.js draws the numbers that are in it. The ledger, the
probabilities and the sums of maps are text, as `audit` and `explain` print them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution
from rotinv.lrp.attribution import Explanation, Question
from rotinv.lrp.ledger_report import COLUMNS
from rotinv.lrp.subjects import Run, Subject
from rotinv.lrp.viewer import editing
from rotinv.lrp.viewer.fragments import Blobs, Document, packed, section
from rotinv.runs.model import at_threshold, channel_title, check_indices
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError

RULES = ("alpha2beta1", "alpha1beta0", "epsilon")  # Eq. 4 as in the paper, its positive side alone, Eq. 3
_FILES = ("theme.css", "viewer.css", "viewer_tools.js", "engine.js", "editing.js", "viewer.js")


def viewer_fragment(
    subjects: Sequence[Subject],
    split: Split,
    indices: Sequence[int],
    *,
    rule_names: Sequence[str] = RULES,
    target: str | int = Question.target,
    editable: bool = False,
    progress: Callable[[int], object] | None = None,
) -> str:
    """A <section> for a page's body: what decisions on the stamps at `indices` rest on, by model and rule.

    The networks read the same stamps in the same way. `progress` is told 1 whenever a stamp is done by
    one network and one rule. Two fragments may stand on one page. An `editable` page brings the networks'
    weights, and computes score and map anew when a stamp is changed. Raises UserError for an unknown
    rule, target or index, for what an editable page cannot compute, for stamps that are not square or not
    finite, and if a logit or a map is not finite.
    """
    questions = [Question(rule=rule, target=target) for rule in dict.fromkeys(rule_names)]
    for question in questions:
        subjects[0].check(question)
    chosen = check_indices(split, indices)
    pixels = subjects[0].read(split, chosen)
    if pixels.shape[1] != pixels.shape[2]:
        raise UserError(
            f"{split.path}: a page shows square stamps only, not {pixels.shape[1:3]}; see explain"
        )
    changes = _editing(subjects, questions, pixels) if editable else None
    labels = [None if split.label is None else int(split.label[i]) for i in chosen]
    blobs: Blobs = {}
    stamps = [_stamp(split, int(i), one, blobs) for i, one in zip(chosen, pixels, strict=True)]
    answers: list[list[list[Document]]] = [[[] for _ in subjects] for _ in chosen]
    for m, subject in enumerate(subjects):
        for question in questions:
            for i, answer in enumerate(_answers(subject, pixels, labels, question, blobs)):
                answers[i][m].append(answer)
                if progress:
                    progress(1)
    document = {
        "channels": [channel_title(channel) for channel in subjects[0].channels],
        "classes": subjects[0].classes.names,
        "p": subjects[0].classes.p,
        "columns": COLUMNS,
        "stamps": stamps,
        "models": [subject.name for subject in subjects],
        "rules": [{"name": question.rule, "text": question.text} for question in questions],
        "answers": answers,
        "editing": changes,
    }
    return section("lrp-viewer", "Relevance of decisions", _FILES, document, blobs)


def _editing(subjects: Sequence[Subject], questions: Sequence[Question], pixels: NDArray[Any]) -> Document:
    """What an editable page computes with: weights, rules, and the stamps' pixels as they are."""
    if any(question.target != Question.target for question in questions):
        raise UserError("--editable: the page explains the predicted class only; leave --target out")
    if any(not isinstance(subject, Run) or subject.threshold is not None for subject in subjects):
        raise UserError("--editable: is of trained runs at the threshold 0.5")
    models = [subject.model for subject in subjects if isinstance(subject, Run)]
    return {
        "models": [editing.weights(model, [question.rule for question in questions]) for model in models],
        "pixels": [editing.as_text(one) for one in pixels],
        "candidate": subjects[0].classes.candidate,
    }


def _answers(
    subject: Subject,
    pixels: NDArray[Any],
    labels: Sequence[int | None],
    question: Question,
    blobs: Blobs,
) -> Iterator[Document]:
    """What is shown of each stamp, by one model and one rule."""
    trails = subject.explain_layers(pixels, question)
    maps = ((block, i) for block in trails for i in range(len(block[0].maps)))
    ledgers = subject.audits(pixels, question)
    for (block, i), label, audit in zip(maps, labels, ledgers, strict=True):
        predicted = int(block[0].predicted[i])
        yield {
            "predicted": block[0].verdict(i),
            "right": None if label is None else predicted == label,
            "probability": f"{block[0].probability[i]:.4g}{at_threshold(block[0].threshold)}",
            "output": f"{audit.output:.6g}",
            "ledger": audit.cells(),
            "trust": str(audit.trust) if audit.output else "",
            "doubts": audit.trust.doubts if audit.output else [],
            "layers": [_at_layer(one, i, blobs) for one in block],
        }


def _at_layer(one: Explanation, i: int, blobs: Blobs) -> Document:
    """R of the i-th stamp at one layer: a map for each of the stamps' own channels, or the sum over a layer's
    channels, or a vector; and the sum of R of each that can be picked."""
    maps = one.maps[i : i + 1]
    summed = maps.ndim == 5 and one.layer != attribution.STAMPS
    shown = maps.sum(axis=-1, keepdims=True, dtype=np.float64) if summed else maps
    return {
        "name": one.layer,
        "summed": maps.shape[-1] if summed else 0,
        "shape": shown.shape[1:],
        **packed(shown[0], blobs),
        "sums": [_sums(row) for row in _rows(shown)],
    }


def _rows(maps: NDArray) -> list[NDArray]:
    """The maps (h, w, c) or vectors of one stamp's rotations, then, where there are four, their average."""
    return [*maps[0], *(attribution.average(maps) if maps.shape[1] == 4 else [])]


def _sums(row: NDArray) -> list[str]:
    """The sum of a vector, or of each channel of a map and, where there are several, of all."""
    each = row.reshape(-1, row.shape[-1] if row.ndim == 3 else 1).sum(axis=0, dtype=np.float64)
    return [f"{value:.4g}" for value in (each if len(each) == 1 else [*each, each.sum()])]


def _stamp(split: Split, index: int, pixels: NDArray[Any], blobs: Blobs) -> Document:
    """A stamp (h, h, c) as the networks read it, and what is known of it."""
    label = None if split.label is None else split.classes.names[split.label[index]]
    known = {"index": index, "label": label, "title": attribution.title(split, index)}
    return {**known, "shape": pixels.shape, **packed(pixels, blobs)}
