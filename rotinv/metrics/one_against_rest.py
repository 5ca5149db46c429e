"""How well more than two classes are told apart: each class against the rest, and the confusion matrix.

A stamp is given the class of the highest probability. The AUC of a class is the chance that one of its stamps
has a higher probability of the class than a stamp of another class (ties count half).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from rotinv.metrics import rates
from rotinv.metrics.scores import ClassScores
from rotinv.metrics.significance import wilson

_FIGURES = ("precision", "recall", "f1", "auc")


def against_rest(scores: ClassScores) -> dict[str, Any]:
    """Accuracy with its 95% interval, the figures of each class, and the confusion matrix, ready for JSON.

    Row i of the matrix has the stamps of class i, by the class that they are given. What does not exist, as
    the recall of a class without stamps, is None.
    """
    given, names = scores.classes.decide(scores.probability), scores.classes.names
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (scores.label, given), 1)
    right, count = int(np.trace(matrix)), len(given)
    return {
        "classes": list(names),
        "accuracy": right / count if count else None,
        "interval": wilson(right, count),
        "each": [_of_class(scores, given, number) for number in range(len(names))],
        "confusion_matrix": matrix.tolist(),
    }


def _of_class(scores: ClassScores, given: NDArray[np.uint8], number: int) -> dict[str, Any]:
    label = scores.label == number
    counts = rates.confusion(label, given == number)
    figures = rates.of_counts(counts)
    tp, fp, fn = (counts[name] for name in ("true_positives", "false_positives", "false_negatives"))
    return {
        "class": scores.classes.names[number],
        "stamps": int(label.sum()),
        **{name: figures[name] for name in _FIGURES[:3]},
        "precision_interval": wilson(tp, tp + fp),
        "recall_interval": wilson(tp, tp + fn),
        "auc": auc(label, scores.probability[:, number]),
    }


def auc(label: NDArray, score: NDArray) -> float | None:
    """The area under the ROC curve of a score (n,) for labels (n,); None if a class is absent."""
    label = np.asarray(label, bool)
    positives, negatives = int(label.sum()), int((~label).sum())
    if not positives or not negatives:
        return None
    ranks = scipy.stats.rankdata(score)[label].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What `against_rest` found, as text."""
    interval = found["interval"]
    span = "" if interval is None else f"  [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    yield f"  accuracy {_percent(found['accuracy'])}{span}"
    yield f"  {'class':<16}{'stamps':>9}" + "".join(f"{name:>12}" for name in _FIGURES)
    for row in found["each"]:
        cells = "".join(f"{_percent(row[name]):>12}" for name in _FIGURES[:3])
        area = "undefined" if row["auc"] is None else f"{row['auc']:.4f}"
        yield f"  {row['class']:<16}{row['stamps']:>9,}{cells}{area:>12}"
    yield from _matrix_lines(found["classes"], found["confusion_matrix"])


def _matrix_lines(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Iterator[str]:
    width = max(9, *(len(name) + 2 for name in names))
    yield f"  {'labelled, given':<16}" + "".join(f"{name:>{width}}" for name in names)
    for name, row in zip(names, matrix, strict=True):
        yield f"  {name:<16}" + "".join(f"{count:>{width},}" for count in row)


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2%}"
