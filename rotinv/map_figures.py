"""The pictures of the paper's Figs. 3 and 4: a stamp, its maps at the four rotations, and their average.

Pixels are drawn with the first row at the top, where numpy.rot90 turns counter-clockwise, as the paper's r.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv import explanations, heatmaps
from rotinv.explanations import CLASSES, Explanation, Study
from rotinv.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

DPI = 150
STRONGEST = 5  # channels of a deep layer that are drawn beside the sum of all: 64 would be too small to see
_CELL, _LABELS, _ABOVE = 1.15, 1.2, 1.45  # inches: of a map, beside the maps, above and below them


@dataclass(frozen=True)
class Panel:
    """What is drawn of one model: rows of maps (h, w, columns), or of vectors (units,), scaled."""

    header: str
    columns: list[str]  # none for vectors
    rows: list[tuple[str, NDArray]]
    largest: float  # magnitude, before scaling


def page(study: Study, i: int, scale: str = "max-abs", realign: bool = False) -> "Figure":
    """The page of the i-th stamp of a study: its models side by side.

    `scale` is one of heatmaps.SCALES. With `realign` the four maps are turned back to the stamp's own
    orientation. Needs matplotlib.
    """
    from matplotlib.figure import Figure

    panels = [_panel(one, i, study.label(i), scale, realign) for one in study.answers]
    wide = [_CELL * _across(study, panel) + _LABELS for panel in panels]
    height = _CELL * (1 + max(len(panel.rows) for panel in panels)) + _ABOVE
    figure = Figure(figsize=(sum(wide), height), dpi=DPI, layout="constrained")
    figure.suptitle(study.title(i), fontsize=11)
    figure.supxlabel(_note(study, panels, scale), fontsize=7)
    halves = figure.subfigures(1, len(panels), width_ratios=wide, squeeze=False)[0]
    for half, panel in zip(halves, panels, strict=True):
        half.suptitle(panel.header, fontsize=9)
        grid = half.add_gridspec(1 + len(panel.rows), _across(study, panel))
        _draw_stamp(half, grid, study, i)
        if panel.columns:
            _draw_maps(half, grid, panel, _style(panel, scale))
        else:
            _draw_vectors(half, grid, panel)
    return figure


def save(paths: Sequence[Path], pages: Iterable["Figure"]) -> None:
    """Write a figure to each path, or all to one PDF, a page each. Raises UserError if a path exists."""
    if len(paths) == 1 and paths[0].suffix.lower() == ".pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        with written_whole(paths[0]) as temporary, PdfPages(temporary) as pdf:
            for figure in pages:
                pdf.savefig(figure)
        return
    for path, figure in zip(paths, pages, strict=True):
        with written_whole(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def _panel(one: Explanation, i: int, label: int | None, scale: str, realign: bool) -> Panel:
    """What is drawn of a model for the i-th stamp, with one scale over all of it."""
    columns, maps = _columns(one, one.maps[i : i + 1])
    scaled = heatmaps.scaled(maps, scale)
    shown = explanations.turned_back(scaled) if realign else scaled
    rows = _rows(shown[0], explanations.average(scaled)[0], realign)
    return Panel(_header(one, i, label), columns, rows, float(np.abs(maps).max(initial=0)))


def _header(one: Explanation, i: int, label: int | None) -> str:
    """The model's name and layer, the class that it gives, whether that is right, and p(candidate)."""
    predicted = int(one.predicted[i])
    layer = "" if one.layer == explanations.STAMPS else f", {one.layer}"
    verdict = "" if label is None else " (right)" if predicted == label else " (wrong)"
    return f"{one.name}{layer}\n{CLASSES[predicted]}{verdict}, p(candidate) = {one.probability[i]:.4g}"


def _across(study: Study, panel: Panel) -> int:
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


def _draw_stamp(half: "SubFigure", grid: Any, study: Study, i: int) -> None:
    """The stamp's channels, each from its least pixel to its largest, as the network reads them."""
    for c, name in enumerate(study.channels):
        axes = _cell(half, grid[0, c], "" if c else "stamp")
        axes.imshow(study.stamps[i, ..., c], cmap="gray")
        axes.set_title(_title(name), fontsize=7)


def _draw_maps(half: "SubFigure", grid: Any, panel: Panel, style: dict[str, Any]) -> None:
    """A row for each rotation and one for the average, with the scale of their colours."""
    drawn, image = [], None
    for r, (row, maps) in enumerate(panel.rows, 1):
        for c, column in enumerate(panel.columns):
            axes = _cell(half, grid[r, c], "" if c else row)
            if r == 1:
                axes.set_title(_title(column), fontsize=7)
            image = axes.imshow(maps[..., c], **style)
            drawn.append(axes)
    assert image is not None  # a panel has rows and columns
    half.colorbar(image, ax=drawn, shrink=0.5, aspect=30, pad=0.02).ax.tick_params(labelsize=6)


def _cell(half: "SubFigure", place: Any, name: str) -> Any:
    """Axes without ticks, with a row's name to the left."""
    axes = half.add_subplot(place)
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel(name, fontsize=7)
    return axes


def _draw_vectors(half: "SubFigure", grid: Any, panel: Panel) -> None:
    """A bar for each unit, a row for each rotation, all on one scale."""
    every = np.array([values for _, values in panel.rows])
    low, high = min(every.min(), 0), max(every.max(), 0)
    for r, (name, values) in enumerate(panel.rows, 1):
        axes = half.add_subplot(grid[r, :])
        axes.bar(
            np.arange(len(values)), values, width=1.0, color=np.where(values >= 0, "tab:red", "tab:blue")
        )
        axes.axhline(0, color="0.5", lw=0.5)
        axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(low, high if high > low else low + 1))
        axes.set_ylabel(name, fontsize=7)
        axes.tick_params(labelsize=6, labelbottom=r == len(panel.rows))


def _style(panel: Panel, scale: str) -> dict[str, Any]:
    """Red above and blue below 0, which is white; "min-max" has lost where 0 was, and is drawn in one hue."""
    if scale == "min-max":
        return {"cmap": "viridis", "vmin": 0, "vmax": 1}
    reach = 1.0 if scale == "max-abs" else panel.largest or 1.0
    return {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}


def _note(study: Study, panels: Sequence[Panel], scale: str) -> str:
    """What is drawn, and how it is scaled."""
    largest = ", ".join(f"{panel.largest:.3g}" for panel in panels)
    how = {
        "max-abs": f"each model's maps divided by their largest magnitude ({largest}); red +, blue −",
        "min-max": "each model's maps from their least, 0, to their largest, 1",
        "none": f"maps not scaled (largest magnitude {largest}); red +, blue −",
    }[scale]
    return f"{study.question.text}\n{how}"


def _title(channel: str) -> str:
    return channel.replace("snr_", "SNR ").replace("_", " ")
