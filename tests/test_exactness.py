"""Bit for bit: turned stamps, stamps in other batches, other numbers of threads, layers in one."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from rotinv.nn import architectures
from rotinv.nn.depth_first import Convolution
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import SCORE, Train
from rotinv.stamps.pixels import normalise

NETWORK = architectures.build("cap")


def scores(k, stamps):
    return NETWORK.forward(k, k.asarray(NETWORK.initial("he", 1)), k.asarray(normalise(stamps)[0]))


@pytest.fixture
def stamps(rng):
    return np.float32(rng.normal(100, 30, size=(23, 21, 21, 4)))


def test_four_turns_of_a_stamp_score_alike(k, stamps):
    upright = scores(k, stamps)
    for turns in (1, 2, 3):
        np.testing.assert_array_equal(scores(k, np.rot90(stamps, turns, axes=(1, 2))), upright)


def test_scores_come_from_four_copies_of_the_stamp(k, stamps):
    """Each of the four rotated copies counts: perturbing any one of them changes the score.

    It is perturbed between the slice and the first convolution, so no canonical orientation and no
    remembered score could pass.
    """
    params = k.asarray(NETWORK.initial("he", 1))
    views, sliced = NETWORK.views(params), k.asarray(normalise(stamps[:2])[0])
    for layer in NETWORK.layers[:2]:
        sliced, _ = layer.forward(k, {}, sliced, SCORE)

    def finish(x):
        for layer, p in list(zip(NETWORK.layers, views, strict=True))[2:]:
            x, _ = layer.forward(k, p, x, SCORE)
        return x

    whole = finish(sliced)
    np.testing.assert_array_equal(whole, scores(k, stamps[:2]))
    for copy in range(4):
        perturbed = sliced.copy()
        perturbed[2 * copy, 10:15, 10:15] += 0.5
        assert (finish(perturbed)[0] != whole[0]).any()
        np.testing.assert_array_equal(finish(perturbed)[1], whole[1])


def test_a_stamp_scores_the_same_in_any_batch(k, stamps):
    together = scores(k, stamps)
    for i in (0, 7, 22):
        np.testing.assert_array_equal(scores(k, stamps[i : i + 1])[0], together[i])
    order = np.random.default_rng(0).permutation(len(stamps))
    np.testing.assert_array_equal(scores(k, stamps[order]), together[order])
    np.testing.assert_array_equal(scores(k, stamps[3:20]), together[3:20])


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
@pytest.mark.parametrize("size, channels, count", [(21, 4, 7), (13, 1, 3), (26, 3, 1)])
def test_scoring_depth_first_has_the_bits_of_layer_by_layer(k, arch, size, channels, count, rng):
    """Maps of 24x24, 16x16 and 29x29: tiles that fit, that reach beyond the map, an odd last row to pool."""
    network = architectures.build(arch, size, channels)
    params = k.asarray(network.initial("authors", 3))
    x = k.asarray(rng.uniform(size=(count, size, size, channels)))
    found, by_layers = (network.forward_rotations(one, params, x) for one in (k, replace(k, chain=None)))
    for one, other in zip(found, by_layers, strict=True):
        np.testing.assert_array_equal(k.to_host(one), k.to_host(other))
    np.testing.assert_array_equal(k.to_host(network.forward(k, params, x)), k.to_host(found.logits))


@pytest.mark.parametrize("arch", ["cap", "deephits"])
@pytest.mark.parametrize("size, channels, count", [(21, 4, 7), (13, 1, 3), (26, 3, 1)])
@pytest.mark.parametrize("to_input", [False, True])
def test_training_depth_first_has_the_bits_of_layer_by_layer(arch, size, channels, count, to_input, rng):
    """Logits, gradients, and the gradient of the stamps: there the first convolution goes alone."""
    network, k = architectures.build(arch, size, channels), get_kernels("cpu")
    params = k.asarray(network.initial("authors", 3))
    x, dy = k.asarray(rng.uniform(size=(count, size, size, channels))), k.asarray(rng.normal(size=(count, 2)))
    results = []
    for one in k, replace(k, row=None):
        logits, tape = network.record(one, params, x, Train(1, 2))
        grads = k.zeros((network.size,))
        dx = network.backward(one, params, grads, tape, dy, to_input=to_input)
        winners = [saved.winner for saved in tape if getattr(saved, "winner", None) is not None]
        results.append([logits, grads, *winners] + ([dx] if to_input else []))
    assert results[0][1].any()
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_the_cpu_scores_the_papers_networks_depth_first(arch):
    k = get_kernels("cpu")
    assert k.chain.takes(architectures.build(arch).form) == (arch != "cap-mini")
    assert not k.chain.takes(architectures.build(arch, channels=5).form)


def test_which_rows_of_convolutions_the_cpu_takes():
    k = get_kernels("cpu")
    few, many, odd = (k.zeros(shape) for shape in ((4, 4, 4, 32), (3, 3, 32, 32), (5, 5, 32, 32)))
    row = [Convolution(few, few[0, 0, 0], 0, 0.0, 1), Convolution(many, many[0, 0, 0], 1, 0.0, 2)]
    assert k.row.takes(row, wanted=False) and not k.row.takes(row, wanted=True)
    assert k.row.takes(row[1:] * 2, wanted=True)
    assert not k.row.takes([row[1], row[0]], wanted=False)
    assert not k.row.takes([row[0]._replace(pool=2), row[1]], wanted=False)
    assert not k.row.takes([row[0], row[1]._replace(w=odd)], wanted=False)


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one thread")
def test_gradients_do_not_depend_on_the_threads(arch, rng):
    network = architectures.build(arch)
    params, x = network.initial("he", 2), rng.uniform(size=(9, 21, 21, 4))
    results = []
    for threads in (1, 2):
        k = get_kernels("cpu", threads)
        p, grads = k.asarray(params), k.zeros((network.size,))
        logits, tape = network.record(k, p, k.asarray(x), Train(3, 4))
        loss, dz = k.softmax.cross_entropy(logits, k.asindex(np.arange(9) % 2), k.asarray([1.0, 1.0]))
        network.backward(k, p, grads, tape, dz)
        results.append((logits, loss, grads))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
