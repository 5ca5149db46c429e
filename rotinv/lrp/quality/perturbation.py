"""How well maps name what a decision rests on: regions of the stamps are replaced, in the order of the maps.

Region perturbation (Samek et al. 2017, [7] in the paper): the regions of a stamp are replaced by noise one
after another, the most relevant first. With x^(k) the stamp after k of them, and f the score of the class
that was predicted for x^(0),

    AOPC = 1 / (L + 1) < sum_{k=0}^L f(x^(0)) - f(x^(k)) >        < > the mean over stamps

A map that names the right regions makes f fall fast.

Deletion and insertion (Petsiuk et al. 2018): the area under f against the share of regions that are replaced
by noise (deletion), or put back into the blurred stamp (insertion). With the most relevant regions first the
area of a good map is small in deletion and large in insertion; with the least relevant first it is the other
way round, and the area between the two curves is large (Tomsett et al. 2020; Blücher et al. 2024). Petsiuk et
al. delete to grey. Were both images the same, deletion with the least relevant first would be insertion with
the most relevant first, read backwards.

A stamp's noise is the same image for every map, so that maps can be compared stamp by stamp; with several
draws of the noise, each stamp's scores are averaged first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rotinv.lrp import heatmaps
from rotinv.lrp.quality.ways import RANDOM, UNSIGNED, Score, Way, maps_of, predicted, score_function
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model, check_finite

STEPS = 30  # L of AOPC, unless asked otherwise
_NOISE, _ORDER = 0x6E6F6973, 0x6F726465  # keep the draws of noise and of random orders apart

Curves = NDArray[np.float64]
Progress = Callable[[int], object] | None


@dataclass(frozen=True)
class How:
    """How stamps are perturbed, and what of the network's answer is followed."""

    steps: int = STEPS  # L, the number of regions that are replaced
    region: int = 3  # the side of a region, in pixels
    draws: int = (
        1  # of the noise, the random orders and the random weights; a stamp's values are the mean over them
    )
    seed: int = 0
    of: str = "logit"  # f: the predicted class's "logit", or its "probability"
    smooth: int = 0  # noisy copies of a stamp over which the maps of smooth MPRT are averaged


class Result(NamedTuple):
    """The drops (n, steps + 1) of the stamps' scores, with regions replaced in the order of one way."""

    name: str
    drops: Curves

    def aopc(self) -> NDArray[np.float64]:
        """The AOPC (n,) of each stamp."""
        return self.drops.mean(axis=1)


class Areas(NamedTuple):
    """The scores (n, steps + 1) of the stamps, by the order of one way and by the reverse order."""

    name: str
    most_first: Curves
    least_first: Curves


def region_of_pixels(size: int, side: int) -> NDArray[np.int64]:
    """The number of each pixel's region, (size, size): squares of `side` pixels, counted row by row.

    Where `side` does not divide `size`, the last region of each row and column is smaller.
    """
    number = np.arange(size) // side
    return number[:, None] * (number[-1] + 1) + number


def ranks(maps: NDArray, regions: NDArray[np.int64], method: str) -> NDArray[np.int64]:
    """The regions of stamps (n, regions), most relevant first, by their maps (n, h, h, c).

    A region's relevance is the sum over its pixels and channels, of magnitudes for the methods in
    UNSIGNED. Of equal regions the first comes first. Raises UserError if a map is not finite.
    """
    check_finite("the network", "maps", maps)
    pixels = np.abs(maps) if method in UNSIGNED else maps
    flat = np.asarray(pixels, np.float64).sum(axis=3).reshape(len(maps), -1)
    which = regions.reshape(-1)
    sums = np.stack([np.bincount(which, weights=one) for one in flat])
    return np.argsort(-sums, axis=1, kind="stable")


def random_ranks(indices: NDArray[np.int64], count: int, seed: int, draw: int = 0) -> NDArray[np.int64]:
    """A random order of `count` regions for each stamp, a function of (seed, index, draw)."""
    return np.stack([_rng(seed, _ORDER, index, draw).permutation(count) for index in indices])


def noise(
    indices: NDArray[np.int64], shape: tuple[int, ...], seed: int, draw: int = 0
) -> NDArray[np.float32]:
    """The pixels that take the stamps' place, uniform on [0, 1): a function of (seed, index, draw)."""
    return np.stack([_rng(seed, _NOISE, index, draw).random(shape, np.float32) for index in indices])


def blurred(stamps: NDArray) -> NDArray:
    """Stamps (n, h, h, c), each channel by a Gaussian of a quarter of its side: insertion's start."""
    across = stamps.shape[1] / 4
    found = ndimage.gaussian_filter(stamps, (0, across, across, 0), mode="nearest")
    return np.asarray(found, stamps.dtype)


def scores(
    score: Score,
    start: NDArray,
    other: NDArray,
    order: NDArray[np.int64],
    regions: NDArray[np.int64],
    steps: int,
    classes: NDArray[np.int64],
) -> Curves:
    """The scores (n, steps + 1) of images (n, h, h, c) after 0 … steps regions are replaced by the other
    image's.

    `score` gives the scores (n, classes) of images, of which that of each one's class in `classes` (n,) is
    followed; `order` (n, regions) says which regions go first. All channels of a region are replaced
    together. Raises UserError if a score is not finite.
    """
    x, rows = start.copy(), np.arange(len(start))
    found = np.zeros((len(x), steps + 1))
    for k in range(steps + 1):
        if k:
            gone = regions == order[:, k - 1, None, None]
            x = np.where(gone[..., None], other, x)
        found[:, k] = np.asarray(score(x), np.float64)[rows, classes]
    check_finite("the network", "scores", found)
    return found


def drops(
    score: Score,
    stamps: NDArray,
    order: NDArray[np.int64],
    regions: NDArray[np.int64],
    replacement: NDArray,
    steps: int,
) -> Curves:
    """f(x^(0)) - f(x^(k)) of stamps (n, h, h, c) for k = 0 … steps, (n, steps + 1); the rest is as of
    `scores`."""
    classes = predicted(np.asarray(score(stamps), np.float64))
    found = scores(score, stamps, replacement, order, regions, steps, classes)
    return found[:, :1] - found


def areas(curves: Curves) -> NDArray[np.float64]:
    """The area (n,) under scores (n, steps + 1) against the share of the steps, by the trapezoidal rule."""
    return (curves[:, :-1] + curves[:, 1:]).mean(axis=1) / 2


def measure(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    of: Sequence[Way],
    how: How,
    progress: Progress = None,
) -> Iterator[Result]:
    """The drops by each way in turn, and last by a random order, which is named RANDOM.

    `stamps` (n, h, h, c) are prepared as the model reads them; `indices` (n,) are their places in the data,
    which the noise of each depends on. `progress` is told how many stamps were done. Raises UserError if a
    map or a score is not finite.
    """

    def one(score: Score, x: NDArray, order: NDArray, regions: NDArray, replacement: NDArray) -> Curves:
        return drops(score, x, order, regions, replacement, how.steps)

    for name, found in _by_way(k, model, stamps, indices, of, how, one, progress):
        yield Result(name, found)


def insertion_or_deletion(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    of: Sequence[Way],
    how: How,
    progress: Progress = None,
    *,
    insert: bool,
) -> Iterator[Areas]:
    """The curves of insertion, or of deletion, by each way in turn, and last by a random order; the arguments
    are those of `measure`."""

    def one(score: Score, x: NDArray, order: NDArray, regions: NDArray, replacement: NDArray) -> Curves:
        classes = predicted(np.asarray(score(x), np.float64))
        start, other = (blurred(x), x) if insert else (x, replacement)
        both = (
            scores(score, start, other, now, regions, how.steps, classes) for now in (order, order[:, ::-1])
        )
        return np.stack(list(both), axis=1)

    for name, found in _by_way(k, model, stamps, indices, of, how, one, progress):
        yield Areas(name, found[:, 0], found[:, 1])


def _by_way(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    of: Sequence[Way],
    how: How,
    one: Callable[..., Curves],
    progress: Progress,
) -> Iterator[tuple[str, Curves]]:
    """What `one` gives for all stamps, by the order of each way in turn, and last by random orders: the mean
    over the draws of the noise, each of which has a random order of its own."""
    params = k.asarray(model.params)
    score = score_function(k, model, params, how.of)
    regions = region_of_pixels(stamps.shape[1], how.region)
    for way in [*of, Way(RANDOM, RANDOM, "")]:
        parts = []
        for start in range(0, len(stamps), heatmaps.BATCH):
            block = slice(start, start + heatmaps.BATCH)
            x, here, order = stamps[block], indices[block], None
            if way.name != RANDOM:
                order = ranks(maps_of(k, model, params, x, way), regions, way.method)
            found = []
            for draw in range(how.draws):
                now = random_ranks(here, int(regions.max()) + 1, how.seed, draw) if order is None else order
                found.append(one(score, x, now, regions, noise(here, x.shape[1:], how.seed, draw)))
            parts.append(np.mean(found, axis=0))
            if progress:
                progress(len(x))
        yield way.name, np.concatenate(parts)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)
