"""Layer-wise relevance propagation: literal numbers, theorems, and every rule against z_ij written out."""

import numpy as np
import pytest
from conftest import assert_close

from rotinv.lrp import composites, targets
from rotinv.lrp.composites import Composite
from rotinv.lrp.relevance import relevance
from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus
from rotinv.nn import architectures
from rotinv.nn.cyclic import CyclicMax, CyclicRms, CyclicRoll, CyclicSlice
from rotinv.nn.layers import SCORE, AveragePool2d, Flatten, MaxPool2d, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.system.errors import UserError


def through_dense(k, rule, a, w, b, r):
    """R of the inputs a (c,) of one dense layer with weights w (c, o)."""
    a, r = k.asarray([a]), k.asarray([r])
    p = {"w": k.asarray(w), "b": k.asarray(b)}
    layer = Dense(len(b))
    _, traced = layer.forward_signed(k, p, a)
    return layer.relevance(k, p, traced, r, rule)[0]


def test_alpha_beta_by_hand(k):
    case = ([1, 1], [[1], [-1]], [-1], [-1])
    assert_close(through_dense(k, AlphaBeta(1, 0), *case), [-1, 0])
    assert_close(through_dense(k, AlphaBeta(2, 1), *case), [-2, 0.5])


def test_rule_0_by_hand(k):
    found = through_dense(k, Epsilon(0), [1, 2], [[3, 5], [4, 6]], [7, 8], [1 / 3, 2 / 3])
    assert_close(found, [17 / 90, 316 / 675])


def test_negative_inputs_by_hand(k):
    assert_close(through_dense(k, AlphaBeta(1, 0), [-1, -2], [[1], [-1]], [0], [5]), [0, 5])


def test_max_pool_of_overlapping_windows_by_hand(k):
    """The 2x2 windows of a 3x3 map, cut out side by side, for our pooling has stride 2; the sum of what
    each window hands to its winner is what stride 1 would."""
    a = k.asarray([[1, 2, 3], [10, 5, 6], [7, 8, 9]])
    places = [(i, j) for i in (0, 1) for j in (0, 1)]
    windows = np.concatenate([a[i : i + 2, j : j + 2] for i, j in places], axis=1)[None, :, :, None]
    layer, r = MaxPool2d(2), k.asarray(np.array([[1, 2, 3, 4]])[:, None, :, None] / 30)
    _, saved = layer.forward(k, {}, k.asarray(windows), SCORE)
    below = layer.relevance(k, {}, saved, r, Epsilon())[0, :, :, 0]
    total = np.zeros((3, 3), k.dtype)
    for n, (i, j) in enumerate(places):
        total[i : i + 2, j : j + 2] += below[:, 2 * n : 2 * n + 2]
    assert_close(total, np.array([[0, 0, 0], [4, 0, 2], [0, 0, 4]]) / 30)


def test_two_layers_by_hand(k):
    network = Network((Dense(3), Dense(3)), (3,))
    params = np.zeros(network.size)
    first, second = network.views(params)
    first["w"][...] = 2
    first["w"][0, 0] = -2
    second["w"][...] = 3 * np.eye(3)
    r = through_dense(k, AlphaBeta(1, 0), [8, 12, 12], second["w"], [0, 0, 0], [24, 36, 36])
    assert_close(through_dense(k, AlphaBeta(1, 0), [1, 2, 3], first["w"], [0, 0, 0], r), [12, 33.6, 50.4])


def test_a_small_convolutional_network_by_hand(k):
    network = Network((Conv2d(2, 3, slope=0.0), Flatten(), Dense(1)), (4, 4, 1))
    params = np.zeros(network.size)
    convolution, _, dense = network.views(params)
    convolution["w"][...], convolution["b"][...] = 1, (-50, -75)
    dense["w"].reshape(2, 2, 2)[...] = (1, -1)  # the first filter's maps count, the second's against
    dense["w"].reshape(2, 2, 2)[0, 0, 1] = 1
    x = k.asarray(np.arange(16).reshape(1, 4, 4, 1))
    trail = relevance(k, network, k.asarray(params), x, Composite.everywhere(Epsilon(1e-13)))
    assert_close(trail.logits, [[54]])
    maps = np.asarray(trail.relevance[1][0])
    assert_close(maps[:, :, 0], [[0, 4], [31, 40]])
    assert_close(maps[:, :, 1], [[0, 0], [-6, -15]])
    expected = [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]
    assert_close(trail.relevance[0][0, :, :, 0], expected)


def explicit(rule, a, w, b, r):
    """R_i from the matrix z_ij, one output at a time, as the equations are written."""
    found = np.zeros(len(a))
    for j in range(len(b)):
        match rule:
            case WSquare():
                found += w[:, j] ** 2 / np.sum(w[:, j] ** 2) * r[j]
                continue
            case Flat():
                found += r[j] / len(a)
                continue
            case ZBox(low, high):
                z = a * w[:, j] - low * np.maximum(w[:, j], 0) - high * np.minimum(w[:, j], 0)
                found += z / z.sum() * r[j]
                continue
        z = a * w[:, j]
        pos, neg = np.maximum(z, 0), np.minimum(z, 0)
        z_pos, z_neg = pos.sum() + max(b[j], 0), neg.sum() + min(b[j], 0)
        match rule:
            case Epsilon(eps):
                total = z_pos + z_neg
                found += z / (total + (eps if total >= 0 else -eps)) * r[j]
            case Gamma(gamma):
                more = pos if z_pos + z_neg >= 0 else neg
                whole = z_pos if z_pos + z_neg >= 0 else z_neg
                found += (z + gamma * more) / (z_pos + z_neg + gamma * whole) * r[j]
            case AlphaBeta(alpha, beta):
                found += (alpha * pos / z_pos - beta * neg / z_neg) * r[j]
            case ZPlus():
                found += pos / pos.sum() * r[j]
    return found


RULES = [
    Epsilon(0), Epsilon(0.1), Gamma(0.25), AlphaBeta(2, 1), AlphaBeta(1, 0), AlphaBeta(3, 2), ZPlus(),
    WSquare(), Flat(), ZBox(-3, 4),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_each_rule_against_its_equation(k, rng, rule):
    """Inputs of both signs, biases of both signs."""
    for _ in range(3):
        a, w = rng.normal(size=40).clip(-2.9, 3.9), rng.normal(size=(40, 4))
        b, r = rng.normal(size=4), rng.normal(size=4)
        a, w, b, r = (np.float64(np.float32(array)) for array in (a, w, b, r))
        assert_close(through_dense(k, rule, a, w, b, r), explicit(rule, a, w, b, r))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_convolution_is_a_dense_layer_on_each_window(k, rng, rule):
    """One window: the whole image, which is 3 x 3 pixels of 2 channels."""
    a, w = rng.normal(size=(1, 3, 3, 2)).clip(-2.9, 3.9), rng.normal(size=(3, 3, 2, 5))
    b, r = rng.normal(size=5), rng.normal(size=5)
    a, w, b, r = (np.float64(np.float32(array)) for array in (a, w, b, r))
    layer, p = Conv2d(5, 3), {"w": k.asarray(w), "b": k.asarray(b)}
    _, traced = layer.forward_signed(k, p, k.asarray(a))
    found = layer.relevance(k, p, traced, k.asarray(r.reshape(1, 1, 1, 5)), rule)
    expected = explicit(rule, a.reshape(-1), w.reshape(-1, 5), b, r)
    assert_close(found, expected.reshape(a.shape))


def test_one_sided_units(k):
    """z- is empty: Eq. 4 hands down twice R, `conserve` hands down R; dead units hand down nothing."""
    case = ([1, 3], [[1, 0], [1, 0]], [0, 0], [4, 5])
    assert_close(through_dense(k, AlphaBeta(2, 1), *case), [2, 6])
    assert_close(through_dense(k, AlphaBeta(2, 1, one_sided="conserve"), *case), [1, 3])
    assert_close(through_dense(k, Epsilon(0), *case), [1, 3])


def random_network(arch, biases, channels=4):
    network = architectures.build(arch, 21, channels, 0.5)
    params = network.initial("he", 3)
    rng = np.random.default_rng(4)
    for views in network.views(params):
        if "b" in views:
            views["b"][...] = rng.normal(0, biases, views["b"].shape) if biases else 0
    return network, np.float64(np.float32(params))


def stamps(rng, n=2, channels=4):
    return np.float64(rng.uniform(size=(n, 21, 21, channels)).astype(np.float32))


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_rule_0_is_gradient_times_input(reference, rng, arch):
    network, params = random_network(arch, biases=0.05)
    x = stamps(rng)
    trail = relevance(reference, network, params, x, composites.named("zero"))
    _, tape = network.record(reference, params, x, SCORE)
    one_hot = np.float64(trail.relevance[-1] != 0)
    gradient = network.backward(reference, params, np.zeros(network.size), tape, one_hot, to_input=True)
    np.testing.assert_allclose(
        trail.relevance[0], x * gradient, rtol=0, atol=1e-12 * np.abs(x * gradient).max()
    )


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_nothing_is_lost_without_biases(reference, rng, arch):
    network, params = random_network(arch, biases=0)
    composite = Composite.everywhere(AlphaBeta(2, 1, one_sided="conserve"))
    trail = relevance(reference, network, params, stamps(rng), composite)
    totals = np.array([r.sum() for r in trail.relevance])
    scale = max(np.abs(r).sum() for r in trail.relevance)
    np.testing.assert_allclose(totals, totals[-1], rtol=0, atol=1e-12 * scale)


def test_alpha1_beta0_without_bias_is_zplus(k, rng):
    network, params = random_network("cap", biases=0)
    x = k.asarray(stamps(rng))
    one = relevance(k, network, k.asarray(params), x, composites.named("alpha1beta0"))
    other = relevance(k, network, k.asarray(params), x, composites.named("zplus"))
    np.testing.assert_array_equal(one.relevance[0], other.relevance[0])


@pytest.mark.parametrize("rule", ["alpha2beta1", "epsilon", "epsilon-plus-flat"])
def test_the_map_of_a_turned_stamp_is_the_turned_map(k, rng, rule):
    """H(r x) = r H(x) for CAP, to the last bit."""
    network, params = random_network("cap", biases=0.05)
    x = stamps(rng)

    def heatmap(x):
        return relevance(k, network, k.asarray(params), k.asarray(x), composites.named(rule)).relevance[0]

    upright = heatmap(x)
    for turns in (1, 2, 3):
        turned = heatmap(np.rot90(x, turns, axes=(1, 2)))
        np.testing.assert_array_equal(turned, np.rot90(upright, turns, axes=(1, 2)))


@pytest.mark.parametrize("rule", composites.COMPOSITES)
@pytest.mark.parametrize("arch", ["cap", "deephits"])
def test_cpu_against_the_reference(cpu, reference, rng, arch, rule):
    """To 1e-4 of the largest; zero and epsilon divide by sums that may cancel, so to 1e-2."""
    network, params = random_network(arch, biases=0.05)
    x = stamps(rng, n=3)
    composite = composites.named(rule)
    exact = relevance(reference, network, params, x, composite, target=0).relevance[0]
    found = relevance(cpu, network, cpu.asarray(params), cpu.asarray(x), composite, target=0).relevance[0]
    tolerance = 1e-2 if rule in ("zero", "epsilon", "gamma") else 1e-4
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance * np.abs(exact).max())


def test_every_other_layer_keeps_relevance(k, rng):
    """Padding of a-proportional rules, maximum, mean, roll and cyclic maximum: sums stay as they are."""
    layers = (
        ZeroPad(1), CyclicSlice(), Conv2d(3, 3, pool=2), AveragePool2d(2), MaxPool2d(2), CyclicRoll(),
        CyclicMax(), Flatten(), Dense(2),
    )  # fmt: skip
    network = Network(layers, (16, 16, 1))
    params = np.abs(network.initial("he", 0))
    x = k.asarray(rng.uniform(size=(2, 16, 16, 1)))
    for target in ("predicted", 1, "probability", "one"):
        trail = relevance(k, network, k.asarray(params), x, composites.named("zplus"), target)
        assert [r.shape for r in trail.relevance[:2]] == [(2, 16, 16, 1), (2, 18, 18, 1)]
        totals = np.array([np.float64(r).sum() for r in trail.relevance])
        np.testing.assert_allclose(totals, totals[-1], rtol=1e-5)


def test_targets(reference, rng):
    network, params = random_network("cap", biases=0.05)
    x = stamps(rng)
    trails = {
        target: relevance(reference, network, params, x, composites.named("zero"), target)
        for target in ("predicted", 0, 1, "probability", "one", "difference")
    }
    z = trails["one"].logits
    at = {target: trail.relevance[-1].sum(axis=1) for target, trail in trails.items()}
    np.testing.assert_allclose(at["predicted"], z.max(axis=1))
    np.testing.assert_allclose([at[0], at[1]], z.T)
    np.testing.assert_allclose(at["one"], 1)
    np.testing.assert_allclose(at["probability"], 1 / (1 + np.exp(-np.ptp(z, axis=1))))
    np.testing.assert_allclose(at["difference"], np.ptp(z, axis=1))


def test_the_difference_of_logits_that_are_equal(reference):
    """A tie is a candidate; the runner-up is another class than the one that is explained."""
    logits = np.array([[2.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(targets.relevance(reference, logits, "difference"), [[-2, 2], [-1, 3]])


def test_what_cannot_be_is_told(reference):
    with pytest.raises(UserError, match=r"alpha3beta1.*alpha2beta1"):
        composites.named("alpha3beta1")
    with pytest.raises(UserError, match="alpha - beta must be 1"):
        AlphaBeta(2, 2)
    for rule, value in ((Epsilon, -1e-6), (Gamma, np.nan), (AlphaBeta, np.nan)):
        with pytest.raises(UserError):
            rule(value)
    with pytest.raises(UserError, match="low one must be below"):
        ZBox(1, 0)
    with pytest.raises(UserError, match="'difference' is not known"):
        targets.relevance(reference, np.ones((1, 1)), "difference")
    with pytest.raises(UserError, match="literal or conserve"):
        AlphaBeta(one_sided="both")
    network = Network((CyclicSlice(), CyclicRms(), Flatten(), Dense(2)), (4, 4, 1))
    x, params = np.ones((1, 4, 4, 1)), network.initial("he", 0)
    with pytest.raises(UserError, match=r"root-mean-square pooling.*no relevance"):
        relevance(reference, network, params, x, composites.named("zero"))
    with pytest.raises(UserError, match="target 'logit'"):
        relevance(reference, network, params, x, composites.named("zero"), "logit")
