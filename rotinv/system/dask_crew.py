"""A crew (workers.py) on a Dask cluster: each of a pipeline's steps is a task there; needs the extra `dask`.

The workers must see the pipeline's folder under the path that it has here. A step whose worker dies is given
to another worker, where one that goes on where it was cut off does so.
"""

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from rotinv.system import dask_cluster, workers
from rotinv.system.workers import Task

_TOPIC = "rotinv"
_one_at_a_time = threading.Lock()  # of the steps on a worker, however many threads Dask gives it


class Crew:
    """As workers.Crew."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._busy: dict[str, Any] = {}  # futures
        self._told: queue.Queue[tuple[str, str, Any]] = queue.Queue()
        client.subscribe_topic(_TOPIC, lambda event: self._told.put(("progress", *event[1])))

    @property
    def free(self) -> int:
        """How many workers have nothing to do; the cluster may grow and shrink."""
        return max(0, len(self._client.nthreads()) - len(self._busy))

    @property
    def busy(self) -> list[str]:
        """The names of the tasks under way."""
        return list(self._busy)

    def start(self, name: str, task: Task) -> None:
        """Give a task to a free worker."""
        future = self._client.submit(_do, name, task, pure=False)
        self._busy[name] = future
        future.add_done_callback(lambda done: self._told.put(("done", name, done)))

    def wait(self, seconds: float) -> Iterator[tuple[str, float | None]]:
        """As workers.Crew.wait."""
        try:
            kind, name, value = self._told.get(timeout=seconds)
        except queue.Empty:
            return
        if name not in self._busy:  # what a worker that was given up still told
            return
        if kind == "done":
            del self._busy[name]
            workers.check(name, *_outcome(value))
            yield name, None
        else:
            yield name, value


@contextlib.contextmanager
def employ(address: str, begin: Callable[[], None]) -> Iterator[Crew]:
    """The workers of a cluster: a scheduler's address, or local:N. Raises UserError if there is none.

    `begin` is not called: its workers are others' processes, and may be on other machines.
    """
    with dask_cluster.connected(address) as client:
        yield Crew(client)


def _do(name: str, task: Task) -> tuple[str, Any]:
    """On a worker: a task, and how it ended."""
    from distributed import get_worker

    worker = get_worker()
    with _one_at_a_time:
        return workers.outcome(task, lambda share: worker.log_event(_TOPIC, (name, share)))


def _outcome(future: Any) -> tuple[str, Any]:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return "refused", "its worker died again and again (out of memory?)"
    except Exception:  # another of Dask's own: _do raises none
        return "failed", traceback.format_exc()
