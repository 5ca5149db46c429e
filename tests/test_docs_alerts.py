"""docs/alerts.md names every flag with its bit."""

import re
from pathlib import Path

from rotinv.alerts.stamp import BIT


def test_the_table_of_flags_is_the_programs():
    page = (Path(__file__).resolve().parents[1] / "docs" / "alerts.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)
    assert {name: int(bit) for name, bit in table} == BIT
