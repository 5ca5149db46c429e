"""Table III: a class's moments of sigma-bar, the sample's beside the fit's own, as text, CSV and JSON.

Fig. 5 draws the histogram of each class and the non-central t that was fitted to it.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import noncentral_t
from rotinv.metrics.noncentral_t import DDOF, MOMENTS, Fit, Moments
from rotinv.runs.model import CLASS_NAMES
from rotinv.system import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNDEFINED = "undefined"
_PARAMETERS = ("df", "nc", "loc", "scale", "log_likelihood", "distance")


@dataclass(frozen=True)
class Group:
    """The sigma-bars (n,) of one model, channel and class, with their moments and their fit."""

    model: str
    channel: str
    name: str
    values: NDArray[np.float64]
    sample: Moments
    fit: Fit | str  # or why there is none

    @property
    def status(self) -> str:
        """How the fit went."""
        return self.fit if isinstance(self.fit, str) else self.fit.status

    @property
    def fitted(self) -> Moments:
        """The fit's own moments; undefined without a fit."""
        if isinstance(self.fit, str):
            return Moments(None, None, None, None, dict.fromkeys(MOMENTS, f"no fit: {self.fit}"))
        return self.fit.moments()

    @property
    def parameters(self) -> dict[str, float | None]:
        """The fit's parameters, log-likelihood and distance; None without a fit."""
        return {name: getattr(self.fit, name, None) for name in _PARAMETERS}


def row(group: Group) -> dict[str, Any]:
    """A line of the CSV."""
    values: dict[str, Any] = {"ddof": DDOF}
    for what, moments in (("sample", group.sample), ("fit", group.fitted)):
        values |= {f"{what}_{name}": getattr(moments, name) for name in MOMENTS}
    values |= group.parameters
    shown = {name: UNDEFINED if value is None else value for name, value in values.items()}
    first = {"model": group.model, "channel": group.channel, "class": group.name, "n": len(group.values)}
    return {**first, **shown, "status": group.status}


def entry(group: Group) -> dict[str, Any]:
    """An object of the JSON; what is undefined is None, and `undefined` says why."""
    return {
        "model": group.model,
        "channel": group.channel,
        "class": group.name,
        "n": len(group.values),
        "sample": _moments(group.sample),
        "fit": {"status": group.status, **group.parameters, **_moments(group.fitted)},
    }


def lines(groups: Sequence[Group]) -> Iterator[str]:
    """The table as text: of each class the sample's moments, the fit's own below them, and how it went."""
    yield f"sample: its moments, ddof {DDOF}; fit: those of the non-central t of greatest likelihood itself"
    yield "kurtosis is in excess of 3; KS: Kolmogorov and Smirnov's distance of the fit from the sample"
    yield ""
    widths = {name: max(len(getattr(g, name)) for g in groups) + 2 for name in ("model", "channel")}
    first = f"{'model':<{widths['model']}}{'channel':<{widths['channel']}}{'class':<11}{'n':>6}"
    yield f"{first}  {'':6}" + "".join(f"{name:>13}" for name in MOMENTS)
    for group in groups:
        names = "".join(f"{getattr(group, name):<{width}}" for name, width in widths.items())
        yield f"{names}{group.name:<11}{len(group.values):>6}  sample{_cells(group.sample)}"
        yield f"{'':{len(first)}}  fit   {_cells(group.fitted)}"
        yield f"{'':{len(first)}}  {_verdict(group)}"


def _moments(moments: Moments) -> dict[str, Any]:
    values = asdict(moments)
    return {**{name: values[name] for name in MOMENTS}, "undefined": moments.reasons}


def _cells(moments: Moments) -> str:
    values = [getattr(moments, name) for name in MOMENTS]
    return "".join(f"{UNDEFINED if value is None else format(value, '.4g'):>13}" for value in values)


def _verdict(group: Group) -> str:
    if isinstance(group.fit, str):
        return f"no fit: {group.fit}"
    f = group.fit
    parameters = f"df {f.df:.4g}, nc {f.nc:.4g}, loc {f.loc:.4g}, scale {f.scale:.4g}"
    return f"{parameters}, log L {f.log_likelihood:.2f}, KS {f.distance:.4f}: {f.status}"


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
    figure.suptitle("\n".join([*lines, "curves: fitted density x stamps x width of a bin"]), size=10)
    pictures.save(figure, path, overwrite=overwrite)


def draw_histogram(panel: Panel, bins: Sequence[float] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the histogram of each class and, as a curve, its fit: the density x stamps x width of a bin.

    Without `bins` (their edges, equally far apart) there are about as many as the square root of the number
    of stamps. Gives the axes; without `ax` they are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    edges = _bins([panel]) if bins is None else list(bins)
    x, top = np.linspace(edges[0], edges[-1], _CURVE), 0.0
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
            top = max(top, min(curve.max(), 1.5 * top))
            width = 1.8 if fit.converged else 0.9
            axes.plot(x, curve, color=colour, lw=width, ls=line, label=_about(fit))
    axes.set_ylim(0, 1.6 * (top or 1))  # room for the legend; a curve that goes to infinity is cut
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


def groups(
    tables: Mapping[str, NDArray], channels: Mapping[str, int], label: NDArray | None
) -> Iterator[Group]:
    """Every model, channel (by its place) and class, with its moments and its fit.

    All stamps are one class, "all", where their labels are unknown.
    """
    for model, table in tables.items():
        for channel, column in channels.items():
            values = table[:, column]
            classes = [("all", values)] if label is None else [
                (name, values[label == number]) for number, name in enumerate(CLASS_NAMES)
            ]  # fmt: skip
            for name, of_class in classes:
                sample, fit = noncentral_t.sample_moments(of_class), noncentral_t.fit_noncentral_t(of_class)
                yield Group(model, channel, name, of_class, sample, fit)


def panels(of: Sequence[Group]) -> list[list[Panel]]:
    """A row of Fig. 5's panels for each model, a column for each channel."""
    rows: dict[str, dict[str, list[Group]]] = {}
    for group in of:
        rows.setdefault(group.model, {}).setdefault(group.channel, []).append(group)
    return [
        [
            Panel(
                f"{model}, {channel}",
                {group.name: group.values for group in classes},
                {group.name: group.fit for group in classes if isinstance(group.fit, Fit)},
            )
            for channel, classes in row.items()
        ]
        for model, row in rows.items()
    ]
