"""A sheet: one table or figure of the paper made afresh, kept as JSON, shown as text and as HTML."""

import base64
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rotinv.system.errors import UserError
from rotinv.system.files import read_errors, written_whole


@dataclass(frozen=True)
class Table:
    """A table's cells, ready to print; the first column is the rows' names."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Sheet:
    """`heading` is the paper's ("Table II"), `data` the numbers behind it; pictures lie beside the sheet.

    `caution` is a line that a reader must see first: why the numbers cannot be expected to be the paper's.
    """

    heading: str
    title: str
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[tuple[str, str]] = ()  # (file's name, what it shows)
    data: dict[str, Any] = field(default_factory=dict)
    caution: str = ""


def write(path: str | Path, sheet: Sheet) -> None:
    """Write the sheet as JSON, and as text beside it."""
    path = Path(path)
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(asdict(sheet), indent=1) + "\n", encoding="utf-8")
    with written_whole(path.with_suffix(".txt"), overwrite=True) as temporary:
        temporary.write_text("\n".join(text(sheet)) + "\n", encoding="utf-8")


def read(path: str | Path) -> Sheet:
    """Read a sheet's JSON. Raises UserError if it is missing or damaged."""
    path = Path(path)
    with read_errors(path):
        data = path.read_bytes()
    try:
        values = json.loads(data)
        tables = [Table(**table) for table in values.pop("tables")]
        pictures = [(name, about) for name, about in values.pop("pictures")]
        return Sheet(tables=tables, pictures=pictures, **values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a sheet of a reproduction ({error}); remove it") from error


def text(sheet: Sheet) -> Iterator[str]:
    """The sheet's lines as plain text."""
    yield f"{sheet.heading}. {sheet.title}"
    if sheet.caution:
        yield sheet.caution
    for table in sheet.tables:
        yield ""
        yield table.caption
        cells = [list(table.header), *(list(row) for row in table.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
        for row in cells:
            first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(["", first, *rest]).rstrip()
    for name, about in sheet.pictures:
        yield ""
        yield f"{name}: {about}"
    if sheet.notes:
        yield ""
    yield from sheet.notes


def as_html(sheet: Sheet, folder: str | Path) -> Iterator[str]:
    """The sheet's lines as a section of a page, its pictures (in `folder`) inside it.

    Raises UserError if a picture is missing.
    """
    folder = Path(folder)
    yield f'<section><h2>{html.escape(sheet.heading)}</h2><p class="title">{html.escape(sheet.title)}</p>'
    if sheet.caution:
        yield f'<p class="caution">{html.escape(sheet.caution)}</p>'
    for table in sheet.tables:
        yield from _table(table)
    for name, about in sheet.pictures:
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: no such file; remove the sheet of {sheet.heading} beside it")
        data = base64.b64encode((folder / name).read_bytes()).decode("ascii")
        about = html.escape(about)
        image = f'<img alt="{about}" src="data:image/png;base64,{data}">'
        yield f'<figure><div class="wide" tabindex="0">{image}</div>'
        yield f"<figcaption>{about}</figcaption></figure>"
    for note in sheet.notes:
        yield f"<p>{html.escape(note)}</p>"
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    yield f'<div class="wide"><table><caption>{html.escape(table.caption)}</caption>'
    yield "<thead><tr>" + "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.header)
    yield "</tr></thead><tbody>"
    for first, *rest in table.rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        yield f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>'
    yield "</tbody></table></div>"
