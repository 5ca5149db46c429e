"""Processes that do tasks one after another and report how far each task is; a pipeline runs its steps on
them.

They compute with a given number of threads, leave Ctrl-C to their parent, and end when the parent ends.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from tqdm import tqdm

from rotinv.system import messages
from rotinv.system.errors import UserError

Progress = Callable[[float], None]  # is called with the share that is done, from 0 to 1
Task = Callable[[Progress], None]  # it must be picklable

_PATIENCE = 10.0  # seconds that a process may take to end


@dataclass
class Worker:
    """A process, and the name of its current task, if any."""

    process: BaseProcess
    connection: Connection
    busy: str | None = None


class Crew(Protocol):
    """Those who do a pipeline's tasks: processes of this machine (`employ`) or workers of a cluster
    (dask_crew.py)."""

    @property
    def free(self) -> int:
        """How many have nothing to do."""

    @property
    def busy(self) -> list[str]:
        """The names of the tasks under way."""

    def start(self, name: str, task: Task) -> None:
        """Give a task to a free one."""

    def wait(self, seconds: float) -> Iterator[tuple[str, float | None]]:
        """Wait for up to `seconds`, and yield the names of tasks with their progress.

        The progress of a task that has ended is None. Raises UserError if the task did, or if its process
        died.
        """


class _Processes:
    """Processes of this machine, as a Crew."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers

    @property
    def free(self) -> int:
        return sum(worker.busy is None for worker in self._workers)

    @property
    def busy(self) -> list[str]:
        return [worker.busy for worker in self._workers if worker.busy is not None]

    def start(self, name: str, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.busy is None)
        worker.connection.send(task)
        worker.busy = name

    def wait(self, seconds: float) -> Iterator[tuple[str, float | None]]:
        listening = {worker.connection: worker for worker in self._workers if worker.busy}
        for connection in multiprocessing.connection.wait(list(listening), seconds):
            worker = listening[connection]  # type: ignore[index]
            name = worker.busy
            assert name is not None
            try:
                kind, value = worker.connection.recv()
            except EOFError:
                worker.process.join()
                raise UserError(
                    f"{name}: its process ended with status {worker.process.exitcode} (killed, or out of "
                    "memory?); the same command goes on where it was"
                ) from None
            check(name, kind, value)
            if kind == "ended":
                worker.busy = None
            yield name, value


@contextlib.contextmanager
def employ(count: int, threads: int, begin: Callable[[], None]) -> Iterator[Crew]:
    """Start `count` processes that compute with `threads` threads each; each first calls `begin` (picklable).

    When the block ends, processes that are still at work are killed.
    """
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        with threads_each(threads):
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, begin, messages.given()), daemon=True)
                process.start()
                theirs.close()
                workers.append(Worker(process, ours))
        yield _Processes(workers)
    finally:
        for worker in workers:
            worker.connection.close()
            if worker.busy is not None:
                worker.process.kill()
        for worker in workers:  # an idle one ends by itself, as its connection is closed
            worker.process.join(_PATIENCE)
            worker.process.kill()
            worker.process.join()


def _work(connection: Connection, begin: Callable[[], None], given: Iterable[str]) -> None:
    """What a worker does, from start to end; `given` are the warnings that the parent has given already."""
    begin_worker()
    messages.take_as_given(given)
    begin()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(outcome(task, lambda share: connection.send(("progress", share))))


def outcome(task: Task, tell: Progress) -> tuple[str, str | None]:
    """Do a task and report how it ended: "ended", "refused" (a UserError) or "failed", with the message."""
    try:
        task(tell)
    except UserError as error:
        return "refused", str(error)
    except MemoryError as error:
        return "refused", f"not enough memory ({error})"
    except Exception:
        return "failed", traceback.format_exc()
    return "ended", None


def check(name: str, kind: str, value: object) -> None:
    """Raise the error that `outcome` reported: UserError if refused, RuntimeError with the traceback if
    failed."""
    if kind == "refused":
        raise UserError(f"{name}: {value}")
    if kind == "failed":
        raise RuntimeError(f"{name} failed:\n{value}")


THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def threads_each(count: int) -> Iterator[None]:
    """Have processes that are started inside the block compute with `count` threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def begin_worker() -> None:
    """To be called first in a process: ignore Ctrl-C, which the parent handles, and end when the parent
    ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # tqdm's own has a semaphore, which a killed process would leak
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
