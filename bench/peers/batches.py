"""How a user scores many stamps with a runtime: at once or in smaller batches, whichever is the fastest."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray[np.float32]], object]

SIZES = (50, 100, 250, 1000)


def stamps(operation: str) -> NDArray[np.float32]:
    """The stamps (N, 4, 21, 21) of "ARCH scoring [N]"; N is 50 where it is left out."""
    _, _, *count = operation.split()
    shape = (int(count[0]) if count else 50, 4, 21, 21)
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def fastest(ways: dict[str, Score], x: NDArray[np.float32]) -> tuple[str, Callable[[], object]]:
    """(name, operation) of the fastest of several ways to score all stamps, each in several batches."""
    found = []
    for name, score in ways.items():
        for size in sorted({len(x), *(size for size in SIZES if size < len(x))}):
            batches = [x[i : i + size] for i in range(0, len(x), size)]
            run = _all(score, batches)
            found.append((min(_seconds(run) for _ in range(4)), f"{name}, batches of {size}", run))
    _, name, run = min(found, key=lambda entry: entry[0])
    return name, run


def _all(score: Score, batches: list[NDArray[np.float32]]) -> Callable[[], object]:
    return lambda: [score(batch) for batch in batches]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
