"""How well maps name what a decision rests on: region perturbation (Samek et al. 2017, [7] in the paper).

A stamp's regions are replaced by noise one after another, the most relevant first. With x^(k) the stamp after
k of them and f the score of the class that was predicted at first,

    AOPC = 1 / (L + 1) < sum_{k=0}^L f(x^(0)) - f(x^(k)) >        < > the mean over stamps

A map that names the right regions makes f fall fast. The noise of a stamp is one image, the same for every
map, so that maps are compared in pairs; of several draws of it each stamp's falls are averaged first. The
picture shows how far f has fallen against the regions replaced.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import heatmaps, rules
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model, check_finite
from rotinv.system.files import written_whole

# A derivative's sign says which way the logit would go, not whether the pixel mattered.
UNSIGNED = ("gradient", "deconvnet", "guided")
RANDOM = "random"  # the name of the order that maps are held against
_NOISE, _ORDER = 0x6E6F6973, 0x6F726465  # keep the draws of noise and of random orders apart


def region_of_pixels(size: int, side: int) -> NDArray[np.int64]:
    """(size, size): the number of each pixel's region, squares of `side` pixels, row by row.

    Where `side` does not divide `size`, the last of a row and of a column are smaller.
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
    flat = np.float64(pixels).sum(axis=3).reshape(len(maps), -1)
    which = regions.reshape(-1)
    sums = np.stack([np.bincount(which, weights=one) for one in flat])
    return np.argsort(-sums, axis=1, kind="stable")


def random_ranks(indices: NDArray[np.int64], count: int, seed: int, draw: int = 0) -> NDArray[np.int64]:
    """A random order of `count` regions for each stamp, a function of (seed, index, draw)."""
    return np.stack([_rng(seed, _ORDER, index, draw).permutation(count) for index in indices])


def noise(
    indices: NDArray[np.int64], shape: tuple[int, ...], seed: int, draw: int = 0
) -> NDArray[np.float32]:
    """What replaces the pixels, uniform on [0, 1): a stamp's image is a function of (seed, index, draw)."""
    return np.stack([_rng(seed, _NOISE, index, draw).random(shape, np.float32) for index in indices])


def drops(
    score: Callable[[NDArray], NDArray],
    stamps: NDArray,
    order: NDArray[np.int64],
    regions: NDArray[np.int64],
    replacement: NDArray,
    steps: int,
) -> NDArray[np.float64]:
    """f(x^(0)) - f(x^(k)) of stamps (n, h, h, c) for k = 0 … steps, (n, steps + 1).

    `score` gives the scores (n, classes) of stamps, `order` (n, regions) says which regions go first; all
    channels of a region are replaced together. Raises UserError if a score is not finite.
    """
    x = stamps.copy()
    first = np.float64(score(x))
    rows, predicted = np.arange(len(x)), first.argmax(axis=1)
    found = np.zeros((len(x), steps + 1))
    for k in range(steps):
        gone = regions == order[:, k, None, None]
        x = np.where(gone[..., None], replacement, x)
        found[:, k + 1] = np.float64(score(x))[rows, predicted]
    found[:, 0] = first[rows, predicted]
    check_finite("the network", "scores", found)
    return found[:, :1] - found


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values (n,) and its standard error (ddof 1); the error of one value is NaN."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


PICTURE_FORMATS = (".png", ".pdf")


def draw_curves(path: Path, drops: Mapping[str, NDArray], score: str, title: str) -> None:
    """The mean over stamps of drops (n, steps + 1) by name, as PNG or PDF by the path's ending.

    The legend stands beside the curves, the largest AOPC on top. Needs matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, each in sorted(drops.items(), key=lambda item: -item[1].mean()):
        color, style = ("0.4", "--") if name == RANDOM else (None, "-")
        axes.plot(each.mean(axis=0), label=name, color=color, ls=style)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="regions replaced by noise, the most relevant first", ylabel=f"mean fall of the\n{score}")
    axes.set_title(title, size=10)
    figure.legend(loc="outside right upper", fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)


class Way(NamedTuple):
    """A way to rank regions: by a method's maps, and of lrp by a rule's."""

    name: str
    method: str
    rule: str


class Result(NamedTuple):
    """What a way reached: the drops (n, steps + 1) of the stamps' scores."""

    name: str
    drops: NDArray[np.float64]

    def aopc(self) -> NDArray[np.float64]:
        """(n,): each stamp's own."""
        return self.drops.mean(axis=1)


def maps_of(k: Kernels, model: Model, params: Any, stamps: NDArray, way: Way) -> NDArray:
    """The maps (n, h, h, c) of the stamps' own pixels."""
    rule = rules.named(way.rule)
    with np.errstate(invalid="ignore"):  # maps that are not numbers are told when they are ranked
        found = heatmaps.trail(k, model.network, params, k.asarray(stamps), way.method, rule)
    return k.to_host(found.relevance[0])


def score_function(k: Kernels, model: Model, params: Any, of: str) -> Callable[[NDArray], NDArray]:
    """The logits or probabilities (n, classes) of stamps."""

    def score(stamps: NDArray) -> NDArray:
        logits = model.network.forward(k, params, k.asarray(stamps))
        return k.to_host(logits if of == "logit" else k.softmax.forward(logits))

    return score


def aopc_rows(results: list[Result]) -> Iterator[dict[str, Any]]:
    """The table: AOPC, and what it is above a random order's, stamp by stamp."""
    random = results[-1].aopc()
    for result in results:
        mean, error = mean_and_error(result.aopc())
        above, above_error = mean_and_error(result.aopc() - random)
        yield {
            "method": result.name,
            "aopc": mean,
            "error": error,
            "above_random": above,
            "above_random_error": above_error,
        }
