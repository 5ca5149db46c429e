"""Several trainings side by side, each in a thread of its own, or one after another."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Stopped = Callable[[], bool]


def run_all(jobs: Sequence[Callable[[Stopped], T]], at_once: bool, stopped: Stopped) -> list[T]:
    """What each job gives; a job is told by its argument, from time to time, whether to stop.

    If one raises, the others are asked to stop, and the first that was raised is raised.
    """
    failed = threading.Event()
    errors: list[BaseException] = []

    def run(job: Callable[[Stopped], T]) -> T | None:
        if failed.is_set():
            return None
        try:
            return job(lambda: failed.is_set() or stopped())
        except BaseException as error:
            errors.append(error)
            failed.set()
            return None

    with ThreadPoolExecutor(len(jobs) if at_once else 1) as pool:
        found = list(pool.map(run, jobs))
    if errors:
        raise errors[0]
    return [result for result in found if result is not None]
