"""The pictures of the paper's Figs. 3 and 4: a stamp, its maps at the four rotations, and their average.

Pixels are drawn with the first row at the top, where numpy.rot90 turns counter-clockwise, as the paper's r.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, heatmaps
from rotinv.lrp.attribution import Explanation, Question
from rotinv.runs import model
from rotinv.system import pictures
from rotinv.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 150
STRONGEST = 5  # channels of a deep layer that are drawn beside the sum of all: 64 would be too small to see
# Inches: a map, the gap after it; left of a model's maps, right of them; above all maps, below them.
_MAP, _GAP, _LEFT, _RIGHT, _ABOVE, _BELOW = 1.1, 0.06, 0.5, 0.65, 0.95, 0.55
_UNITS = {"max-abs": "R / largest |R|", "min-max": "(R − least R) / range of R", "none": "R"}  # by scale
_NAMES = 0.28  # two lines above the maps, where their columns are not the stamp's channels


@dataclass(frozen=True)
class Panel:
    """What is drawn of one model: rows of maps (h, w, columns), or of vectors (units,), scaled."""

    header: str
    columns: list[str]  # none for vectors
    rows: list[tuple[str, NDArray]]
    largest: float  # magnitude, before scaling
    apart: bool  # whether each column has a scale of its own: a deep layer's channels differ by far


class Answered(Protocol):
    """What a page shows, as Study has it: stamps (n, h, h, c), and what each network answers for them."""

    @property
    def stamps(self) -> NDArray[np.float32]: ...
    @property
    def channels(self) -> Sequence[str]: ...
    @property
    def question(self) -> Question: ...
    @property
    def answers(self) -> Sequence[Explanation]: ...
    def label(self, i: int) -> int | None: ...
    def title(self, i: int) -> str: ...


def page(study: Answered, i: int, scale: str = "max-abs", realign: bool = False) -> "Figure":
    """The page of the i-th stamp of a study: its models side by side.

    `scale` is one of heatmaps.SCALES. With `realign` the four maps are turned back to the stamp's own
    orientation. Needs matplotlib.
    """
    from matplotlib.figure import Figure

    panels = [_panel(one, i, study.label(i), scale, realign) for one in study.answers]
    wide = [_LEFT + (_MAP + _GAP) * _across(study, panel) + _RIGHT for panel in panels]
    tall = _ABOVE + (_MAP + _GAP) * (1 + max(len(panel.rows) for panel in panels)) + _NAMES + _BELOW
    figure = Figure(figsize=(sum(wide), tall), dpi=DPI)
    figure.text(0.5, 1 - 0.08 / tall, study.title(i), ha="center", va="top", fontsize=11)
    figure.text(0.5, 0.06 / tall, _note(study, panels, scale), ha="center", va="bottom", fontsize=7)
    for n, panel in enumerate(panels):
        left, top = sum(wide[:n]), 1 - 0.35 / tall
        middle = (left + wide[n] / 2) / sum(wide)
        figure.text(middle, top, panel.header, ha="center", va="top", fontsize=9, linespacing=1.3)
        _draw_stamp(figure, left + _LEFT, study, i)
        if panel.columns:
            _draw_maps(figure, left + _LEFT, panel, scale, study.channels)
        else:
            _draw_vectors(figure, left + _LEFT, panel, wide[n] - _LEFT - _RIGHT)
    return figure


def save(paths: Sequence[str | Path], pages: Iterable["Figure"], *, overwrite: bool = False) -> None:
    """Write a figure to each path, or all to one PDF, a page each. Raises UserError if a path exists, but for
    `overwrite`."""
    if len(paths) == 1 and Path(paths[0]).suffix.lower() == ".pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        with written_whole(paths[0], overwrite=overwrite) as temporary, PdfPages(temporary) as pdf:
            for figure in pages:
                pdf.savefig(figure)
        return
    for path, figure in zip(paths, pages, strict=True):
        with written_whole(path, overwrite=overwrite) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def caution(figure: "Figure", text: str) -> None:
    """Write a line above a page's note that a reader must not miss; nothing if it is empty."""
    wide, tall = figure.get_size_inches()
    lines = "\n".join(textwrap.wrap(text, int(15 * wide)))
    look: dict[str, Any] = {"fontsize": 7, "weight": "bold", "color": pictures.VERMILION, "linespacing": 1.1}
    figure.text(0.5, 0.3 / tall, lines, ha="center", va="bottom", **look)


def _panel(one: Explanation, i: int, label: int | None, scale: str, realign: bool) -> Panel:
    """What is drawn of a model for the i-th stamp: one scale over the stamp's channels, but a scale for each
    of a deeper layer's, which their names then tell."""
    columns, maps = _columns(one, one.maps[i : i + 1])
    apart = bool(columns) and not one.channels and scale != "none"
    if apart:
        each = [maps[..., c : c + 1] for c in range(len(columns))]
        scaled = np.concatenate([heatmaps.scaled(part, scale) for part in each], axis=-1)
        columns = [
            f"{name}\n|R| ≤ {np.abs(part).max():.3g}" for name, part in zip(columns, each, strict=True)
        ]
    else:
        scaled = heatmaps.scaled(maps, scale)
    shown = attribution.turned_back(scaled) if realign else scaled
    rows = _rows(shown[0], attribution.average(scaled)[0], realign)
    return Panel(header(one, i, label), columns, rows, float(np.abs(maps).max(initial=0)), apart)


def header(one: Explanation, i: int, label: int | None) -> str:
    """The model's name and layer, the class that it gives, whether that is right, and p(candidate); and which
    class its maps are of, where that is another."""
    predicted = int(one.predicted[i])
    layer = "" if one.layer == attribution.STAMPS else f", {one.layer}"
    right = "" if label is None else " (right)" if predicted == label else " (wrong)"
    other = f"; maps of {one.classes.names[one.explained[i]]}" if one.explained[i] != predicted else ""
    p = one.probability[i]
    at = model.at_threshold(one.threshold)
    name = f"{pictures.shortened(one.name)}{layer}"
    return f"{name}\n{one.verdict(i)}{right}, {one.classes.p} = {p:.4g}{at}{other}"


def draw_average(axes: "Axes", one: Explanation, i: int, channel: str | None = None) -> None:
    """The i-th stamp's average map, with its scale: of one channel, or the sum over all; a bar for each unit
    where a layer gives vectors."""
    values = one.average[i] if channel is None else one.average[i][..., one.channels.index(channel)]
    if values.ndim == 1:
        _draw_bars(axes, values)
        axes.set(xlabel=f"unit of {one.layer}", ylabel="R")
        return
    what = (channel and model.channel_title(channel)) or "all channels"
    values = values if values.ndim == 2 else values.sum(axis=-1)
    reach = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes.set(xticks=[], yticks=[])
    axes.figure.colorbar(image, ax=axes, label=f"R, {what}")


def _across(study: Answered, panel: Panel) -> int:
    """How many columns a model's part of the page has."""
    return max(len(study.channels), len(panel.columns), 3)


def _columns(one: Explanation, maps: NDArray) -> tuple[list[str], NDArray]:
    """The columns' names, and the maps (1, r, h, w, columns): the channels, or their sum and the strongest.

    The strongest have the largest sum of |R|. Vectors stay as they are, without columns.
    """
    if maps.ndim == 3:
        return [], maps
    if one.channels:
        return list(one.channels), maps
    strength = np.abs(maps).sum(axis=(0, 1, 2, 3))
    best = np.argsort(-strength, kind="stable")[:STRONGEST]
    total = maps.sum(axis=-1, keepdims=True)
    names = [f"sum of {len(strength)}", *(f"channel {c}" for c in best)]
    return names, np.concatenate([total, maps[..., best]], axis=-1)


def _rows(maps: NDArray, average: NDArray, realign: bool) -> list[tuple[str, NDArray]]:
    """The rows below the stamp, each with its name: a layer that sees one orientation has one row."""
    vectors = maps.ndim == 2
    if len(maps) == 1:
        return [("units" if vectors else "map", maps[0])]
    back = "\nturned back" if realign and not vectors else ""
    four = [(f"{90 * turn}°{back if turn else ''}", one) for turn, one in enumerate(maps)]
    return [*four, ("average" if vectors else "average,\nturned back", average)]


def _draw_stamp(figure: "Figure", left: float, study: Answered, i: int) -> None:
    """The stamp's channels, each from its least pixel to its largest, as the network reads them."""
    for c, name in enumerate(study.channels):
        axes = _cell(figure, left, 0, c, "" if c else "stamp")
        axes.imshow(study.stamps[i, ..., c], cmap="gray")
        axes.set_title(model.channel_title(name), fontsize=7, pad=3)


def _draw_maps(figure: "Figure", left: float, panel: Panel, scale: str, above: Sequence[str]) -> None:
    """A row for each rotation and one for the average; columns that are not those above are named."""
    style, unit = _style(panel, scale), _UNITS[scale]
    for r, (row, maps) in enumerate(panel.rows, 1):
        for c, column in enumerate(panel.columns):
            axes = _cell(figure, left, r, c, "" if c else row)
            if r == 1 and panel.columns != list(above):
                axes.set_title(column, fontsize=7, pad=3)
            image = axes.imshow(maps[..., c], **style)
    beside = left + (_MAP + _GAP) * len(panel.columns)
    length = (_MAP + _GAP) * len(panel.rows) - _GAP
    bar = figure.colorbar(image, cax=_axes(figure, beside, _top(1), 0.1, min(length, 4 * _MAP)))
    bar.ax.tick_params(labelsize=6)
    bar.set_label(unit, size=6)


def _draw_vectors(figure: "Figure", left: float, panel: Panel, width: float) -> None:
    """A bar for each unit, a row for each rotation, all on one scale."""
    every = np.array([values for _, values in panel.rows])
    low, high = 1.05 * min(every.min(), 0), 1.05 * max(every.max(), 0)
    for r, (name, values) in enumerate(panel.rows, 1):
        axes = _axes(figure, left, _top(r), width, _MAP)
        _draw_bars(axes, values)
        axes.set(ylim=(low, high if high > low else low + 1))
        axes.set_ylabel(name, fontsize=7)
        axes.tick_params(labelsize=6, labelbottom=r == len(panel.rows))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))  # short enough for the margin
        axes.yaxis.get_offset_text().set_size(6)


def _draw_bars(axes: "Axes", values: NDArray) -> None:
    """A bar for each unit of a vector, red above 0 and blue below."""
    edges = np.arange(len(values) + 1) - 0.5
    axes.stairs(values.clip(0, None), edges, fill=True, color="tab:red")
    axes.stairs(values.clip(None, 0), edges, fill=True, color="tab:blue")
    axes.axhline(0, color="0.5", lw=0.5)
    axes.set_xlim(edges[0], edges[-1])


def _cell(figure: "Figure", left: float, row: int, column: int, name: str) -> Any:
    """Axes of one map, without ticks, with a row's name to the left."""
    axes = _axes(figure, left + (_MAP + _GAP) * column, _top(row), _MAP, _MAP)
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel(name, fontsize=7)
    return axes


def _top(row: int) -> float:
    """Inches from the page's top to a row of maps; row 0 is the stamp."""
    return _ABOVE + (_MAP + _GAP) * row + (_NAMES if row else 0)


def _axes(figure: "Figure", left: float, top: float, width: float, height: float) -> Any:
    """Axes at a place in inches from the page's upper left corner (matplotlib's own layout is slow)."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def _style(panel: Panel, scale: str) -> dict[str, Any]:
    """Red above and blue below 0, which is white; "min-max" has lost where 0 was, and is drawn in one hue."""
    if scale == "min-max":
        return {"cmap": "viridis", "vmin": 0, "vmax": 1}
    reach = 1.0 if scale == "max-abs" else panel.largest or 1.0
    return {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}


def _note(study: Answered, panels: Sequence[Panel], scale: str) -> str:
    """What is drawn, and how it is scaled."""
    largest = ", ".join(f"{panel.largest:.3g}" for panel in panels)
    of, divided = "each model's maps", f"each model's maps divided by their largest magnitude ({largest})"
    if any(panel.apart for panel in panels):
        of, divided = "each column", "each column divided by its largest |R|, which stands above it"
    how = {
        "max-abs": f"{divided}; red +, blue −",
        "min-max": f"{of} from the least R, 0, to the largest, 1",
        "none": f"maps not scaled (largest magnitude {largest}); red +, blue −",
    }[scale]
    return f"{study.question.text}\n{how}"
