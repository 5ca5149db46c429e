"""Pictures of a reproduction: Fig. 2, and the ensembles by size and rule."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotinv.ensembles import RULES, Row
from rotinv.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[NDArray, NDArray]  # FPR and FNR


def det(
    path: Path, curves: Mapping[str, Sequence[Curve]], points: Mapping[str, tuple[float, float]], fpr: float
) -> None:
    """DET curves of several models each, as their mean and range, whole and around `fpr`, as PNG.

    `points` are (FPR, FNR) by name, drawn as crosses in the colours of the curves that they end with.
    """
    figure = _figure(11, 4.8)
    whole, near = figure.subplots(1, 2)
    least = min(float(one[0][one[0] > 0].min(initial=1.0)) for each in curves.values() for one in each)
    for axes, ends in ((whole, (least, 1.0)), (near, (fpr / 4, fpr * 4))):
        _curves(axes, curves, np.geomspace(*ends, 400))
        for name, (x, y) in points.items():
            colour = f"C{list(curves).index(last)}" if (last := name.split(", ")[-1]) in curves else "0.3"
            axes.plot(x, y, "x", color=colour, ms=8, mew=2, label=name)
        axes.axvline(fpr, color="0.5", lw=0.8, ls=":")
        axes.set(xscale="log", xlabel="false positive rate", ylabel="false negative rate")
        axes.grid(which="both", color="0.92")
    whole.set(yscale="log", title="whole")
    near.set(title=f"around a false positive rate of {fpr:g}", xlim=(fpr / 4, fpr * 4), ylim=(0, None))
    whole.legend(fontsize=8)
    _save(figure, path)


def ensembles(path: Path, rows: Sequence[Row]) -> None:
    """Accuracy and FNR against the number of models, a line for each rule, as PNG."""
    figure = _figure(11, 4.4)
    for axes, name, label in zip(
        figure.subplots(1, 2), ("accuracy", "fnr"), ("accuracy, %", "FNR at a FPR of 1e-2, %"), strict=True
    ):
        for place, rule in enumerate(RULES):
            mine = [row for row in rows if row.rule == rule]
            means, stds = ([100 * (row.figures[name][i] or 0) for row in mine] for i in (0, 1))
            x = np.array([row.size for row in mine]) + 0.06 * (place - 2)
            axes.errorbar(x, means, stds, fmt="o-", ms=4, lw=1, capsize=2, label=rule)
        axes.set(xlabel="CAP models", ylabel=label, xticks=sorted({row.size for row in rows}))
        axes.grid(axis="y", color="0.92")
    figure.axes[0].legend(fontsize=8, title="rule (bars: std over choices)", title_fontsize=8)
    _save(figure, path)


def _curves(axes: "Axes", curves: Mapping[str, Sequence[Curve]], x: NDArray) -> None:
    for place, (name, each) in enumerate(curves.items()):
        y = np.stack([fnr[np.searchsorted(fpr, x, side="right") - 1] for fpr, fnr in each])
        axes.plot(x, y.mean(axis=0), color=f"C{place}", lw=1.4, label=f"{name} ({len(each)})")
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=f"C{place}", alpha=0.15, lw=0)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
