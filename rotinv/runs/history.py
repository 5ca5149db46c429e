"""history.csv: the course of a training run, a row every few iterations.

`seconds` counts training only: no compilation, validation or checkpoint.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, written_whole
from rotinv.system.pictures import new_figure, save

COLUMNS = ("iteration", "seconds", "loss", "learning_rate", "validation_error")


class Row(NamedTuple):
    """The mean loss since the row before; validation_error is None where there was no validation."""

    iteration: int
    seconds: float
    loss: float
    learning_rate: float
    validation_error: float | None


def read(path: str | Path) -> list[Row]:
    """All rows but a last one that a kill cut short. Raises UserError if the file is not a history."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [_row(record) for record in csv.DictReader(whole.splitlines())]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is not a training history with the columns {', '.join(COLUMNS)}") from error


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
    """Add a row; it reaches the file at once."""
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


def learning_curve(path: str | Path, rows: Sequence[Row], title: str) -> None:
    """The training loss and the validation error against the iteration, as PNG."""
    figure = new_figure()
    axes = figure.subplots()
    axes.plot([r.iteration for r in rows], [r.loss for r in rows], color="0.7", lw=0.8, label="training loss")
    axes.set(xlabel="iteration", ylabel="cross-entropy", yscale="log", title=title)
    validated = [(r.iteration, 100 * r.validation_error) for r in rows if r.validation_error is not None]
    errors = axes.twinx()
    errors.plot(*zip(*validated, strict=True), "o-", color="tab:blue", ms=4, label="validation error")
    errors.set_ylabel("validation error (%)", color="tab:blue")
    errors.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, path, overwrite=True)
