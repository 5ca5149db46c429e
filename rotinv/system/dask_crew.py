"""The steps of a pipeline as tasks of a Dask cluster; needs the extra `dask`.

`employ` gives a Crew as workers.employ does, but of the cluster's workers. They must see the pipeline's
folder under the same path as this process. If a worker dies, its step is given to another one, which goes on
from the step's files if the step can.
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
_one_at_a_time = threading.Lock()  # one step at a time on a worker, however many threads Dask gives it


class Crew:
    """The workers of a cluster, for a pipeline; see workers.Crew."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._busy: dict[str, Any] = {}  # futures
        self._told: queue.Queue[tuple[str, str, Any]] = queue.Queue()
        client.subscribe_topic(_TOPIC, lambda event: self._told.put(("progress", *event[1])))

    @property
    def free(self) -> int:
        """How many workers have nothing to do. It changes when the cluster grows or shrinks."""
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
        """The progress of tasks; see workers.Crew.wait."""
        try:
            kind, name, value = self._told.get(timeout=seconds)
        except queue.Empty:
            return
        if name not in self._busy:  # from a worker that Dask had already given up
            return
        if kind == "done":
            del self._busy[name]
            workers.check(name, *_outcome(value))
            yield name, None
        else:
            yield name, value


@contextlib.contextmanager
def employ(address: str, begin: Callable[[], None]) -> Iterator[Crew]:
    """Connect to the cluster at a scheduler's address, or start one of N processes here for local:N.

    `begin` is not called: the workers were started by others, and may be on other machines. Raises UserError
    if there is no cluster.
    """
    with dask_cluster.connected(address) as client:
        yield Crew(client)


def _do(name: str, task: Task) -> tuple[str, Any]:
    """On a worker: do a task and tell how it ended, as workers.outcome does."""
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
    except Exception:  # an error of Dask itself, since _do raises none
        return "failed", traceback.format_exc()
