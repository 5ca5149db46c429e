"""Pictures of a run, where matplotlib is installed (the extra `plot`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from rotinv.errors import UserError
from rotinv.files import written_whole
from rotinv.history import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, tuple[NDArray, NDArray]]  # FPR and FNR by the model's name, of metrics.det_curve


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def require(option: str = "--out") -> None:
    """Raise UserError if matplotlib is not installed; `option` asks for the picture."""
    if not available():
        raise UserError(f"pictures need matplotlib: pip install 'rotinv[plot]', or leave {option} away")


def learning_curve(path: Path, rows: Sequence[Row], title: str) -> None:
    """The training loss and the validation error against the iteration, as PNG."""
    figure = _figure()
    axes = figure.subplots()
    axes.plot([r.iteration for r in rows], [r.loss for r in rows], color="0.7", lw=0.8, label="training loss")
    axes.set(xlabel="iteration", ylabel="cross-entropy", yscale="log", title=title)
    validated = [(r.iteration, 100 * r.validation_error) for r in rows if r.validation_error is not None]
    errors = axes.twinx()
    errors.plot(*zip(*validated, strict=True), "o-", color="tab:blue", ms=4, label="validation error")
    errors.set_ylabel("validation error (%)", color="tab:blue")
    errors.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2)
    _save(figure, path)


def det_curves(path: Path, curves: Curves) -> None:
    """FNR against FPR for each model by name, as PNG (Fig. 2)."""
    figure = _figure()
    axes = figure.subplots()
    draw_det(axes, curves)
    axes.legend()
    _save(figure, path)


def draw_det(axes: "Axes", curves: Curves) -> None:
    """The DET curves on logarithmic axes, where 0 has no place."""
    for name, (fpr, fnr) in curves.items():
        axes.step(fpr, fnr, where="post", label=name, lw=1.2)
    axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
    axes.grid(which="both", color="0.9")


def waterfall(path: Path, start: float, steps: Sequence[tuple[str, float]], title: str) -> None:
    """From `start` at the output down by what each of `steps` took, to what is left, as PNG."""
    figure = _figure(height=1.2 + 0.28 * (len(steps) + 2))
    axes = figure.subplots()
    axes.use_sticky_edges = False  # room for the numbers beside the bars
    axes.margins(x=0.2)
    level = start
    axes.barh(0, level, color="0.6")
    for row, (_, taken) in enumerate(steps, 1):
        axes.plot([level, level], [row - 1.4, row + 0.4], color="0.4", lw=0.8)
        axes.barh(row, -taken, left=level, color="tab:blue" if taken > 0 else "tab:red")
        _beside(axes, row, max(level, level - taken), f"{-taken:+.2%}")
        level -= taken
    axes.barh(len(steps) + 1, level, color="0.6")
    _beside(axes, len(steps) + 1, max(level, 0), f"{level:.2%}")
    axes.set_yticks(range(len(steps) + 2), ["output", *(name for name, _ in steps), "stamp"])
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", lw=0.8)
    axes.set_xlabel("sum of R, in shares of the output's |R|  (blue: taken away, red: added)")
    axes.set_title(title, size=10)
    _save(figure, path)


def _beside(axes: "Axes", row: int, right: float, text: str) -> None:
    axes.annotate(text, (right, row), (4, 0), va="center", size=8, textcoords="offset points")


def _figure(height: float = 4.5) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(7, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    with written_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
