"""Whether maps depend on what the network has learned: model parameter randomisation tests (MPRT).

The weights are drawn anew layer by layer, from the logits down, and stay so (the cascading randomisation of
Adebayo et al. 2018). A map that stays as it was does not depend on the weights. After each layer the maps of
the class that was predicted at first are compared with those of the trained network, by Spearman's rank
correlation and SSIM; low is good. Two variants are by Hedström et al. (2024):

    smooth MPRT      maps are means over noisy copies of the stamp, so that a method's noise does not look
    like
                     dependence on the weights (`How.smooth` copies)
    efficient MPRT   instead of comparing maps, which favours noisy ones: how far the entropy of the map's
    histogram
                     rises, (H - H_trained) / H_trained, when all weights are random

Binder et al. (2023) show why low similarity alone does not make a method good: see it beside AOPC.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import heatmaps, targets
from rotinv.lrp.quality import similarity
from rotinv.lrp.quality.perturbation import How, Progress
from rotinv.lrp.quality.ways import UNSIGNED, Way, maps_of
from rotinv.nn.contract import Kernels
from rotinv.nn.network import Network
from rotinv.runs.model import Model, check_finite

NOISE = 0.1  # the standard deviation of smooth MPRT's noise, in shares of the pixels' range, which is 0-1;
# a copy's pixels beyond that range are set to its ends
_SMOOTH = 0x736D6F74  # keeps its draws apart from others
_APART = 0x72616E64  # added to a seed: the weights that a training started with, by the same seed, are others


class Cascade(NamedTuple):
    """How maps change when the last 1, 2, … layers with weights are random; each is the mean over the draws.

    `layers` are their names, from the logits down; `spearman`, `ssim` and `entropy_rise` are (n, layers).
    """

    name: str
    layers: list[str]
    spearman: NDArray[np.float64]
    ssim: NDArray[np.float64]
    entropy_rise: NDArray[np.float64]


def cascade(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    indices: NDArray[np.int64],
    classes: NDArray[np.int64],
    of: Sequence[Way],
    how: How,
    progress: Progress = None,
) -> Iterator[Cascade]:
    """The test of each way in turn, of stamps (n, h, h, c) as the model reads them.

    `classes` (n,) are the predicted ones, and `indices` (n,) the stamps' places in the data, which the noise
    of smooth MPRT depends on. The random weights are drawn for each of the draws, as a training's first are.
    Raises UserError if a map is not finite.
    """
    places = model.network.weighted[::-1]
    layers = [model.network.names[i] for i in places]
    for way in of:
        task = _Task(k, model, stamps, indices, classes, way, how, progress)
        trained = task.maps(model.params)
        each = [
            [
                _compared(trained, task.maps(params))
                for params in randomised(model.network, model.params, how.seed + draw)
            ]
            for draw in range(how.draws)
        ]
        found = np.mean(each, axis=0).reshape(len(layers), 3, -1)
        yield Cascade(way.name, layers, *(found[:, i].T for i in range(3)))


def randomised(network: Network, params: NDArray, seed: int) -> Iterator[NDArray]:
    """The parameters with the last 1, 2, … layers with weights drawn anew, as a training draws them (He et
    al.)."""
    fresh, now = network.views(network.initial("he", _APART + seed)), params.copy()
    for i in network.weighted[::-1]:
        for name, view in network.views(now)[i].items():
            view[...] = fresh[i][name]
        yield now.copy()


class _Task(NamedTuple):
    """One way's maps, by whatever parameters."""

    k: Kernels
    model: Model
    stamps: NDArray[np.float32]
    indices: NDArray[np.int64]
    classes: NDArray[np.int64]
    way: Way
    how: How
    progress: Progress

    def maps(self, params: NDArray) -> NDArray:
        """The maps (n, h, h, c), magnitudes for methods whose sign says nothing."""
        own, parts = self.k.asarray(params), []
        for start in range(0, len(self.stamps), heatmaps.BATCH):
            block = slice(start, start + heatmaps.BATCH)
            parts.append(self._of_block(own, block))
            if self.progress:
                self.progress(len(parts[-1]))
        found = np.concatenate(parts)
        check_finite("the network", "maps", found)
        return np.abs(found) if self.way.method in UNSIGNED else found

    def _of_block(self, params: Any, block: slice) -> NDArray:
        x, target = self.stamps[block], targets.OfClasses("predicted", self.classes[block])
        if not self.how.smooth:
            return maps_of(self.k, self.model, params, x, self.way, target)
        total = np.zeros(x.shape)
        for copy in range(self.how.smooth):
            noise = _noise(self.indices[block], x.shape[1:], self.how.seed, copy)
            noisy = (x + noise).clip(0, 1)  # no stamp has pixels beyond, and the rule z^B takes none
            total += maps_of(self.k, self.model, params, noisy, self.way, target)
        return total / self.how.smooth


def _noise(indices: NDArray[np.int64], shape: tuple[int, ...], seed: int, copy: int) -> NDArray[np.float32]:
    """Normal noise of the standard deviation NOISE, a function of (seed, index, copy)."""
    rngs = (np.random.default_rng((seed, _SMOOTH, index, copy)) for index in indices)
    return np.stack([np.float32(NOISE) * rng.standard_normal(shape, np.float32) for rng in rngs])


def _compared(trained: NDArray, other: NDArray) -> list[NDArray[np.float64]]:
    """Spearman, SSIM and the rise of the entropy of each map (n,); 0 for a trained map without entropy."""
    before, after = similarity.entropy(trained), similarity.entropy(other)
    rise = np.divide(after - before, before, out=np.zeros(len(before)), where=before != 0)
    return [similarity.spearman(trained, other), similarity.ssim(trained, other), rise]
