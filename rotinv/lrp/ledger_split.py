"""The ledgers of many stamps together: how each line of each layer is distributed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rotinv.lrp.ledger import LINES
from rotinv.lrp.trust import trust
from rotinv.system.messages import counted

QUANTILES = (0.05, 0.5, 0.95)
MAP = "the map"  # the last rows: what arrived, and how exactly

_EXACTNESS = ("rounding", "closing_error", "deviation")

Amounts = Sequence[Mapping[str, Any]]  # a stamp's rows, as Audit.amounts gives them


class Row(NamedTuple):
    """One line of one layer over the stamps, in shares of each stamp's relevance at the output.

    `low`, `median` and `high` are the QUANTILES, `largest` is the amount that is largest in size.
    """

    layer: str
    line: str
    low: float
    median: float
    high: float
    largest: float


def distribution(amounts: Sequence[Amounts]) -> list[Row]:
    """The rows of all lines that are not 0 for every stamp, layer by layer, and two of the map itself.

    There must be a stamp, and each must have some relevance at the output, or it has no shares.
    """
    rows = []
    for place, entry in enumerate(amounts[0]):
        for line in (*LINES, "closing_error"):
            values = np.array([one[place][line] for one in amounts])
            if values.any():
                rows.append(_row(entry["layer"], line, values))
    trusts = [trust(one) for one in amounts]
    rows.append(_row(MAP, "share", np.array([one.share for one in trusts])))
    rows.append(_row(MAP, "deviation", np.array([one.deviation for one in trusts])))
    return rows


def lines(rows: Sequence[Row], count: int) -> list[str]:
    """The rows as a table in percent of the output's relevance, of `count` stamps."""
    found = [
        f"{counted(count, 'stamp')}; in percent of each one's |R| at the output, but for rounding, closing "
        "error and deviation, which are shares as they are",
        f"{'layer':<26}{'line':<16}{'5%':>12}{'median':>12}{'95%':>12}{'largest':>12}",
    ]
    for layer, line, *values in rows:
        cells = "".join(f"{_cell(line, value):>12}" for value in values)
        found.append(f"{layer:<26}{line.replace('_', ' '):<16}{cells}")
    return found


def documents(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for JSON, in shares."""
    return [row._asdict() for row in rows]


def _row(layer: str, line: str, values: np.ndarray) -> Row:
    low, median, high = np.quantile(values, QUANTILES)
    largest = values[np.argmax(np.abs(values))]
    return Row(layer, line, float(low), float(median), float(high), float(largest))


def _cell(line: str, value: float) -> str:
    if line in _EXACTNESS:
        return f"{value:.1e}"
    return f"{100 * value:.4f}" if value else "0"
