"""Timing two programs in turns: each in a process of its own, one working while the other waits.

A worker is `python WORKER.py OPERATION THREADS [MORE]`. It warms up, prints a line with its name and what its
work is worth in floating-point operations; then, for every line that it reads, it works for half a second and
prints the median milliseconds of an operation and the most memory that the process has held, in MB.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROUND = 0.5  # seconds of work between two answers
OURS = HERE / "ours.py"


class Peer(NamedTuple):
    """A worker in peers/, the package that it needs, and what else it is told.

    A peer that computes in another precision is timed and shown, but `counts` is False: the ratio is to the
    fastest of those that do what we do.
    """

    package: str
    worker: str
    more: tuple[str, ...] = ()
    counts: bool = True


def time_beside(
    operation: str,
    how: int | str,
    peers: Sequence[Peer],
    rounds: int,
    *,
    ours: Path = OURS,
    device: str = "cpu",
) -> dict:
    """A row of the table: medians of ms over the rounds, spread (max - min) / median, ratio ours / peer's.

    `how` is the worker's second argument: the number of threads, or the precision on a GPU.
    """
    commands = [(ours,), *((HERE / "peers" / peer.worker, *peer.more) for peer in peers)]
    workers = [_start(path, operation, how, *more) for path, *more in commands]
    try:
        names, flops = zip(*(_answer(worker).rsplit(" ", 1) for worker in workers), strict=True)
        answers = [[_round(worker) for worker in workers] for _ in range(rounds)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    times = [[ms for ms, _ in found] for found in zip(*answers, strict=True)]
    ms = [statistics.median(found) for found in times]
    spreads = [(max(found) - min(found)) / statistics.median(found) for found in times]
    row = {
        "operation": operation,
        "device": device,
        "threads": how,
        "ms": ms[0],
        "spread": spreads[0],
        "gflops": float(flops[0]) / ms[0] / 1e6,
        "memory_mb": answers[-1][0][1],
        "load": os.getloadavg()[0],
    }
    if peers:
        row["peers"] = [
            {"peer": name, "ms": own, "spread": spread, "ratio": ms[0] / own, "counts": peer.counts}
            for name, own, spread, peer in zip(names[1:], ms[1:], spreads[1:], peers, strict=True)
        ]
    return row


def serve(name: str, operation: Callable[[], object], flops: float = 0, repeats: int = 1) -> None:
    """The worker's side. `operation` repeats `repeats` times what is timed, each worth `flops` operations."""
    for _ in range(3):
        operation()
    print(name, flops, flush=True)
    for _ in sys.stdin:
        times: list[float] = []
        while sum(times) < ROUND:
            started = time.perf_counter()
            operation()
            times.append(time.perf_counter() - started)
        print(1e3 * statistics.median(times) / repeats, peak_memory(), flush=True)


def peak_memory() -> float:
    """The most memory that this process has held, in MB.

    Where /proc tells it, from there: getrusage also counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


def _start(path: Path, operation: str, how: int | str, *more: str) -> subprocess.Popen:
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment["OMP_NUM_THREADS"] = str(how) if isinstance(how, int) else "1"
    pipe = subprocess.PIPE
    arguments = [sys.executable, str(path), operation, str(how), *more]
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment)


def _round(worker: subprocess.Popen) -> tuple[float, float]:
    """Let a worker work for one round: milliseconds of an operation, and MB held at most."""
    worker.stdin.write("go\n")
    worker.stdin.flush()
    ms, memory = _answer(worker).split()
    return float(ms), float(memory)


def _answer(worker: subprocess.Popen) -> str:
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"{worker.args[1]} ended with status {worker.wait()}; its words are above")
    return line.strip()
