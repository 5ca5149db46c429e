"""The curves of region perturbation: how far the score has fallen, against the regions replaced."""

from collections.abc import Mapping
from pathlib import Path

from numpy.typing import NDArray

from rotinv.files import written_whole
from rotinv.perturbation import RANDOM

FORMATS = (".png", ".pdf")


def curves(path: Path, drops: Mapping[str, NDArray], score: str, title: str) -> None:
    """The mean over stamps of drops (n, steps + 1) by name, as PNG or PDF by the path's ending.

    The legend stands beside the curves, the largest AOPC on top. Needs matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, each in sorted(drops.items(), key=lambda item: -item[1].mean()):
        color, style = ("0.4", "--") if name == RANDOM else (None, "-")
        axes.plot(each.mean(axis=0), label=name, color=color, ls=style)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="regions replaced by noise, the most relevant first", ylabel=f"mean fall of the\n{score}")
    axes.set_title(title, size=10)
    figure.legend(loc="outside right upper", fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
