"""Pictures of a run, where matplotlib is installed (the extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rotinv import metrics
from rotinv.files import written_whole
from rotinv.history import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def learning_curve(path: Path, rows: Sequence[Row], title: str) -> None:
    """The training loss and the validation error against the iteration, as PNG."""
    figure = _figure()
    axes = figure.subplots()
    axes.plot([r.iteration for r in rows], [r.loss for r in rows], color="0.7", lw=0.8, label="training loss")
    axes.set(xlabel="iteration", ylabel="cross-entropy", yscale="log", title=title)
    validated = [(r.iteration, 100 * r.validation_error) for r in rows if r.validation_error is not None]
    errors = axes.twinx()
    errors.plot(*zip(*validated, strict=True), "o-", color="tab:blue", ms=4, label="validation error")
    errors.set_ylabel("validation error (%)", color="tab:blue")
    errors.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2)
    _save(figure, path)


def det_curves(path: Path, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """FNR against FPR for each model by name, from its labels and probabilities, as PNG (Fig. 2)."""
    figure = _figure()
    axes = figure.subplots()
    for name, (label, probability) in curves.items():
        fpr, fnr = metrics.det_curve(label, probability)
        axes.step(fpr, fnr, where="post", label=name)
    axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
    axes.grid(which="both", color="0.9")
    axes.legend()
    _save(figure, path)


def _figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4.5), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
