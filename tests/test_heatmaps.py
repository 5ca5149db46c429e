"""Maps by derivatives, held to finite differences and to rectifiers written out; the four rotations."""

import numpy as np
import pytest
from conftest import assert_close

from rotinv.lrp import composites, heatmaps
from rotinv.nn import architectures
from rotinv.nn.layers import Activation, Flatten
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.system.errors import UserError

LRP = composites.named("alpha2beta1")


@pytest.fixture
def cap(rng):
    network = architectures.build("cap", 13, 2)
    params = network.initial("he", 3) + 0.05 * rng.normal(size=network.size)
    return network, params, rng.uniform(size=(2, 13, 13, 2))


def test_gradient_is_the_derivative_of_the_logit(reference, cap, rng):
    network, params, x = cap
    logits, maps = heatmaps.trail(reference, network, params, x, "gradient", LRP)
    step = 1e-6 * rng.normal(size=x.shape)
    rows, predicted = np.arange(len(x)), logits.argmax(axis=1)
    above, below = (network.forward(reference, params, x + s)[rows, predicted] for s in (step, -step))
    np.testing.assert_allclose((maps[0] * step).sum(axis=(1, 2, 3)), (above - below) / 2, rtol=1e-6)


def test_gradient_of_the_probability(reference, cap, rng):
    network, params, x = cap
    logits, maps = heatmaps.trail(reference, network, params, x, "gradient", LRP, "probability")
    step = 1e-6 * rng.normal(size=x.shape)
    rows, predicted = np.arange(len(x)), logits.argmax(axis=1)
    above, below = (
        reference.softmax.forward(network.forward(reference, params, x + s))[rows, predicted]
        for s in (step, -step)
    )
    np.testing.assert_allclose((maps[0] * step).sum(axis=(1, 2, 3)), (above - below) / 2, rtol=1e-5)


def test_gradient_times_input_at_every_layer_is_lrp_0(reference, cap):
    network, params, x = cap
    one = heatmaps.trail(reference, network, params, x, "gradient-x-input", LRP)
    other = heatmaps.trail(reference, network, params, x, "lrp", composites.named("zero"))
    for a, b in zip(one.relevance, other.relevance, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("slope", [0.0, 0.01])
@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_rectified_backward_passes_written_out(k, rng, method, slope):
    """Convolution with its pooling, a dense layer and an activation, each a matrix in the test."""
    network = Network(
        (Conv2d(3, 1, slope=slope, pool=2), Flatten(), Dense(4), Activation(slope), Dense(2)), (2, 2, 2)
    )
    params, x = network.initial("he", 1), rng.uniform(-1, 1, size=(1, 2, 2, 2))
    w1, w2, w3 = (network.views(params)[i]["w"] for i in (0, 2, 4))

    def act(v):
        return np.where(v > 0, v, slope * v)

    def back(d, y):
        return act(d) if method == "deconvnet" else act(d) * np.where(y > 0, 1, slope)

    maps = act(np.einsum("pqc,co->pqo", x[0], w1[0, 0])).reshape(4, 3)
    winner, pooled = maps.argmax(axis=0), maps.max(axis=0)
    hidden = act(pooled @ w2)
    artifact, candidate = hidden @ w3
    d = w3[:, int(candidate >= artifact)]
    d = back(w2 @ back(d, hidden), pooled)
    expected = np.zeros((4, 2))
    for o in range(3):
        expected[winner[o]] += d[o] * w1[0, 0, :, o]
    found = heatmaps.trail(k, network, k.asarray(params), k.asarray(x), method, LRP).relevance[0]
    assert_close(found, expected.reshape(1, 2, 2, 2))


def test_the_four_maps_sum_to_the_stamps_own(k, cap):
    network, params, x = cap
    _, maps = next(heatmaps.of_rotations(k, network, k.asarray(params), x, "lrp", LRP))
    whole = heatmaps.trail(k, network, k.asarray(params), k.asarray(x), "lrp", LRP).relevance[0]
    assert maps.shape == (2, 4, 13, 13, 2)
    assert_close(4 * heatmaps.average(maps), np.float64(whole))


@pytest.mark.parametrize("method", heatmaps.OF_LAYERS)
def test_caps_average_turns_with_the_stamp(cpu, cap, method):
    network, params, x = cap
    upright, turned = (
        heatmaps.average(next(heatmaps.of_rotations(cpu, network, cpu.asarray(params), s, method, LRP))[1])
        for s in (x, np.rot90(x, axes=(1, 2)))
    )
    np.testing.assert_array_equal(turned, np.rot90(upright, axes=(1, 2)))


def test_scales(rng):
    maps = rng.normal(size=(3, 4, 5, 5, 2))
    maps[2] = 0
    by_magnitude, to_one = heatmaps.scaled(maps, "max-abs"), heatmaps.scaled(maps, "min-max")
    np.testing.assert_allclose(np.abs(by_magnitude).max(axis=(1, 2, 3, 4)), [1, 1, 0])
    np.testing.assert_array_equal(np.sign(by_magnitude), np.sign(maps))
    np.testing.assert_allclose(to_one[:2].min(axis=(1, 2, 3, 4)), 0)
    np.testing.assert_allclose(to_one[:2].max(axis=(1, 2, 3, 4)), 1)
    assert not to_one[2].any()
    assert heatmaps.scaled(maps, "none") is maps


def test_what_cannot_be_is_told(reference, cap):
    network, params, x = cap
    with pytest.raises(UserError, match=r"method 'saliency'.*gradient"):
        heatmaps.trail(reference, network, params, x, "saliency", LRP)
    with pytest.raises(UserError, match="scale 'log'"):
        heatmaps.scaled(x, "log")
    with pytest.raises(UserError, match="no cyclic slice"):
        heatmaps.first_of_rotations(Network((Flatten(), Dense(2)), (4, 4, 1)))
