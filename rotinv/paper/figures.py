"""Pictures of a reproduction: Fig. 2, and the ensembles by size and rule."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics.ensembles import RULES, Row
from rotinv.metrics.significance import Interval
from rotinv.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Curve = tuple[NDArray, NDArray]  # FPR and FNR


def det(
    path: str | Path,
    curves: Mapping[str, Sequence[Curve]],
    at_fpr: Mapping[str, tuple[float, Interval]],
    points: Mapping[str, float],
    fpr: float,
) -> None:
    """DET curves of several models each, as their mean and range, whole and around `fpr`, as PNG.

    `at_fpr` are the mean FNR there and its interval, and `points` others' FNR, drawn as crosses; both by the
    curves' names.
    """
    path = Path(path)
    figure = _figure(11, 4.8)
    whole, near = figure.subplots(1, 2)
    least = min(float(one[0][one[0] > 0].min(initial=1.0)) for each in curves.values() for one in each)
    ticks = [fpr / 2, fpr / 1.4, fpr, 1.4 * fpr, 2 * fpr]
    for axes, ends in ((whole, (least, 1.0)), (near, (ticks[0], ticks[-1]))):
        _curves(axes, curves, np.geomspace(*ends, 400))
        for place, (name, y) in enumerate(points.items()):
            colour = f"C{list(curves).index(name)}" if name in curves else "0.3"
            axes.plot(fpr, y, "x+"[place % 2], color=colour, ms=9, mew=2, label=f"paper, {name}")
        axes.axvline(fpr, color="0.5", lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
        axes.grid(which="both", color="0.92")
    for place, (mean, (low, high)) in enumerate(at_fpr.values()):
        x, bars = fpr * 1.02 ** (place - 1), [[max(0, mean - low)], [max(0, high - mean)]]
        near.errorbar(x, mean, bars, fmt="o", color=f"C{place}", ms=4, capsize=3)
    whole.set(title="whole")
    near.set(title=f"around a false positive rate of {fpr:g}", xlim=(ticks[0], ticks[-1]))
    near.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    near.set_xticks([], minor=True)
    near.set_ylim(*_span(near.get_lines()[: len(curves)], at_fpr.values(), points.values()))
    whole.legend(fontsize=8)
    _save(figure, path)


def ensembles(path: str | Path, rows: Sequence[Row]) -> None:
    """Accuracy and FNR against the number of models, a line for each rule, as PNG."""
    path = Path(path)
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
    figure.axes[1].legend(
        loc="upper right", fontsize=8, title="rule (bars: std over choices)", title_fontsize=8
    )
    _save(figure, path)


def _curves(axes: "Axes", curves: Mapping[str, Sequence[Curve]], x: NDArray) -> None:
    for place, (name, each) in enumerate(curves.items()):
        y = np.stack([fnr[np.searchsorted(fpr, x, side="right") - 1] for fpr, fnr in each])
        axes.plot(x, y.mean(axis=0), color=f"C{place}", lw=1.4, label=f"{name} ({len(each)})")
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=f"C{place}", alpha=0.15, lw=0)


def _span(
    lines: Iterable["Line2D"], bars: Iterable[tuple[float, Interval]], points: Iterable[float]
) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds all that; rates of 0 have no place on it."""
    drawn = [*points, *(value for mean, interval in bars for value in (mean, *interval))]
    drawn += [y for line in lines for y in np.asarray(line.get_ydata())]
    seen = [value for value in drawn if value > 0]
    return 0.7 * min(seen), 1.4 * max(seen)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
