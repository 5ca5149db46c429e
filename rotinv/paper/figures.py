"""Pictures of a reproduction: Fig. 2, and the ensembles by size and rule."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics.ensembles import RULES, Row
from rotinv.metrics.significance import Interval
from rotinv.system import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Curve = tuple[NDArray, NDArray]  # FPR and FNR of one trial


def det_picture(
    path: str | Path,
    curves: Mapping[str, Sequence[Curve]],
    at_fpr: Mapping[str, tuple[float, Interval]],
    points: Mapping[str, float],
    fpr: float,
    title: str,
) -> None:
    """Write Fig. 2 as PNG: the DET curves of several architectures, whole and around `fpr`.

    `curves` are the trials' of each architecture by its name, `at_fpr` their mean FNR at `fpr` with its
    interval, and `points` the FNR that the paper has there, drawn as crosses.
    """
    figure = pictures.new_figure(4.8, width=11)
    whole, near = figure.subplots(1, 2)
    least = min(float(one[0][one[0] > 0].min(initial=1.0)) for each in curves.values() for one in each)
    ticks = [fpr / 2, fpr / 1.4, fpr, 1.4 * fpr, 2 * fpr]
    for axes, ends in ((whole, (least, 1.0)), (near, (ticks[0], ticks[-1]))):
        draw_det(curves, np.geomspace(*ends, 400), axes)
        for place, (name, y) in enumerate(points.items()):
            colour = _style(curves, name).colour
            axes.plot(fpr, y, "x+"[place % 2], color=colour, ms=9, mew=2, label=f"paper, {name}")
        axes.axvline(fpr, color="0.5", lw=0.8, ls=":")
    for place, (name, (mean, (low, high))) in enumerate(at_fpr.items()):
        x, bars = fpr * 1.02 ** (place - 1), [[max(0, mean - low)], [max(0, high - mean)]]
        look = _style(curves, name)
        near.errorbar(x, mean, bars, fmt=look.marker, color=look.colour, mec="black", ms=6, capsize=3)
    whole.set(title="whole")
    near.set(title=f"around a false positive rate of {fpr:g}", xlim=(ticks[0], ticks[-1]))
    near.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    near.set_xticks([], minor=True)
    near.set_ylim(*_span(near.get_lines()[: len(curves)], at_fpr.values(), points.values()))
    whole.legend(fontsize=8)
    figure.suptitle(title, size=10)
    pictures.save(figure, path, overwrite=True)


def draw_det(curves: Mapping[str, Sequence[Curve]], x: NDArray, ax: "Axes | None" = None) -> "Axes":
    """Draw each architecture's mean FNR over its trials at the FPRs x, and the trials' range as a band.

    Gives the axes; without `ax` they are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    for name, each in curves.items():
        look = _style(curves, name)
        y = np.stack([fnr[np.searchsorted(fpr, x, side="right") - 1] for fpr, fnr in each])
        label = f"{name} ({len(each)})"
        axes.plot(x, y.mean(axis=0), color=look.colour, ls=look.line, lw=1.5, label=label)
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=look.colour, alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
    axes.grid(which="both", color="0.92")
    return axes


def ensembles_picture(path: str | Path, rows: Sequence[Row], title: str) -> None:
    """Write accuracy and FNR against the number of models, a line for each rule, as PNG."""
    figure = pictures.new_figure(4.4, width=11)
    first, second = figure.subplots(1, 2)
    draw_ensembles(rows, "accuracy", "accuracy, %", first)
    draw_ensembles(rows, "fnr", "FNR at a FPR of 1e-2, %", second)
    second.legend(
        loc="upper left",
        bbox_to_anchor=(1, 1),
        fontsize=8,
        title="rule (bars: std over choices)",
        title_fontsize=8,
    )
    figure.suptitle(title, size=10)
    pictures.save(figure, path, overwrite=True)


def draw_ensembles(rows: Sequence[Row], figure: str, label: str, ax: "Axes | None" = None) -> "Axes":
    """Draw one of the rows' figures, in percent, against the number of models, a line for each rule.

    Gives the axes; without `ax` they are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    for place, rule in enumerate(RULES):
        mine, look = [row for row in rows if row.rule == rule], pictures.style(place)
        means, stds = ([100 * (row.figures[figure][i] or 0) for row in mine] for i in (0, 1))
        x = np.array([row.size for row in mine]) + 0.06 * (place - 2)  # apart, so that no bar hides another
        drawn = {"color": look.colour, "marker": look.marker, "ls": look.line}
        axes.errorbar(x, means, stds, ms=4, lw=1, capsize=2, label=rule, **drawn)
    axes.set(xlabel="CAP models", ylabel=label, xticks=sorted({row.size for row in rows}))
    axes.grid(axis="y", color="0.92")
    return axes


def _style(curves: Mapping[str, Sequence[Curve]], name: str) -> pictures.Style:
    """The style of an architecture's curve; of a name that has none, grey."""
    return pictures.style(list(curves).index(name)) if name in curves else pictures.Style("0.3", "-", "v")


def _span(
    lines: Iterable["Line2D"], bars: Iterable[tuple[float, Interval]], points: Iterable[float]
) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds all of these; it has no place for rates of 0."""
    drawn = [*points, *(value for mean, interval in bars for value in (mean, *interval))]
    drawn += [y for line in lines for y in np.asarray(line.get_ydata())]
    seen = [value for value in drawn if value > 0]
    return 0.7 * min(seen), 1.4 * max(seen)
