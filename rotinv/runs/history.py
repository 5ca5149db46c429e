"""history.csv: the course of a training run, a row every few iterations.

`seconds` counts training only: no compilation, validation or checkpoint.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, read_errors, written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("iteration", "seconds", "loss", "learning_rate", "validation_error")


class Row(NamedTuple):
    """A row: the mean loss since the row before; validation_error is None where there was no validation."""

    iteration: int
    seconds: float
    loss: float
    learning_rate: float
    validation_error: float | None


def read(path: str | Path) -> list[Row]:
    """All rows but an incomplete last one, which a kill leaves. Raises UserError if the file is not a
    history."""
    path = Path(path)
    with read_errors(path):
        data = path.read_bytes()
    try:
        whole = data[: data.rfind(b"\n") + 1].decode()
        return [_row(record) for record in csv.DictReader(whole.splitlines())]
    except (KeyError, ValueError, TypeError) as error:
        columns = ", ".join(COLUMNS)
        raise UserError(f"{path}: is not a training history with the columns {columns} ({error})") from error


def restart(path: str | Path, rows: list[Row]) -> None:
    """Write the history anew with these rows."""
    with (
        written_whole(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_record(row) for row in rows)


def append(path: str | Path, row: Row) -> None:
    """Add a row; it is in the file when this returns."""
    path = Path(path)
    with disk_errors(path), path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(_record(row))


def _row(record: dict[str, str]) -> Row:
    error = record["validation_error"]
    return Row(
        int(record["iteration"]),
        float(record["seconds"]),
        float(record["loss"]),
        float(record["learning_rate"]),
        float(error) if error else None,
    )


def _record(row: Row) -> tuple:
    error = "" if row.validation_error is None else f"{row.validation_error:.8g}"
    return (row.iteration, f"{row.seconds:.6f}", f"{row.loss:.8g}", f"{row.learning_rate:.8g}", error)


def learning_curve_picture(path: str | Path, rows: Sequence[Row], title: str) -> None:
    """Write the learning curve as PNG or PDF, in place of a picture that is there."""
    figure = pictures.new_figure()
    draw_learning_curve(rows, figure.subplots()).set_title(title, wrap=True)
    pictures.save(figure, path, overwrite=True)


def draw_learning_curve(rows: Sequence[Row], ax: "Axes | None" = None) -> "Axes":
    """Draw the training loss and, on a second axis, the validation error against the iteration.

    A star marks the iteration whose weights are kept: the first one with the lowest validation error. Returns
    the axes; without `ax` they are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    iterations = [row.iteration for row in rows]
    axes.plot(iterations, [row.loss for row in rows], color="0.6", lw=0.8, label="training loss")
    axes.set(xlabel="iteration", ylabel="cross-entropy", yscale="log")
    validated = [
        (row.iteration, 100 * row.validation_error) for row in rows if row.validation_error is not None
    ]
    if validated:
        errors, colour = axes.twinx(), pictures.BLUE
        errors.plot(*zip(*validated, strict=True), "o-", color=colour, ms=4, label="validation error")
        kept = min(validated, key=lambda one: one[1])
        text = f"kept: iteration {kept[0]:,}, {kept[1]:.3g}%"
        errors.plot(*kept, "*", color=pictures.VERMILION, mec="black", ms=13, label=text, zorder=5)
        errors.set_ylabel("validation error (%)", color=colour)
        errors.set_ylim(bottom=0)
        lines = [*axes.get_lines(), *errors.get_lines()]
        errors.legend(handles=lines, fontsize=8, loc="upper right")
    return axes
