"""Stamps with equal pixels: which of them wins a max-pooling must not depend on a device's rounding."""

import numpy as np
import pytest

from rotinv.lrp import composites, heatmaps, targets
from rotinv.lrp.relevance import deviation
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train

SIDE, CHANNELS = 17, 2
LARGEST = 1e-4  # of the largest |R|: what a float32 map may deviate from the float64 reference


def noise(rng, n):
    """Noise of the sky (n, SIDE, SIDE, CHANNELS) between 0 and 1; every second stamp has a star."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    star = np.exp(-(y**2 + x**2) / 6)[:, :, None]
    seen = rng.uniform(0, 0.5, (n, SIDE, SIDE, CHANNELS)) + np.arange(n)[:, None, None, None] % 2 * star / 2
    return seen.astype(np.float32)


def with_part(rows, columns, value):
    """A stamp with a star of which a part has one value."""

    def draw(rng):
        stamp = noise(rng, 2)[1]
        stamp[rows, columns] = value
        return stamp

    return draw


def one_dark_pixel(rng):
    stamp = np.ones((SIDE, SIDE, CHANNELS), np.float32)
    stamp[2, 3] = 0
    return stamp


def flat_inside(rng):
    stamp = noise(rng, 1)[0]
    stamp[3:-3, 3:-3] = stamp[0, 0]
    return stamp


KINDS = {
    "one dark pixel": one_dark_pixel,
    "flat inside": flat_inside,
    "blank side, 0": with_part(slice(None), slice(0, 8), 0),
    "blank side, 1": with_part(slice(9, None), slice(None), 1),
    "blank side, 0.4": with_part(slice(None), slice(9, None), 0.4),
    "masked block": with_part(slice(4, 12), slice(2, 11), 0.25),
    "saturated star": lambda rng: np.minimum(1, 4 * with_part(0, 0, 0)(rng)),
    "quantised": lambda rng: np.round(4 * noise(rng, 2)[1]) / 4,
    "two levels": lambda rng: np.round(noise(rng, 2)[1]),
}


@pytest.fixture(scope="module")
def trained():
    """CAP after a few steps of training on noise with and without a star, in float32.

    It is trained by the reference, so that no kernel's rounding decides which network is tested.
    """
    network, k = architectures.build("cap", SIDE, CHANNELS), get_kernels("reference")
    rng = np.random.default_rng(3)
    params, grads = k.asarray(network.initial("he", 3)), k.zeros((network.size,))
    for step in range(10):
        logits, tape = network.record(k, params, k.asarray(noise(rng, 8)), Train(3, step))
        _, dz = k.softmax.cross_entropy(logits, k.asindex(np.arange(8) % 2), k.asarray([1.0, 1.0]))
        network.backward(k, params, grads, tape, dz)
        k.sgd.update(params, grads, 0.05)
    return network, params.astype(np.float32)


@pytest.fixture(scope="module")
def stamps():
    rng = np.random.default_rng(20)
    return np.stack([draw(rng) for draw in KINDS.values()]).astype(np.float32)


def trail_on(k, trained, stamps, method, rule, target="predicted"):
    network, params = trained
    return heatmaps.trail(k, network, k.asarray(params), k.asarray(stamps), method, rule, target)


CASES = {
    **{name: ("lrp", rule) for name, rule in composites.COMPOSITES.items()},
    **{method: (method, composites.named("zero")) for method in heatmaps.METHODS if method != "lrp"},
}


SLOW = ("integrated-gradients", "occlusion")  # 65 and some 600 passes a stamp


@pytest.mark.parametrize("case", [name for name in CASES if name not in SLOW])
def test_maps_of_flat_parts_are_the_references(k, reference, trained, stamps, case):
    hold_to_the_reference(k, reference, trained, stamps, case)


def test_integrated_gradients_of_a_flat_stamp_are_the_references(k, reference, trained, stamps):
    hold_to_the_reference(k, reference, trained, stamps[:1], "integrated-gradients")


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_maps_of_flat_parts_that_take_long_are_the_references(k, reference, trained, stamps, case):
    hold_to_the_reference(k, reference, trained, stamps, case)


def hold_to_the_reference(k, reference, trained, stamps, case):
    method, rule = CASES[case]
    found = trail_on(k, trained, stamps, method, rule)
    same = targets.of_same_classes(k, found.logits, "predicted")
    exact = trail_on(reference, trained, stamps, method, rule, same)
    for kind, one, other in zip(KINDS, k.to_host(found.relevance[0]), exact.relevance[0], strict=False):
        assert other.any(), kind
        assert deviation(one, other) < LARGEST, kind


def test_winners_of_flat_parts_are_the_references(k, reference, trained, stamps):
    network, params = trained
    pairs = zip(
        network.record_signed(k, k.asarray(params), k.asarray(stamps)),
        network.record_signed(reference, np.float64(params), np.float64(stamps)),
        strict=True,
    )
    pooled = [(one.winner, other.winner) for one, other in pairs if getattr(one, "winner", None) is not None]
    assert len(pooled) == 2
    for one, other in pooled:
        assert np.mean(k.to_host(one) != other) < 1e-4


@pytest.mark.parametrize("rule", ["alpha2beta1", "epsilon", "flat"])
def test_the_map_of_a_turned_flat_stamp_is_the_turned_map(k, trained, stamps, rule):
    def maps(stamps):
        return k.to_host(trail_on(k, trained, stamps, "lrp", composites.named(rule)).relevance[0])

    upright = maps(stamps)
    for turns in (1, 2, 3):
        turned = maps(np.rot90(stamps, turns, axes=(1, 2)))
        np.testing.assert_array_equal(turned, np.rot90(upright, turns, axes=(1, 2)))
