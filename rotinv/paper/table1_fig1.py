"""Table I and Fig. 1, drawn from the architectures themselves."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rotinv.nn import architectures
from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Shape
from rotinv.nn.network import Network
from rotinv.paper import published, sheets
from rotinv.paper.place import ARCHS, Place
from rotinv.paper.sheets import Sheet, Table
from rotinv.stamps.store import CHANNELS, StampStore
from rotinv.survey.detection import STAMP
from rotinv.system import pictures
from rotinv.system.workers import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def table_1(at: Place, simulated: bool, tell: Progress) -> None:
    """Each architecture's layers, with their parameters and output sizes."""
    tables, notes, data = [], [], {}
    for arch, network in _networks(at, simulated).items():
        theirs = iter(published.TABLE_1[arch])
        rows = [
            (name, f"{count:,}" if count else "-", "x".join(map(str, shape)), _paper(name, theirs))
            for name, count, shape in architectures.table(network)
        ]
        rows.append(("total", f"{network.size:,}", "", ""))
        caption = f"{published.NAMES[arch]}, ({', '.join(map(str, network.in_shape))}) stamps"
        tables.append(Table(caption, ("layer", "parameters", "output size", "(paper)"), rows))
        data[arch] = {"parameters": network.size, "layers": rows}
        if arch in published.PARAMETERS:
            there = published.PARAMETERS[arch]
            verdict = "the same" if network.size == there else f"here {network.size:,}"
            notes.append(f"{published.NAMES[arch]}: the paper's has {there:,} parameters; {verdict}.")
    title = "Architectures; the maps between slice and concatenation or mean are of each of four rotations"
    sheets.write(at.sheet("table1"), Sheet("Table I", title, tables, notes, data=data))


def fig_1(at: Place, simulated: bool, tell: Progress) -> None:
    """The diagram of Deep-HiTS and CAP."""
    networks = {
        published.NAMES[a]: n for a, n in _networks(at, simulated).items() if a in published.PARAMETERS
    }
    diagram(at.sheets / "fig1.png", networks)
    about = "Every box is a layer's output: its width tells the channels, its height the side of its maps"
    about += "; four outlines are the four rotations. Drawn from the networks that were trained."
    sheets.write(at.sheet("fig1"), Sheet("Fig. 1", "Deep-HiTS and CAP", pictures=[("fig1.png", about)]))


def _paper(layer: str, sizes: Iterator[str]) -> str:
    """The paper's output size of the next layer; it gives dropout none."""
    return "" if layer.startswith("dropout") else next(sizes)


def _networks(at: Place, simulated: bool) -> dict[str, architectures.Network]:
    """The networks for the stamps of this reproduction; those of a simulated survey need not be there yet."""
    size, channels = STAMP, len(CHANNELS)
    if not simulated:
        with StampStore(at.data) as store:
            size, channels = store.size, len(store.channels)
    return {arch: architectures.build(arch, size, channels) for arch in ARCHS}


_STEP = 1.45  # from a box to the next, in units of the axes
_LIFT = 0.07  # from a rotation's outline to the next
_COLOURS = {
    "convolution": pictures.BLUE,
    "max-pooling": pictures.SKY,
    "dense": pictures.ORANGE,
    "cyclic": pictures.VERMILION,
}


def diagram(path: str | Path, networks: Mapping[str, Network]) -> None:
    """A row of boxes for each network by name, as PNG. Dropout, which changes no shape, is not drawn.

    A map's box is as high as its side and as wide as its channels, a vector's as high as the logarithm of its
    length; the outlines behind a box are the other three rotations.
    """
    tables = {name: _rows(network) for name, network in networks.items()}
    across = max(map(len, tables.values()))
    figure = pictures.new_figure(3.1 * len(tables), width=0.9 * across + 0.6)
    for axes, (name, rows) in zip(
        figure.subplots(len(tables), squeeze=False)[:, 0], tables.items(), strict=True
    ):
        axes.set(xlim=(-0.8, across * _STEP - 0.4), ylim=(-1.25, 1.6))
        axes.set_axis_off()
        axes.set_title(f"{name}: {networks[name].size:,} parameters", loc="left", size=11)
        _draw(axes, rows)
    pictures.save(figure, path, overwrite=True)


def _rows(network: Network) -> list[tuple[str, int, Shape]]:
    return [row for row in architectures.table(network) if not row[0].startswith("dropout")]


def _draw(axes: "Axes", rows: list[tuple[str, int, Shape]]) -> None:
    largest = max(shape[0] for _, _, shape in rows if len(shape) == 3)
    turned, before = False, 0.0
    for place, (name, count, shape) in enumerate(rows):
        x = place * _STEP
        if name == CyclicSlice.name:
            turned = True
        elif name in (CyclicConcat.name, CyclicMean.name):
            turned = False
        width, height = _size(shape, largest)
        for behind in range(3 if turned else 0, -1, -1):
            _box(axes, x + behind * _LIFT, behind * _LIFT, width, height, _colour(name), behind)
        if place:
            axes.annotate(
                "", (x - width / 2 - 0.05, 0), (before, 0), arrowprops={"arrowstyle": "->", "color": "0.4"}
            )
        before = x + width / 2 + (3 * _LIFT if turned else 0) + 0.03
        sizes = "×".join(map(str, shape)) + ("\n× 4 turns" if turned else "")
        axes.text(x, 0.85, sizes, ha="center", va="bottom", size=8)
        axes.text(x, -0.72, _label(name, count), ha="center", va="top", size=8)


def _size(shape: Shape, largest: int) -> tuple[float, float]:
    """A box's width and height."""
    if len(shape) == 3:
        return 0.12 + 0.6 * shape[2] / 64, 1.3 * shape[0] / largest
    return 0.1, 0.15 + 1.1 * math.log2(shape[0]) / math.log2(10_000)


def _box(axes: "Axes", x: float, y: float, width: float, height: float, colour: str, behind: int) -> None:
    from matplotlib.patches import Rectangle

    face = "white" if behind else colour
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        Rectangle(corner, width, height, facecolor=face, edgecolor="0.25", lw=0.8, zorder=4 - behind)
    )


def _colour(name: str) -> str:
    return next((colour for start, colour in _COLOURS.items() if name.startswith(start)), "0.7")


def _label(name: str, count: int) -> str:
    """The layer's name, a word a line, with its parameters."""
    return "\n".join(name.split()) + (f"\n({count:,})" if count else "")
