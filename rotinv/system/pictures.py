"""Pictures, where matplotlib is installed (the extra `plot`)."""

from pathlib import Path
from typing import TYPE_CHECKING

from rotinv.system import scratch
from rotinv.system.errors import UserError
from rotinv.system.files import written_whole

if TYPE_CHECKING:
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


def save_png(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; a picture that is there is replaced."""
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
