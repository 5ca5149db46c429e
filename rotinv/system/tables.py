"""Results as astropy's tables, where astropy is installed (the extra `alerts`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from rotinv.system.errors import require_extra


def astropy_table(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> Any:
    """An astropy Table of the rows, with `meta`. Raises UserError if astropy is not installed."""
    table = require_extra("astropy.table", "alerts", "to_table").Table(rows=list(rows))
    table.meta = dict(meta)
    return table
