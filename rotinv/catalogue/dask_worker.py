"""What runs on the workers of a Dask cluster; needs the extra `dask`.

A plugin loads the networks once on each worker. However many threads Dask gives a worker, it scores one shard
at a time, with the kernels' own threads.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distributed import WorkerPlugin, get_worker
from numpy.typing import NDArray

from rotinv.alerts.profiles import Profile
from rotinv.catalogue import scorer, shards, sources
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.catalogue.sources import Source
from rotinv.lrp import map_files
from rotinv.metrics.calibrators import Calibrator
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model
from rotinv.system import dask_cluster


class Plugin(WorkerPlugin):
    """The networks of a run on a worker's device, and the stamps to score."""

    name = "rotinv"

    def __init__(
        self,
        device: str,
        threads: int | None,
        precision: str | None,
        models: Sequence[Model],
        threshold: Threshold,
        calibrator: Calibrator | None,
        paths: Sequence[Path],
        split: str | None,
        profiles: Sequence[Profile] = (),
    ) -> None:
        self._computing = device, threads, precision
        self._models, self._threshold, self._calibrator = tuple(models), threshold, calibrator
        self._paths, self._split, self._profiles = [path.resolve() for path in paths], split, tuple(profiles)

    def setup(self, worker: Any) -> None:
        """Dask calls this once, when the worker starts."""
        device, threads, precision = self._computing
        self._computing = device, threads or dask_cluster.own_threads(worker), precision
        self._lock = threading.Lock()
        self._scorer = Scorer(get_kernels(*self._computing), self._models, self._threshold, self._calibrator)
        self._source: Source | None = None

    @contextlib.contextmanager
    def work(self) -> Iterator[scorer.Here]:
        """The scoring of the stamps; one thread at a time may use it."""
        with self._lock:
            get_kernels(*self._computing)  # which sets the number of threads for the calling thread
            if self._source is None:
                self._source = sources.open_source(self._models[0], self._paths, self._split, self._profiles)
            yield scorer.Here(self._scorer, self._source)


def score_shard(start: int, stop: int, path: str, about: str) -> str:
    """Score the stamps from `start` up to `stop` into a file; returns its path."""
    with _plugin().work() as work:
        known = set(work.problems)
        parts = list(work.rows(start, stop))
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        shards.write_shard(Path(path), rows, about, [text for text in work.problems if text not in known])
    return path


def explain_shard(indices: NDArray[np.int64], path: str) -> str:
    """Explain the stamps with these numbers into a file; returns its path."""
    with (
        _plugin().work() as work,
        map_files.create(Path(path), scorer.QUESTION, {}, overwrite=True) as writer,
    ):
        work.explain(indices, writer, lambda count: None)
    return path


def _plugin() -> Plugin:
    plugin = get_worker().plugins[Plugin.name]
    assert isinstance(plugin, Plugin)
    return plugin
