"""Fig. 5: the histogram of each class's sigma-bar, and the non-central t that was fitted to it."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp.sigma_bar_tables import Group
from rotinv.metrics.noncentral_t import Fit
from rotinv.system import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVE = 500  # points of a fitted curve
_LOOK = {  # of a class: colour, hatching of its bars, line of its fit
    "artifact": (pictures.VERMILION, "///", "--"),
    "candidate": (pictures.BLUE, "", "-"),
}


@dataclass(frozen=True)
class Panel:
    """What a histogram shows: one model's sigma-bars (n,) of one channel by class, and each class's fit."""

    title: str
    values: Mapping[str, NDArray]
    fits: Mapping[str, Fit]  # of the classes that have one


def histograms(
    path: str | Path, rows: Sequence[Sequence[Panel]], unit: str, title: str, *, overwrite: bool = False
) -> None:
    """Write Fig. 5 as PNG or PDF: a row of panels for each model, a column for each channel.

    The panels of a column have the same bins. Raises UserError if the file exists, but for `overwrite`.
    """
    figure = pictures.new_figure(1.1 + 2.9 * len(rows), width=max(7.0, 4.2 * len(rows[0])))
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex="col")
    for column in range(len(rows[0])):
        bins = _bins([row[column] for row in rows])
        for axes, row in zip(grid[:, column], rows, strict=True):
            draw_histogram(row[column], bins, axes)
        grid[-1, column].set_xlabel(f"sigma-bar, {unit}", size=9)
    width = 70 * max(len(row) for row in rows)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle(
        "\n".join([*lines, "curves: fitted density x stamps x width of a bin"]), size=10, wrap=True
    )
    pictures.save(figure, path, overwrite=overwrite)


def draw_histogram(panel: Panel, bins: Sequence[float] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the histogram of each class and, as a curve, its fit: the density x stamps x width of a bin.

    Without `bins` (their edges, equally far apart) there are about as many as the square root of the number
    of stamps. Gives the axes; without `ax` they are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    edges = _bins([panel]) if bins is None else list(bins)
    x, top, highest = np.linspace(edges[0], edges[-1], _CURVE), 0.0, 0.0
    for name, values in panel.values.items():
        colour, hatch, line = _LOOK.get(name, ("0.4", "", "-"))
        label = f"{name}: {len(values):,} stamp{'' if len(values) == 1 else 's'}"
        counts = np.histogram(values, edges)[0]
        axes.stairs(
            counts, edges, fill=True, label=label, facecolor=(colour, 0.3), edgecolor=colour, hatch=hatch
        )
        top = max(top, np.max(counts))
        if name in panel.fits:
            fit = panel.fits[name]
            curve = fit.density(x) * len(values) * (edges[1] - edges[0])
            highest = max(highest, curve.max())
            width = 1.8 if fit.converged else 0.9
            axes.plot(x, curve, color=colour, lw=width, ls=line, label=_about(fit))
    top = max(top, min(highest, 3 * top)) or 1  # a curve that goes to infinity is cut
    axes.set_ylim(0, 1.6 * top)  # room for the legend
    axes.set_ylabel(f"stamps per bin of {edges[1] - edges[0]:.2g}", size=9)
    axes.set_title(panel.title, size=10)
    axes.legend(fontsize=8)
    return axes


def _about(fit: Fit) -> str:
    """A fit's parameters; it is drawn thin where the likelihood has no maximum."""
    return f"non-central t: df {fit.df:.4g}, nc {fit.nc:.4g}{'' if fit.converged else ' (no maximum)'}"


def _bins(panels: Sequence[Panel]) -> list[float]:
    """The edges of 10 to 100 bins for these panels: few for few stamps, or most bars would be 0 or 1."""
    values = np.concatenate([values for panel in panels for values in panel.values.values()])
    each = max(sum(map(len, panel.values.values())) for panel in panels)
    return np.histogram_bin_edges(values, int(np.clip(np.sqrt(each), 10, 100))).tolist()


def panels(of: Sequence[Group]) -> list[list[Panel]]:
    """A row of Fig. 5's panels for each model, a column for each channel."""
    rows: dict[str, dict[str, list[Group]]] = {}
    for group in of:
        rows.setdefault(group.model, {}).setdefault(group.channel, []).append(group)
    return [
        [
            Panel(
                f"{pictures.shortened(model)}, {channel}",
                {group.name: group.values for group in classes},
                {group.name: group.fit for group in classes if isinstance(group.fit, Fit)},
            )
            for channel, classes in row.items()
        ]
        for model, row in rows.items()
    ]
