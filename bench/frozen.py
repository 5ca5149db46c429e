"""The networks and stamps on which relevance is checked, and the script that computes their reference maps.

`python bench/frozen.py` writes relevance.npz beside it, by kernels/reference alone (float64), from the seed
below. Three networks, since a trained one shows only some faults:

    trained   CAP, He weights of SEED after STEPS steps of SGD on noise with and without a star
    compact   the same with zero biases, and a stamp that is zero outside its inner 5x5
    pruned    the same with the 90% smallest weights of each layer set to zero
"""

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites
from rotinv.lrp.relevance import relevance
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train
from rotinv.nn.network import Network
from rotinv.system.files import written_whole

FILE = Path(__file__).resolve().parent / "relevance.npz"
SEED, STEPS, BATCH, RATE = 2018, 12, 4, 0.04
NETS = ("trained", "compact", "pruned")


@functools.cache
def cases() -> dict[str, tuple[Network, NDArray[np.float32], NDArray[np.float32]]]:
    """For each of NETS: the network, its parameters and a stamp (1, 21, 21, 4)."""
    network = architectures.build("cap")
    params = _train(network)
    stamp = _stamps(np.random.default_rng(SEED + 1), 2)[0][1:]
    centre = np.zeros_like(stamp)
    centre[:, 8:13, 8:13] = stamp[:, 8:13, 8:13]
    without_biases, pruned = params.copy(), params.copy()
    for views in network.views(without_biases):
        if "b" in views:
            views["b"][...] = 0
    for views in network.views(pruned):
        if "w" in views:
            size = np.abs(views["w"])
            views["w"][size < np.quantile(size, 0.9)] = 0
    return {
        "trained": (network, params, stamp),
        "compact": (network, without_biases, centre),
        "pruned": (network, pruned, stamp),
    }


def maps() -> dict[str, NDArray[np.float32]]:
    """R (1, 21, 21, 4) by each rule on each network, named "net rule", by the reference."""
    k = get_kernels("reference")
    found = {}
    for net, (network, params, stamp) in cases().items():
        for rule in composites.COMPOSITES:
            trail = relevance(k, network, k.asarray(params), k.asarray(stamp), composites.named(rule))
            found[f"{net} {rule}"] = trail.relevance[0].astype(np.float32)
    return found


def _train(network: Network) -> NDArray[np.float32]:
    k, rng = get_kernels("reference"), np.random.default_rng(SEED)
    params, grads = network.initial("he", SEED), np.zeros(network.size)
    for step in range(STEPS):
        stamps, label = _stamps(rng, BATCH)
        logits, tape = network.record(k, params, k.asarray(stamps), Train(SEED, step))
        _, dz = k.softmax.cross_entropy(logits, k.asindex(label), k.asarray([1.0, 1.0]))
        network.backward(k, params, grads, tape, dz)
        k.sgd.update(params, grads, RATE)
    return params.astype(np.float32)


def _stamps(rng: np.random.Generator, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noise (n, 21, 21, 4) between 0 and 1; every second stamp has a star in its middle."""
    y, x = np.mgrid[-10:11, -10:11]
    star = np.exp(-(y**2 + x**2) / 6)[:, :, None]
    label = np.arange(n) % 2
    pixels = rng.uniform(0, 0.5, (n, 21, 21, 4)) + 0.5 * label[:, None, None, None] * star
    return pixels.astype(np.float32), label


if __name__ == "__main__":
    with written_whole(FILE, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **maps())
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")
