"""Pictures, where matplotlib is installed (the extra `plot`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rotinv.system import scratch
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FORMATS = (".png", ".pdf")

# Okabe and Ito's colours (2008), which people with any kind of colour blindness tell apart, without the
# yellow, which is too light for a line on white. Nothing is told by colour alone: see `style`.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, BLACK = COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"),
)
_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)))
_MARKERS = "osD^vPX*h"
_LONGEST = 36  # letters of a name above a panel


class Style(NamedTuple):
    """How one of several curves is drawn; no two of the first 36 are alike in line and marker."""

    colour: str
    line: Any
    marker: str

    def of_line(self, points: int = 0) -> dict[str, Any]:
        """Arguments of matplotlib's plot for a line, with some ten markers along its `points`, if given."""
        marks = {"marker": self.marker, "ms": 4, "markevery": max(1, points // 10)} if points else {}
        return {"color": self.colour, "ls": self.line, **marks}


def style(place: int) -> Style:
    """The style of the curve at this place among several, counted from 0."""
    return Style(COLOURS[place % len(COLOURS)], _LINES[place % len(_LINES)], _MARKERS[place % len(_MARKERS)])


def shortened(name: str) -> str:
    """A network's name as it fits above a panel."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def check_format(path: str | Path) -> None:
    """Raise UserError unless the file's ending is one of FORMATS."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: pictures are {' or '.join(FORMATS)}; name it so")


def matplotlib_available() -> bool:
    """Whether matplotlib is installed."""
    scratch.prepare_matplotlib()
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def require_matplotlib(option: str = "--out") -> None:
    """Raise UserError if matplotlib is not installed; `option` asks for the picture."""
    if not matplotlib_available():
        raise UserError(f"pictures need matplotlib: pip install 'rotinv[plot]', or leave {option} away")


def new_figure(height: float = 4.5, width: float = 7.0) -> "Figure":
    """An empty figure of that many inches, whose parts are laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(height: float = 4.5) -> "Axes":
    """Axes of a new figure of pyplot, 7 inches wide, which a notebook shows. Raises UserError without
    matplotlib."""
    scratch.prepare_matplotlib()
    pyplot = require_extra("matplotlib.pyplot", "plot", "a plot")
    axes: Axes = pyplot.figure(figsize=(7, height), layout="constrained").subplots()
    return axes


def save(figure: "Figure", path: str | Path, *, overwrite: bool = False) -> None:
    """Write a figure as PNG or PDF, by the path's ending. Raises UserError if the file exists, but for
    `overwrite`."""
    path = Path(path)
    with written_whole(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower() or "png", dpi=150)
