"""What is scored: stores, arrays or files of alerts, as blocks of stamps that are ready for a network.

A thread reads and prepares a block while the kernels score the one before it.
"""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.files import Alerts, find_files
from rotinv.alerts.profiles import Profile
from rotinv.alerts.stamp import BIT
from rotinv.catalogue.readers import default_readers, read_ahead
from rotinv.runs.model import Model, open_stamps_for
from rotinv.stamps.alert_columns import ALERT_COLUMNS
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import BLOCK, Split, usable
from rotinv.stamps.store import CHANNELS
from rotinv.system.errors import UserError

_AHEAD = 2  # blocks
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Block:
    """Stamps (n, h, h, c) as the network reads them, and what is known of each.

    `scorable` (n,) tells which have no NaN or infinite pixels; `flags` are the bits of
    rotinv/alerts/stamp.py.
    """

    index: NDArray[np.int64]
    stamps: NDArray[np.float32]
    scorable: NDArray[np.bool_]
    flags: NDArray[np.uint32]
    known: dict[str, NDArray] = field(default_factory=dict)  # ids, label, snr: by the names in Source.known


class Source(Protocol):
    """What is scored: where the stamps come from."""

    paths: tuple[Path, ...]
    known: tuple[str, ...]  # what is known of each stamp: label, snr, and of alerts ALERT_COLUMNS
    normalisation: str  # of the stamps as they are kept: see rotinv/stamps/pixels.py

    def __len__(self) -> int: ...

    @property
    def problems(self) -> list[str]:
        """What could not be read, so far."""

    def check(self, on_bad: str) -> None:
        """Raise UserError if `on_bad` is 'error' and a pixel is not finite, or if no stamp can be scored."""

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The stamps from `start` up to `stop`, a block at a time."""


def open_source(
    model: Model,
    paths: Sequence[str | Path],
    split: str | None = None,
    profiles: Sequence[Profile] = (),
    readers: int | None = 0,
) -> Source:
    """The stamps of one store or array, or of files of alerts, for a network.

    `profiles` describe surveys that rotinv does not know. `readers` are processes that read alerts ahead;
    None: as many as suit the machine and the alerts.

    Raises UserError if they cannot be read, if they are not like those the network was trained on, and for a
    store among other files.
    """
    files = [Path(path) for path in paths]
    stores = [path for path in files if is_store(path)]
    if stores and len(files) > 1:
        raise UserError(
            f"{stores[0]}: is one of {len(files)} files; score a stamp store or an array by itself"
        )
    if stores:
        return StampSource(model, open_stamps_for(model, files[0], split))
    if split is not None:
        raise UserError(f"{files[0]}: alerts have no splits; leave --split {split} out")
    return AlertSource(model, Alerts(find_files(files), profiles), readers)


def is_store(path: str | Path) -> bool:
    """Whether a path is named as a stamp store or an array is, or holds a store: else it is of alerts."""
    path = Path(path)
    named = path.suffix.lower() in (".h5", ".hdf5", ".npy", ".npz")
    return named or (path.is_file() and h5py.is_hdf5(path))


class StampSource:
    """The stamps of a split of a store, or of an array."""

    def __init__(self, model: Model, split: Split) -> None:
        self._split, self._size = split, model.config.size
        self.paths: tuple[Path, ...] = (split.path,)
        self.normalisation = split.normalisation
        columns = [name for name in ("label", "snr") if getattr(split, name) is not None]
        self.known = (*(name for name in ALERT_COLUMNS if name in split.alerts), *columns)
        self.problems: list[str] = []

    def __len__(self) -> int:
        return len(self._split)

    def check(self, on_bad: str) -> None:
        """Raise UserError if `on_bad` is 'error' and a pixel is not finite, or if no stamp can be scored."""
        if on_bad != "flag":
            usable(self._split, on_bad)

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The stamps from `start` up to `stop`, a block at a time."""
        split = self._split
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            known = {
                name: np.asarray(
                    (split.alerts[name] if name in ALERT_COLUMNS else getattr(split, name))[low:high]
                )
                for name in self.known
            }
            flags = np.zeros(high - low, np.uint32) if split.flags is None else split.flags[low:high]
            raw = split.raw(low, high)
            yield block_of(np.arange(low, high), raw, split.normalisation, self._size, flags, known)


class AlertSource:
    """The stamps of files of alerts, cut to the network's size, with the channels that it reads."""

    known: tuple[str, ...] = (*ALERT_COLUMNS, "snr")
    normalisation = "none"

    def __init__(self, model: Model, files: Alerts, readers: int | None = 0) -> None:
        self._files, self._size = files, model.config.size
        self._readers = default_readers(len(files)) if readers is None else readers
        self.paths = files.paths
        self._taken = channels_of_alerts(files.paths[0], model)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def problems(self) -> list[str]:
        """What could not be read, so far."""
        return self._files.problems

    def check(self, on_bad: str) -> None:
        """Raise UserError if `on_bad` is 'error': which alerts lack pixels is known only while they are
        scored."""
        if on_bad == "error":
            raise UserError(
                f"{self.paths[0]}: alerts that lack pixels are common; take --on-bad flag or drop"
            )

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The stamps from `start` up to `stop`, a block at a time."""
        found = read_ahead(self._files, start, stop, self._size, self._readers)
        with contextlib.closing(found) as blocks:
            for first, raw, flags, known in blocks:
                index = np.arange(first, first + len(raw))
                yield block_of(index, raw[..., self._taken], self.normalisation, self._size, flags, known)


def channels_of_alerts(where: object, model: Model) -> list[int]:
    """The places, among the channels of alerts, of those that a network reads. Raises UserError if one is
    none of them."""
    config = model.config
    if missing := [name for name in config.channels if name not in CHANNELS]:
        raise UserError(
            f"{where}: alerts have the channels {', '.join(CHANNELS)}, and not {missing[0]}; "
            f"{model.name} was trained on {', '.join(config.channels)}"
        )
    return [CHANNELS.index(name) for name in config.channels]


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each made in a thread while the one before is used. Errors in the thread are raised here."""
    waiting: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(going: bool, item: T | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put((going, item), timeout=0.05)
                return

    def run() -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                put(True, item)
            put(False, None)
        except BaseException as error:  # the thread must not die in silence
            put(False, error)

    thread = threading.Thread(target=run, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            going, item = waiting.get()
            if isinstance(item, BaseException):
                raise item
            if not going:
                return
            yield item  # type: ignore[misc]  # what is going on is an item
    finally:
        stop.set()
        thread.join()


def block_of(
    index: NDArray[np.int64],
    raw: NDArray[np.float32],
    normalisation: str,
    size: int,
    flags: NDArray[np.uint32],
    known: dict[str, NDArray],
) -> Block:
    """Prepare raw stamps. Channels without values and constant channels are flagged."""
    stamps, constant = prepare(raw, normalisation, size)
    flat = stamps.reshape(len(stamps), stamps.shape[1] * stamps.shape[2], stamps.shape[3])
    scorable: NDArray[np.bool_] = np.asarray(np.isfinite(flat).all(axis=(1, 2)))
    flags = flags | np.where(scorable, 0, BIT["not_scored"]).astype(np.uint32)
    if constant:
        zeros = (flat == 0).all(axis=1).any(axis=1)
        flags |= np.where(zeros, BIT["constant"], 0).astype(np.uint32)
    return Block(index, stamps, scorable, flags, known)
