"""Pictures, where matplotlib is installed (the extra `plot`)."""

from pathlib import Path
from typing import TYPE_CHECKING

from rotinv.system import scratch
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


def new_figure(height: float = 4.5) -> "Figure":
    """An empty figure, 7 inches wide."""
    from matplotlib.figure import Figure

    return Figure(figsize=(7, height), layout="constrained")


def new_axes(height: float = 4.5) -> "Axes":
    """Axes of a new figure of pyplot, 7 inches wide, which a notebook shows. Raises UserError without
    matplotlib."""
    pyplot = require_extra("matplotlib.pyplot", "plot", "a plot")
    axes: Axes = pyplot.figure(figsize=(7, height), layout="constrained").subplots()
    return axes


def save_png(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; a picture that is there is replaced."""
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
