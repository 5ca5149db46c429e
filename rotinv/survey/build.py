"""Making a survey: image after image, in several processes, into one stamp store.

The bits depend on the seed only. An image's randomness comes from (seed, split, image), and images are used
in their order, whichever process made them, until every split has exactly its number of stamps. Finished
blocks of stamps are kept in a folder beside the store (parts.py), so that an interrupted run goes on from
there.
"""

import collections
import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from rotinv.stamps import store
from rotinv.survey import detection, kinds, pair, parts, selection, sky
from rotinv.system import scratch
from rotinv.system.workers import begin_worker, threads_each

VERSION = 5  # of the survey's content: the same seed gives other data under another version
BANDS = tuple(sky.SKY)
SPLITS = ("train", "validate", "test")
PILOT = len(SPLITS)  # the fourth "split": images from which the yields are learned, then thrown away
PILOT_IMAGES = 16
BLOCK = 8192  # stamps that are shuffled and saved at a time
Results = Generator[pair.Stamps, None, None]
STRIDE = 10**9  # the image numbers of a split begin at its index times this


def make_survey(
    path: str | Path,
    counts: dict[str, int],
    seed: int,
    workers: int,
    band: str = "g",
    progress: Callable[[int], object] = lambda stamps: None,
    size: int = pair.SIZE,
    pilot_images: int = PILOT_IMAGES,
    overwrite: bool = False,
) -> dict[str, int]:
    """Simulate a survey into a new stamp store, half of its stamps candidates.

    A call that was cut off, by whatever means, goes on when it is made again, with the same bits.

    Parameters
    ----------
    path : str or Path
        The store to make.
    counts : dict of str to int
        How many stamps the splits train, validate and test are to have.
    seed : int
        The survey is a function of it.
    workers : int
        Processes that simulate.
    band : str
        The filter: "u" or "g".
    progress : callable, optional
        Told how many stamps were added.
    size : int
        The side of a simulated image, in pixels.
    pilot_images : int
        Images from which the yields are learned first.
    overwrite : bool
        Whether to replace a file that is there, once the survey is made.

    Returns
    -------
    dict of str to int
        The number of images that each split took.

    Raises
    ------
    UserError
        If `path` exists, but for `overwrite`, or cannot be written, or was begun with other arguments.

    Examples
    --------
    >>> import rotinv
    >>> images = rotinv.make_survey("tiny.h5", {"test": 8}, seed=1, workers=1, size=512, pilot_images=2)
    >>> list(images)
    ['train', 'validate', 'test']
    """
    path = Path(path)
    scratch.tell_of_numba_cache()
    attributes = {"survey_version": VERSION, "seed": seed, "band": band, "image_size": size}
    options = {
        **attributes,
        "pilot_images": pilot_images,
        **{split: counts.get(split, 0) for split in SPLITS},
    }
    images = {}
    with parts.open_parts(path, options, overwrite=overwrite) as saved:
        with _processes(workers, band, size) as simulate:
            seen = _pilot(simulate, seed, pilot_images)
            for index, split in enumerate(SPLITS):
                chosen = selection.Selection(counts.get(split, 0), seen, pilot_images)
                images[split] = _fill(simulate, saved, split, (seed, index), chosen, progress)
        with store.create_store(
            saved.store,
            channels=store.CHANNELS,
            size=detection.STAMP,
            normalisation="none",
            kinds=kinds.KINDS,
            attributes=attributes,
            overwrite=True,
        ) as writer:
            for split in SPLITS:
                for columns in saved.columns(split, counts.get(split, 0)):
                    writer.append(split, **columns)
        parts.finish(saved, path, overwrite=overwrite)
    return images


def _pilot(simulate: "_Simulate", seed: int, count: int) -> np.ndarray:
    """The number of stamps of each bin in `count` images that belong to no split."""
    seen = np.zeros(3 * selection.BINS, np.int64)
    with contextlib.closing(simulate((seed, PILOT), range(count))) as results:
        for result in results:
            bins = _bins(result)
            seen += np.bincount(bins[bins >= 0], minlength=seen.size)
    return seen


def _fill(
    simulate: "_Simulate",
    saved: parts.Parts,
    split: str,
    key: tuple[int, int],
    chosen: selection.Selection,
    progress: Callable[[int], object],
) -> int:
    """Simulate images until a split is full, beginning after its last saved block; returns how many images in
    all."""
    asked = chosen.left
    saved.restore(split, chosen)
    progress(asked - chosen.left)
    waiting: list[tuple[np.ndarray, ...]] = []
    with contextlib.closing(simulate(key, itertools.count(chosen.used))) as results:
        while chosen.left:
            image, result = chosen.used, next(results)
            rng = np.random.default_rng((*key, image, 1))
            kept = chosen.take(_bins(result), rng)
            ids = np.full(kept.size, key[1] * STRIDE + image, np.int64)
            waiting.append((result.stamps[kept], result.snr[kept], result.kind[kept], ids))
            progress(kept.size)
            if not chosen.left or sum(len(columns[1]) for columns in waiting) >= BLOCK:
                saved.append(split, _shuffled(waiting, rng), chosen)
                waiting = []
    return chosen.used


def _shuffled(waiting: list[tuple[np.ndarray, ...]], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The stamps of several images in random order, by column of the store."""
    pixels, snr, kind, image = (np.concatenate(columns) for columns in zip(*waiting, strict=True))
    order = rng.permutation(snr.size)
    label = (kind == kinds.CANDIDATE).astype(np.uint8)
    columns = {"stamps": pixels, "label": label, "snr": snr, "kind": kind, "image": image}
    return {name: values[order] for name, values in columns.items()}


def _bins(result: pair.Stamps) -> np.ndarray:
    return selection.bin_of(result.snr, result.kind == kinds.CANDIDATE)


class _Simulate:
    """Simulates pairs of images, ahead of their use in a pool of processes, or without a pool when they are
    used.

    The order is the same in both cases.
    """

    def __init__(self, pool: ProcessPoolExecutor | None, workers: int, band: str, size: int) -> None:
        self._pool = pool
        self._ahead = 8 * workers  # enough to work on while a block is saved
        self._one = partial(pair.simulate, band=band, size=size)

    def __call__(self, key: tuple[int, int], images: Iterable[int]) -> Results:
        """Yields the stamps of these images; `key` is (seed, split)."""
        keys = ((*key, image) for image in images)
        if self._pool is None:
            yield from map(self._one, keys)
        else:
            yield from self._in_order(self._pool, keys)

    def _in_order(self, pool: ProcessPoolExecutor, keys: Iterator[tuple[int, int, int]]) -> Results:
        queue: collections.deque[Future[pair.Stamps]] = collections.deque()
        try:
            for key in itertools.islice(keys, self._ahead):
                queue.append(pool.submit(self._one, key))
            while queue:
                result = queue.popleft().result()
                for key in itertools.islice(keys, 1):
                    queue.append(pool.submit(self._one, key))
                yield result
        finally:
            for future in queue:
                future.cancel()


@contextlib.contextmanager
def _processes(workers: int, band: str, size: int) -> Iterator[_Simulate]:
    """A pool of `workers` processes with one thread each; no pool for one worker."""
    if workers == 1:
        yield _Simulate(None, workers, band, size)
        return
    with threads_each(1):
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=begin_worker)
        try:
            yield _Simulate(pool, workers, band, size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
