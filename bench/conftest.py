"""`pytest bench/` checks results against the reference; with `--benchmark` it also times them, beside other
libraries."""

import importlib.util
import json
import os
from pathlib import Path

import growth
import interleave
import machine
import processes
import pytest
import table


def pytest_addoption(parser):
    add = parser.addoption
    add("--benchmark", action="store_true", help="also time, beside the peers that are installed")
    add(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what is timed; cuda's rows name a precision"
    )
    add("--rounds", type=int, default=9, help="rounds of each timing; medians are printed")
    add("--json", type=Path, help="write machine and timings to this file")
    add("--picture", type=Path, help="draw how cost grows into this PNG (needs matplotlib)")
    add("--compare", type=Path, help="say what changed since the timings of an older --json file")


ROWS, MACHINE, OLD = pytest.StashKey[list](), pytest.StashKey[dict](), pytest.StashKey[dict]()
PROGRAMS, CURVES = pytest.StashKey[list](), pytest.StashKey[dict]()
THREADS = sorted({1, min(2, os.cpu_count() or 1)}, reverse=True)
ABSENT = set()


def pytest_configure(config):
    config.stash[ROWS], config.stash[MACHINE] = [], machine.describe()
    config.stash[PROGRAMS], config.stash[CURVES] = [], {}
    if path := config.getoption("--compare"):
        try:
            config.stash[OLD] = json.loads(path.read_text(encoding="utf-8"))
            table.comparison(config.stash[OLD], [])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise pytest.UsageError(f"--compare {path}: holds no timings of --json ({error})") from None


def pytest_generate_tests(metafunc):
    if "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", THREADS)


@pytest.fixture
def time_beside(request):
    """Time an operation beside peers that are installed, or alone; a test that times nothing is skipped."""
    _skip_unless(request.config, "cpu")

    def run(operation, threads, *peers):
        rounds = request.config.getoption("--rounds")
        row = interleave.time_beside(operation, threads, _installed(peers), rounds)
        assert row["ms"] > 0
        request.config.stash[ROWS].append(row)
        return row

    return run


@pytest.fixture
def time_process(request):
    """Time a program as a process of its own (processes.run)."""
    _skip_unless(request.config, "cpu")
    return _process_timer(request)


@pytest.fixture
def time_process_on_gpu(request):
    """Times a program that is told to compute on a GPU."""
    _skip_unless(request.config, "cuda")
    return _process_timer(request)


def _process_timer(request):
    def run(*arguments, **options):
        row = processes.run(*arguments, **options)
        request.config.stash[PROGRAMS].append(row)
        return row

    return run


@pytest.fixture
def curve(request):
    """Keeps a point of a curve of growth for the picture."""

    def add(name, value, row, power=1):
        request.config.stash[CURVES].setdefault(name, []).append(row | {"value": value, "power": power})

    return add


@pytest.fixture
def time_on_gpu(request):
    """Times an operation on a GPU; `ours` is a worker in place of rotinv's usual one."""
    _skip_unless(request.config, "cuda")

    def run(operation, precision, *peers, ours="ours_cuda.py"):
        rounds, ours, peers = request.config.getoption("--rounds"), interleave.HERE / ours, _installed(peers)
        row = interleave.time_beside(operation, precision, peers, rounds, ours=ours, device="cuda")
        assert row["ms"] > 0
        request.config.stash[ROWS].append(row)

    return run


def _installed(peers):
    """Those whose package is installed; what is absent is named at the end."""
    absent = {peer.package for peer in peers if importlib.util.find_spec(peer.package) is None}
    ABSENT.update(absent)
    return [peer for peer in peers if peer.package not in absent]


def _skip_unless(config, device):
    if not config.getoption("--benchmark") or config.getoption("--device") != device:
        pytest.skip(f"timed with --benchmark --device {device} only")


def pytest_terminal_summary(terminalreporter, config):
    rows, programs = config.stash[ROWS], config.stash[PROGRAMS]
    if not rows and not programs:
        return
    say, about = terminalreporter.write_line, config.stash[MACHINE]
    terminalreporter.section("timings (medians)")
    say(", ".join(f"{name} {value}" for name, value in about.items() if name != "packages"))
    say(", ".join(f"{name} {version}" for name, version in about["packages"].items()))
    for text in table.lines(rows) + table.warnings(about, rows):
        say(text)
    for text in table.program_lines(programs):
        say(text)
    for package in sorted(ABSENT):
        say(f"left out: the peer {package} is not installed (the extra `bench`)")
    if OLD in config.stash:
        for text in table.comparison(config.stash[OLD], rows):
            say(text)
    if path := config.getoption("--json"):
        table.write(path, about, rows, programs)
    if (path := config.getoption("--picture")) and config.stash[CURVES]:
        growth.picture(path, config.stash[CURVES])
