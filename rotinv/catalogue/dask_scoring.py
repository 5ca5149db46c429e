"""Scoring on a Dask cluster, shard by shard: a worker writes each shard to a file, and the files are joined
in order.

A shard whose worker dies is given to another worker. A file is named by the stamps in it, so that each shard
is in the result once, however often it was made. Shards that an interrupted run left behind are used again.
"""

import contextlib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.profiles import Profile
from rotinv.catalogue.scorer import Scorer
from rotinv.catalogue.shards import SHARD_FILES, Rows, is_whole_shard, read_shard
from rotinv.catalogue.sources import Source
from rotinv.lrp import map_files
from rotinv.runs.model import weights_digest
from rotinv.system import dask_cluster
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import check_ours, disk_errors, remove_ours
from rotinv.system.version import __version__

_EXPLAINED = 500  # stamps explained by one task


@dataclass(frozen=True)
class Plan:
    """How to score: the cluster's address or local:N, the stamps of a shard, and what each worker computes
    on."""

    address: str
    shard: int
    device: str
    threads: int | None
    precision: str | None
    split: str | None
    profiles: tuple[Profile, ...] = ()  # the user's own descriptions of surveys


class Cluster:
    """The scoring of a source on a cluster; a context manager. The workers must see the same files."""

    def __init__(self, plan: Plan, scorer: Scorer, source: Source, out: Path) -> None:
        """Raises UserError if the extra is not installed, if the address is unusable, or if the shards'
        folder, OUT.shards, has other files in it."""
        self._dask = require_extra("distributed", "dask", f"--dask {plan.address}")
        self._worker = importlib.import_module("rotinv.catalogue.dask_worker")  # which imports that library
        dask_cluster.processes(plan.address)
        self._plan, self._scorer, self._source = plan, scorer, source
        self._folder = out.resolve().with_name(f"{out.name}.shards")
        check_ours(self._folder, SHARD_FILES)
        self._about = _about(plan, scorer, source)
        self._stack = contextlib.ExitStack()
        self._problems: list[str] = []

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as stack:
            self._client = stack.enter_context(dask_cluster.connected(self._plan.address, self._plugin()))
            with disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()
        if raised[0] is None:
            remove_ours(self._folder, SHARD_FILES)

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read, so far."""
        return [*self._source.problems, *self._problems]

    def rows(self) -> Iterator[Rows]:
        """The catalogue's rows in order, a shard at a time."""

        starts = range(0, len(self._source), self._plan.shard)
        shards = [(start, min(start + self._plan.shard, len(self._source))) for start in starts]
        paths = [self._folder / f"{start:012}-{stop:012}.h5" for start, stop in shards]
        tasks = [
            (start, stop, str(path), self._about)
            for (start, stop), path in zip(shards, paths, strict=True)
            if not is_whole_shard(path, self._about)
        ]
        done = {str(path) for path in paths} - {task[2] for task in tasks}
        finished = self._run(self._worker.score_shard, tasks)
        for (start, stop), path in zip(shards, paths, strict=True):
            while str(path) not in done:
                done.add(next(finished))
            rows, problems = read_shard(path)
            if not np.array_equal(rows["index"], np.arange(start, stop)):
                raise UserError(f"{path}: is not the shard of its name; remove the folder and score again")
            self._problems += problems
            yield rows

    def explain(
        self, indices: NDArray[np.int64], writer: map_files.Writer, progress: Callable[[int], object]
    ) -> None:
        """Write the explanations of the stamps with these numbers; `progress` is called with each block's
        count."""

        blocks = [indices[start : start + _EXPLAINED] for start in range(0, len(indices), _EXPLAINED)]
        paths = [str(self._folder / f"maps-{number:08}.h5") for number in range(len(blocks))]
        finished, done = self._run(self._worker.explain_shard, list(zip(blocks, paths, strict=True))), set()
        for block, path in zip(blocks, paths, strict=True):
            while path not in done:
                done.add(next(finished))
            writer.append(*map_files.read(Path(path)))
            progress(len(block))

    def _plugin(self) -> Any:
        """The networks, as a plugin for the workers."""

        plan = self._plan
        return self._worker.Plugin(
            plan.device,
            plan.threads or dask_cluster.threads_each(plan.address),
            plan.precision,
            self._scorer.models,
            self._scorer.threshold,
            self._scorer.calibrator,
            self._source.paths,
            plan.split,
            plan.profiles,
        )

    def _run(self, function: Callable[..., str], tasks: Sequence[tuple]) -> Iterator[str]:
        """Have workers run the tasks; yields what each returns when it ends. Raises the error of a task that
        fails."""
        futures = [self._client.submit(function, *task, pure=False) for task in tasks]
        for future in self._dask.as_completed(futures, loop=self._client.loop):
            try:
                yield future.result()
            except self._dask.KilledWorker as error:
                raise UserError(
                    f"--dask {self._plan.address}: the same shard's worker died again and again: it may lack "
                    "memory; try fewer stamps a --shard"
                ) from error


def _about(plan: Plan, scorer: Scorer, source: Source) -> str:
    """A text that distinguishes the shards of this run from those of other runs."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in source.paths]
    models = [weights_digest(model) for model in scorer.models]
    computing = (plan.device, plan.precision)
    what = (
        files,
        models,
        scorer.names,
        asdict(scorer.threshold),
        [asdict(profile) for profile in plan.profiles],
        scorer.calibrator and scorer.calibrator.as_json(),
        plan.split,
        *computing,
        __version__,
    )
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
