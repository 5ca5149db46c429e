"""Timing two programs in turns: each in a process of its own, one working while the other waits.

A worker is `python WORKER.py OPERATION THREADS`: it warms up, prints a line with its name, and then, for
every line that it reads, works for about half a second and prints the median milliseconds of an operation.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUND = 0.5  # seconds of work between two answers


def compare(operation: str, threads: int, ours: Path, peer: Path, rounds: int) -> dict:
    """A row of the table: medians over the rounds, ratio ours / peer's, spread (max - min) / median."""
    workers = [_start(path, operation, threads) for path in (ours, peer)]
    try:
        names = [_answer(worker) for worker in workers]
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            for worker, found in zip(workers, times, strict=True):
                worker.stdin.write("go\n")
                worker.stdin.flush()
                found.append(float(_answer(worker)))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    ms, peer_ms = (statistics.median(found) for found in times)
    spreads = [(max(found) - min(found)) / statistics.median(found) for found in times]
    return {
        "operation": operation,
        "threads": threads,
        "ours": names[0],
        "ms": ms,
        "spread": spreads[0],
        "peer": names[1],
        "peer_ms": peer_ms,
        "peer_spread": spreads[1],
        "ratio": ms / peer_ms,
        "load": os.getloadavg()[0],
    }


def serve(name: str, operation: Callable[[], object]) -> None:
    """The worker's side."""
    for _ in range(3):
        operation()
    print(name, flush=True)
    for _ in sys.stdin:
        times: list[float] = []
        while sum(times) < ROUND:
            started = time.perf_counter()
            operation()
            times.append(time.perf_counter() - started)
        print(1e3 * statistics.median(times), flush=True)


def _start(path: Path, operation: str, threads: int) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    environment["OMP_NUM_THREADS"] = str(threads)
    pipe = subprocess.PIPE
    arguments = [sys.executable, str(path), operation, str(threads)]
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment)


def _answer(worker: subprocess.Popen) -> str:
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"{worker.args[1]} ended with status {worker.wait()}; its words are above")
    return line.strip()
