"""The paper's Fig. 5: how sigma-bar spreads in each class, and the non-central t fitted to it."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rotinv.files import written_whole
from rotinv.rotation import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".pdf")
_BINS = 100  # candidates' values are close together, artifacts' far apart
_COLOURS = {"artifact": "tab:red", "candidate": "tab:blue"}


@dataclass(frozen=True)
class Panel:
    """One model's sigma-bars of one channel: its classes' values (n,), and the fit of each that has one."""

    title: str
    values: Mapping[str, NDArray]
    fits: Mapping[str, Fit]


def histograms(path: Path, rows: Sequence[Sequence[Panel]], unit: str, title: str) -> None:
    """A row of panels for each model, a column for each channel, as PNG or PDF by the path's ending.

    A curve is a density times the number of its class's stamps and the bins' width. Columns share their bins.
    """
    from matplotlib.figure import Figure

    size = (max(7.0, 4.2 * len(rows[0])), 1.1 + 2.9 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex="col")
    for column in range(len(rows[0])):
        bins = _bins([row[column] for row in rows])
        for axes, row in zip(grid[:, column], rows, strict=True):
            _panel(axes, row[column], bins)
        grid[-1, column].set_xlabel(f"sigma-bar, {unit}", size=9)
    lines = textwrap.wrap(title, 70 * max(len(row) for row in rows))
    figure.suptitle("\n".join([*lines, "curves: fitted density x stamps x width of a bin"]), size=10)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)


def _bins(panels: Sequence[Panel]) -> list[float]:
    values = np.concatenate([values for panel in panels for values in panel.values.values()])
    return np.histogram_bin_edges(values, _BINS).tolist()


def _panel(axes: "Axes", panel: Panel, bins: list[float]) -> None:
    width = bins[1] - bins[0]
    x = np.linspace(bins[0], bins[-1], 5 * _BINS)
    top = 0.0
    for name, values in panel.values.items():
        colour = _COLOURS.get(name, "tab:grey")
        counts, _, _ = axes.hist(
            values, bins, color=colour, alpha=0.4, label=f"{name}: {len(values):,} stamps"
        )
        top = max(top, np.max(counts))
        if name in panel.fits:
            fitted = panel.fits[name]
            text = f"non-central t: df {fitted.df:.4g}, nc {fitted.nc:.4g}"
            text += "" if fitted.converged else " (no maximum)"
            curve = fitted.density(x) * len(values) * width
            top = max(top, min(curve.max(), 1.5 * top))
            axes.plot(x, curve, color=colour, ls="-" if fitted.converged else "--", label=text)
    axes.set_ylim(0, 1.6 * (top or 1))  # room for the legend; a curve's pole is cut
    axes.set_ylabel(f"stamps per bin of {width:.2g}", size=9)
    axes.set_title(panel.title, size=10)
    axes.legend(fontsize=8)
