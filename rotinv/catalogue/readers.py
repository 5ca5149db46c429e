"""Alerts that several processes read ahead, in order: one process feeds the kernels of some four cores.

The processes get the list of files once, and then ranges of alerts; what they read has the same bits as if it
were read here.
"""

import collections
import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from rotinv.alerts.avro import AvroFile
from rotinv.alerts.files import BLOCK, Alerts, RawBlock, raw_blocks
from rotinv.system.errors import UserError
from rotinv.system.workers import begin_worker, threads_each

_CORES_EACH = 4
_WORTH = 20_000  # alerts: of fewer a process saves less than the two seconds in which it starts
_AHEAD = 2  # blocks for each process
_Found = tuple[list[RawBlock], dict[int, list[str]]]  # and what could not be read, by the file's number


def default_readers(count: int) -> int:
    """How many processes should read so many alerts on this machine; 0: none, a thread is enough."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return cores // _CORES_EACH if count >= _WORTH else 0


def read_ahead(
    files: Alerts, start: int, stop: int, size: int, readers: int
) -> Generator[RawBlock, None, None]:
    """The blocks of raw_blocks, read by so many processes. Files of other kinds than Avro are read here.

    Raises UserError if a process dies.
    """
    if not readers or stop - start <= BLOCK or not all(isinstance(file, AvroFile) for file in files.files):
        yield from raw_blocks(files, start, stop, size)
        return
    ranges = ((first, min(first + BLOCK, stop)) for first in range(start, stop, BLOCK))
    with _pool(files, readers) as pool:
        queue: collections.deque[Future[_Found]] = collections.deque()

        def ask(count: int) -> None:
            for low, high in itertools.islice(ranges, count):
                queue.append(pool.submit(_read, low, high, size))

        ask(_AHEAD * readers)
        while queue:
            yield from _answer(queue.popleft(), files)
            ask(1)


def _answer(future: "Future[_Found]", files: Alerts) -> Iterator[RawBlock]:
    try:
        blocks, problems = future.result()
    except BrokenProcessPool as error:
        raise UserError(
            f"{files.paths[0]}: a process that read alerts has died (killed, or out of memory?); take fewer "
            "--readers, or 0"
        ) from error
    for number, texts in problems.items():
        files.files[number].problems += texts
    yield from blocks


@contextlib.contextmanager
def _pool(files: Alerts, readers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with threads_each(1):
        pool = ProcessPoolExecutor(readers, context, initializer=_begin, initargs=(files,))
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_files: Alerts  # of a process that reads


def _begin(files: Alerts) -> None:
    """What a process does first."""
    global _files
    begin_worker()
    _files = files


def _read(start: int, stop: int, size: int) -> _Found:
    """A range of alerts, and what of it cannot be read."""
    numbers = _files.numbers(start, stop)
    for number in numbers:
        _files.files[number].problems.clear()
    blocks = list(raw_blocks(_files, start, stop, size))
    return blocks, {n: list(found) for n in numbers if (found := _files.files[n].problems)}
