"""`pytest bench/` checks against reference results; `--benchmark` also times, beside peers."""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--benchmark", action="store_true", help="also time, beside the peers that are installed"
    )
    parser.addoption("--rounds", type=int, default=9, help="rounds of each timing; medians are printed")
    parser.addoption("--json", type=Path, help="write the table of timings to this file")


def pytest_configure(config):
    config.stash[TABLE] = []


TABLE = pytest.StashKey[list]()


@pytest.fixture
def timings(request):
    """The table of timings, to append rows to; skips the test where no timing is asked for."""
    if not request.config.getoption("--benchmark"):
        pytest.skip("timed with --benchmark only")
    return request.config.stash[TABLE]


@pytest.fixture
def rounds(request):
    return request.config.getoption("--rounds")


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[TABLE]
    if not rows:
        return
    terminalreporter.section("timings (medians)")
    header = ("operation", "threads", "ms", "spread", "peer", "peer ms", "peer spread", "ratio")
    terminalreporter.write_line("{:<30}{:>8}{:>10}{:>9}  {:<34}{:>9}{:>13}{:>8}".format(*header))
    for row in rows:
        terminalreporter.write_line(
            f"{row['operation']:<30}{row['threads']:>8}{row['ms']:>10.1f}{row['spread']:>9.0%}  "
            f"{row['peer']:<34}{row['peer_ms']:>9.1f}{row['peer_spread']:>13.0%}{row['ratio']:>8.3f}"
        )
    if path := config.getoption("--json"):
        path.write_text(json.dumps(rows, indent=2) + "\n")
