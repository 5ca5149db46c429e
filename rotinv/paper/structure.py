"""Table I and Fig. 1, drawn from the architectures themselves."""

from collections.abc import Iterator

from rotinv import architecture_figures, architectures
from rotinv.paper import published, sheets
from rotinv.paper.place import ARCHS, Place
from rotinv.paper.sheets import Sheet, Table
from rotinv.stamps import CHANNELS, StampStore
from rotinv.survey.detection import STAMP
from rotinv.workers import Progress


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
    architecture_figures.diagram(at.sheets / "fig1.png", networks)
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
