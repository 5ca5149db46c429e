"""Shuffled training batches from a background thread, in bounded memory.

Epoch e reads the stamps block by block in an order drawn from (seed, e). Blocks are gathered into pools, and
each pool is shuffled by a draw from (seed, e, pool). The stream of all pools of all epochs is cut into
batches of exactly B stamps. So batch t depends only on (seed, t, stamps, B): a run can start at any step
without reading what came before, and the batches are the same whether the stamps are held in memory, streamed
from disk or held on a GPU.

Where the classes are balanced, an epoch has each stamp of the largest class once, and as many of every other
class, whose stamps are repeated. (seed, e) also decides which of them are repeated once more than others.
"""

import contextlib
import itertools
import math
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.nn.contract import Array, Kernels, Resident
from rotinv.runs.augmentation import augmented
from rotinv.stamps.classes import Classes
from rotinv.stamps.pixels import Stamps, prepare
from rotinv.stamps.splits import CHUNK, Split
from rotinv.system.errors import UserError

Batch = tuple[Array, NDArray[np.int32]]  # stamps (B, S, S, C) as the network reads them, labels (B,)
_Pool = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]  # pixels, the rows to take, their positions

HELD = 1 << 30  # bytes of prepared stamps that are kept in memory rather than streamed
_POOL_STAMPS = 20_000
_POOL_BYTES = 1 << 28
_READ = 16  # blocks read at a time: closing waits for one such read at most
_QUEUE = 8  # batches made ahead


class Batches:
    """An endless iterator over shuffled batches, from step `first` on; a context manager.

    `indices` are the stamps to use, all by default; their order does not matter. `crop` is the side of the
    centre to cut out. `hold` keeps all stamps in memory; by default this is done if they take less than HELD.
    `balanced` gives as many stamps of each class.

    `on` is the device to train on. If it has memory of its own, and the stamps fit into it, they are copied
    there once, and batches are taken on the device: with `as_rows` a batch is then the numbers of its rows,
    from which `take` makes the stamps. `augment` names the changes of runs/augmentation.py; they are made on
    the host, so stamps are then not kept on the device.

    An error while reading is raised in the consumer's thread.
    """

    def __init__(
        self,
        split: Split,
        indices: ArrayLike | None = None,
        *,
        batch: int = 50,
        seed: int = 0,
        first: int = 0,
        crop: int | None = None,
        normalisation: str | None = None,
        hold: bool | None = None,
        on: Kernels | None = None,
        balanced: bool = False,
        augment: Sequence[str] = (),
        as_rows: bool = False,
    ) -> None:
        if split.label is None:
            raise UserError(f"{split.path}: has no labels to train with")
        self._indices = np.unique(np.arange(len(split)) if indices is None else np.asarray(indices, np.int64))
        if not len(self._indices):
            raise UserError(f"{split.path}: split '{split.name}' has no stamps to train with")
        self._split = split
        self._label = split.label[self._indices].astype(np.int32)
        self._batch, self._seed, self._first, self._crop = batch, seed, first, crop
        self._augment = tuple(augment)
        self._fewer = _smaller_classes(split, self._label) if balanced else []
        self._normalisation = split.normalisation if normalisation is None else normalisation
        side = crop or split.shape[0]
        self._shape = (side, side, split.shape[2])
        whole = (len(self._indices), *self._shape)
        self._there = None if on is None or augment else on.resident(whole)
        self._as_rows = as_rows
        self._hold = 4 * math.prod(whole) <= HELD if hold is None else hold
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(_QUEUE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        stamps, label = item
        return (stamps if self._as_rows else self.take(stamps)), label

    def take(self, rows: Array) -> Array:
        """The stamps of a batch that was given as rows; stamps that are not on the device as they are."""
        return rows if self._there is None else self._there.take(rows)

    def close(self) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        with contextlib.suppress(queue.Empty):  # the thread may wait to hand one over
            while True:
                self._queue.get_nowait()
        self._thread.join()

    def _run(self) -> None:
        try:
            with contextlib.closing(self._cut()) as batches:
                for item in batches:
                    if not self._put(item):
                        return
        except BaseException as error:  # the thread must not die in silence
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        """Hand an item to the consumer; False if it has gone."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.05)
                return True
        return False

    def _cut(self) -> Generator[Batch, None, None]:
        """Cut the stream of pools into batches; a batch may cross pools and epochs."""
        filled, step = 0, self._first
        for pixels, rows, positions in self._pools():
            start = 0
            while start < len(positions):
                if filled == 0:
                    stamps = np.empty((self._batch, *pixels.shape[1:]), pixels.dtype)
                    label = np.empty(self._batch, np.int32)
                count = min(self._batch - filled, len(positions) - start)
                here, there = slice(start, start + count), slice(filled, filled + count)
                np.take(pixels, rows[here], axis=0, out=stamps[there], mode="clip")
                label[there] = self._label[positions[here]]
                start, filled = start + count, filled + count
                if filled == self._batch:
                    yield augmented(stamps, self._augment, self._seed, step), label
                    filled, step = 0, step + 1

    def _pools(self) -> Iterator[_Pool]:
        if self._there is not None:
            return self._resident(self._there)
        return self._held() if self._hold else self._streamed()

    def _resident(self, there: Resident) -> Iterator[_Pool]:
        """Pools of stamps that are all on the device, one row for each position in `indices`."""
        count = len(self._indices)
        for start in range(0, count, _READ * CHUNK):
            if self._stop.is_set():
                return
            there.put(start, self._load(np.arange(start, min(start + _READ * CHUNK, count))))
        for positions in self._positions():
            yield np.arange(count, dtype=np.int32), positions, positions

    def _held(self) -> Iterator[_Pool]:
        """Pools of stamps that are all in memory."""
        pixels = self._load(np.arange(len(self._indices)))
        for positions in self._positions():
            yield pixels, positions, positions

    def _streamed(self) -> Iterator[_Pool]:
        """Pools read from the disk: the next one is read while this one is cut."""
        plans = self._positions()
        with ThreadPoolExecutor(1) as reader:
            positions = next(plans)
            future = reader.submit(self._load_distinct, positions)
            for upcoming in plans:
                pixels, rows = future.result()
                future = reader.submit(self._load_distinct, upcoming)
                yield pixels, rows, positions
                positions = upcoming

    def _load_distinct(self, positions: NDArray[np.int64]) -> tuple[Stamps, NDArray[np.int64]]:
        """The prepared pixels of the stamps at `positions`, each read once, and for each position its row
        among them."""
        distinct, rows = np.unique(positions, return_inverse=True)
        return self._load(distinct), rows

    def _load(self, positions: NDArray[np.int64]) -> Stamps:
        """The prepared pixels of the stamps at `positions`, in that order; they are read in the order of the
        file."""
        pixels = np.empty((len(positions), *self._shape), np.float32)
        order = np.argsort(positions)
        for start in range(0, len(order), _READ * CHUNK):
            if self._stop.is_set():
                break
            part = order[start : start + _READ * CHUNK]
            raw = self._split.raw(self._indices[positions[part]])
            pixels[part] = prepare(raw, self._normalisation, self._crop)[0]
        return pixels

    def _positions(self) -> Iterator[NDArray[np.int64]]:
        """The positions in `indices` for one pool after another, from the first stamp of step `first` on."""
        stamp_bytes = 4 * int(np.prod(self._split.shape))
        per_pool = max(1, min(_POOL_STAMPS, _POOL_BYTES // stamp_bytes) // CHUNK)
        epoch, skip = divmod(self._first * self._batch, len(self._epoch(0)))
        for e in itertools.count(epoch):
            every = self._epoch(e)
            blocks = np.split(every, np.flatnonzero(np.diff(self._indices[every] // CHUNK)) + 1)
            order = self._rng(0, e, 0).permutation(len(blocks))
            for pool, start in enumerate(range(0, len(blocks), per_pool)):
                positions = np.concatenate([blocks[b] for b in order[start : start + per_pool]])
                if skip < len(positions):
                    yield self._rng(1, e, pool).permutation(positions)[skip:]
                skip = max(0, skip - len(positions))

    def _epoch(self, e: int) -> NDArray[np.int64]:
        """The sorted positions of epoch e: each once, but repeated where that balances the classes."""
        every = np.arange(len(self._indices))
        if not self._fewer:
            return every
        parts, most = [every], len(every) - sum(map(len, self._fewer))
        for number, few in enumerate(self._fewer):
            times, rest = divmod(most, len(few))
            some = self._rng(2, e, number).choice(few, rest, replace=False)
            parts += [np.tile(few, times - 1), some]
        return np.sort(np.concatenate(parts))

    def _rng(self, *key: Any) -> np.random.Generator:
        return np.random.default_rng([self._seed, *key])


def _smaller_classes(split: Split, label: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The positions of each class but the one with the most stamps. Raises UserError if one has none."""
    counts = split.classes.counts(label)
    check_counts(split.path, split.classes, counts)
    largest = len(counts) - 1 - int(np.argmax(counts[::-1]))
    return [np.flatnonzero(label == number) for number in range(len(counts)) if number != largest]


def check_counts(path: str | Path, classes: Classes, counts: Sequence[int]) -> None:
    """Raise UserError if a class has no stamps: a network would never learn to tell it from others."""
    if min(counts) == 0:
        absent = ", ".join(name for name, n in zip(classes.names, counts, strict=True) if not n)
        what = "one class only" if len(classes) == 2 else f"no stamps of {absent}"
        raise UserError(f"{path}: has {what} to train with; a network needs stamps of each class")
