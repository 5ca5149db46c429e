"""The pictures of the measures: curves against what was replaced, with bands of a standard error to each
side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp.quality.ways import RANDOM
from rotinv.system import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, NDArray]


def draw_drops(drops: Curves, score: str, ax: "Axes | None" = None) -> "Axes":
    """Draw how far the score has fallen, against the number of regions replaced, and give the axes.

    `drops` (n, steps + 1) are each way's, by its name: a line is their mean over the n stamps, its band one
    standard error to each side. The legend stands beside the lines, the largest AOPC on top. `score` names
    what falls. Without `ax`, the axes are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    sizes = {name: float(each.mean()) for name, each in drops.items()}
    _lines(axes, drops, sizes, "AOPC")
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="regions replaced by noise, the most relevant first", ylabel=f"mean fall of the\n{score}")
    return axes


def draw_scores(
    most_first: Curves,
    least_first: Curves,
    between: Mapping[str, float],
    score: str,
    insert: bool,
    ax: "Axes",
) -> "Axes":
    """Draw the score against the share of regions put back (`insert`) or replaced, and give the axes.

    The curves (n, steps + 1) are each way's, by its name, thick for the most relevant regions first and thin
    for the least; `between` are the areas between the two, which the legend tells, the largest on top.
    """
    _lines(ax, most_first, between, "between", shares=True)
    _lines(ax, least_first, between, "", shares=True)
    done = "put back into the blurred stamp" if insert else "replaced by noise"
    order = "thick: the most relevant first, thin: the least"
    ax.set(xlabel=f"share of the regions {done}\n{order}", ylabel=f"mean {score}")
    return ax


def draw_similarity(values: Curves, layers: Sequence[str], what: str, ax: "Axes") -> "Axes":
    """Draw a measure (n, layers) of each way, by its name, against how far down the weights are random."""
    last = {name: float(each[:, -1].mean()) for name, each in values.items()}
    _lines(ax, values, last, "all layers random")
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set_xticks(range(len(layers)), layers, rotation=30, ha="right")
    ax.set(xlabel="weights are random from the logits down to", ylabel=what)
    return ax


def _lines(
    axes: "Axes", curves: Curves, sizes: Mapping[str, float], title: str, shares: bool = False
) -> None:
    """A line and its band for each way, and a legend sorted by `sizes`; thin ones without markers, bands and
    legend if there is no `title`."""
    of_maps = [name for name in curves if name != RANDOM]
    for name in sorted(curves, key=lambda name: -sizes[name]):
        each = curves[name]
        look = pictures.style(of_maps.index(name)) if name in of_maps else pictures.Style("0.45", ":", "")
        mean, x = each.mean(axis=0), np.arange(each.shape[1])
        if shares:
            x = x / max(1, x[-1])
        if not title:
            axes.plot(x, mean, lw=0.7, alpha=0.8, **look.of_line())
            continue
        axes.plot(x, mean, label=f"{name} ({sizes[name]:.3g})", lw=1.3, **look.of_line(len(x)))
        if len(each) > 1:
            error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
            axes.fill_between(x, mean - error, mean + error, color=look.colour, alpha=0.15, lw=0)
    if title:
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        axes.legend(**beside, fontsize=8, title=f"{title}; bands: ± 1 s.e.", title_fontsize=8)
