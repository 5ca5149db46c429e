"""How well maps name what a decision rests on: region perturbation (Samek et al. 2017, [7] in the paper).

The regions of a stamp are replaced by noise one after another, the most relevant first. With x^(k) the stamp
after k of them, and f the score of the class that was predicted for x^(0),

    AOPC = 1 / (L + 1) < sum_{k=0}^L f(x^(0)) - f(x^(k)) >        < > the mean over stamps

A map that names the right regions makes f fall fast. A stamp's noise is the same image for every map, so that
maps can be compared stamp by stamp; with several draws of the noise, each stamp's drops are averaged first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, composites, heatmaps
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model, check_finite
from rotinv.system import pictures
from rotinv.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Score = Callable[[NDArray], NDArray]  # from stamps (n, h, h, c) to scores (n, classes)
STEPS = 30  # L, unless asked otherwise
# A derivative's sign says which way the logit would go, not whether the pixel mattered.
UNSIGNED = ("gradient", "deconvnet", "guided")
RANDOM = "random"  # the name of the order that maps are held against
_NOISE, _ORDER = 0x6E6F6973, 0x6F726465  # keep the draws of noise and of random orders apart


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


def drops(
    score: Score,
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
    first = np.asarray(score(x), np.float64)
    last = first.shape[1] - 1  # of equal scores the last counts, the candidate's, as in the program score
    rows, predicted = np.arange(len(x)), last - first[:, ::-1].argmax(axis=1)
    found = np.zeros((len(x), steps + 1))
    for k in range(steps):
        gone = regions == order[:, k, None, None]
        x = np.where(gone[..., None], replacement, x)
        found[:, k + 1] = np.asarray(score(x), np.float64)[rows, predicted]
    found[:, 0] = first[rows, predicted]
    check_finite("the network", "scores", found)
    return found[:, :1] - found


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values (n,) and its standard error (ddof 1); the error of one value is NaN."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


class Way(NamedTuple):
    """A way to rank a stamp's regions: by the maps of a method, and for "lrp" by those of a rule."""

    name: str
    method: str
    rule: str


def ways(methods: Sequence[str], rule_names: Sequence[str]) -> list[Way]:
    """Each method once, and "lrp" once for each rule. Raises UserError for an unknown method or rule."""
    for method in methods:
        if method not in heatmaps.METHODS:
            meant, known = did_you_mean(method, heatmaps.METHODS), ",".join(heatmaps.METHODS)
            raise UserError(
                f"--methods {method}: is not known{meant}; choose of {known} ({RANDOM} is always there)"
            )
    for rule in rule_names:
        composites.named(rule)
    found = []
    for method in dict.fromkeys(methods):
        if method == "lrp":
            found += [Way(f"lrp {rule}", method, rule) for rule in dict.fromkeys(rule_names)]
        else:
            found.append(Way(method, method, rule_names[0]))
    return found


@dataclass(frozen=True)
class How:
    """How stamps are perturbed, and what of the network's answer is followed."""

    steps: int = STEPS  # L, the number of regions that are replaced
    region: int = 3  # the side of a region, in pixels
    draws: int = 1  # of the noise and of the random order; a stamp's drops are the mean over them
    seed: int = 0
    of: str = "logit"  # f: the predicted class's "logit", or its "probability"


class Result(NamedTuple):
    """The drops (n, steps + 1) of the stamps' scores, with regions replaced in the order of one way."""

    name: str
    drops: NDArray[np.float64]

    def aopc(self) -> NDArray[np.float64]:
        """The AOPC (n,) of each stamp."""
        return self.drops.mean(axis=1)


def measure(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    of: Sequence[Way],
    how: How,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Result]:
    """The drops by each way in turn, and last by a random order, which is named RANDOM.

    `stamps` (n, h, h, c) are prepared as the model reads them; `indices` (n,) are their places in the data,
    which the noise of each depends on. `progress` is told how many stamps were done. Raises UserError if a
    map or a score is not finite.
    """
    params = k.asarray(model.params)
    score = score_function(k, model, params, how.of)
    regions = region_of_pixels(stamps.shape[1], how.region)
    for way in [*of, Way(RANDOM, RANDOM, "")]:
        parts = [np.zeros((0, how.steps + 1))]
        for start in range(0, len(stamps), heatmaps.BATCH):
            block = slice(start, start + heatmaps.BATCH)
            x, here = stamps[block], indices[block]
            order = None
            if way.name != RANDOM:
                order = ranks(maps_of(k, model, params, x, way), regions, way.method)
            parts.append(_mean_drops(score, x, here, order, regions, how))
            if progress:
                progress(len(x))
        yield Result(way.name, np.concatenate(parts))


def _mean_drops(
    score: Score,
    x: NDArray[np.float32],
    indices: NDArray[np.int64],
    order: NDArray[np.int64] | None,
    regions: NDArray[np.int64],
    how: How,
) -> NDArray[np.float64]:
    """The mean over the draws of the drops; without an order, each draw has a random order of its own."""
    found = []
    for draw in range(how.draws):
        now = order
        if now is None:
            now = random_ranks(indices, int(regions.max()) + 1, how.seed, draw)
        replacement = noise(indices, x.shape[1:], how.seed, draw)
        found.append(drops(score, x, now, regions, replacement, how.steps))
    return np.mean(found, axis=0)


def maps_of(k: Kernels, model: Model, params: Any, stamps: NDArray, way: Way) -> NDArray:
    """The maps (n, h, h, c) of the stamps' own pixels. Raises UserError for numbers that the device cannot
    hold, naming the layer."""
    rule = composites.named(way.rule)
    with np.errstate(over="ignore", invalid="ignore"):  # check_maps tells of maps that are not numbers
        found = heatmaps.trail(k, model.network, params, k.asarray(stamps), way.method, rule)
    attribution.check_maps(k, model, found.relevance)
    return k.to_host(found.relevance[0])


def score_function(k: Kernels, model: Model, params: Any, of: str) -> Score:
    """The function from stamps (n, h, h, c) to their logits, or probabilities, (n, classes)."""

    def score(stamps: NDArray) -> NDArray:
        logits = model.network.forward(k, params, k.asarray(stamps))
        return k.to_host(logits if of == "logit" else k.softmax.forward(logits))

    return score


def aopc_rows(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """A row for each result: its AOPC, how far that is above the random order's, and both standard errors.

    The last result is the random order's; the difference from it is taken stamp by stamp.
    """
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


def draw_drops(drops: Mapping[str, NDArray], score: str, ax: "Axes | None" = None) -> "Axes":
    """Draw how far the score has fallen, against the number of regions replaced, and give the axes.

    `drops` (n, steps + 1) are each way's, by its name: a line is their mean over the n stamps, its band one
    standard error to each side. The legend stands beside the lines, the largest AOPC on top. `score` names
    what falls. Without `ax`, the axes are new ones of matplotlib's pyplot.
    """
    axes = pictures.new_axes() if ax is None else ax
    of_maps = [name for name in drops if name != RANDOM]
    for name, each in sorted(drops.items(), key=lambda item: -item[1].mean()):
        look = pictures.style(of_maps.index(name)) if name in of_maps else pictures.Style("0.45", ":", "")
        mean, x = each.mean(axis=0), np.arange(each.shape[1])
        label = f"{name} ({each.mean():.3g})"
        axes.plot(x, mean, label=label, lw=1.3, **look.of_line(len(x)))
        if len(each) > 1:
            error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
            axes.fill_between(x, mean - error, mean + error, color=look.colour, alpha=0.15, lw=0)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="regions replaced by noise, the most relevant first", ylabel=f"mean fall of the\n{score}")
    axes.legend(
        loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, title="AOPC; bands: ± 1 s.e.", title_fontsize=8
    )
    return axes
