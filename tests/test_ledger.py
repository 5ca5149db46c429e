"""The ledger of relevance: every layer closes, for every rule, and each line is what its name says."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotinv.lrp import composites
from rotinv.lrp.attribution import Question
from rotinv.lrp.composites import Composite
from rotinv.lrp.ledger import LINES, audit_on_device, ledger
from rotinv.lrp.ledger_report import Audit
from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus
from rotinv.nn import architectures
from rotinv.nn.cyclic import CyclicConcat, CyclicMax, CyclicMean, CyclicRoll, CyclicSlice
from rotinv.nn.devices import exact_kernels, get_kernels
from rotinv.nn.layers import Activation, AveragePool2d, Built, Flatten, Layer, MaxPool2d, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network

REFERENCE = get_kernels("reference")


def through(layers, in_shape, params, x, rule, k=REFERENCE, target=0):
    """The entries of a network of such layers by name, and its parameters in order."""
    network = Network(layers, in_shape)
    flat = np.concatenate([np.ravel(p) for p in params]) if params else np.zeros(0)
    return ledger(k, REFERENCE, network, k.asarray(flat), k.asarray(x), Composite.everywhere(rule), target)[1]


def lines(entry):
    """A single stamp's lines that are not 0."""
    return {name: pytest.approx(amounts[0]) for name, amounts in entry.lines.items() if amounts[0] != 0}


def assert_closes(entries, tolerance=1e-12):
    largest = max(np.abs(entry.received).max() for entry in entries)
    for entry in entries:
        assert np.abs(entry.closing_error).max() <= tolerance * largest, entry.layer


def test_bias_by_hand():
    """x = (1, 1), W = (1, -1), b = -1, so z = -1: R = (-2, 1/2), and the bias takes 1/2 of its side's -2."""
    (entry,) = through([Dense(1)], (2,), [[1, -1], [-1]], [[1, 1]], AlphaBeta(2, 1))
    assert (entry.received[0], entry.passed[0]) == (-1, -1.5)
    assert lines(entry) == {"bias_negative": 0.5}


def test_one_sided_units_by_hand():
    """z = 3 has no negative side: Eq. 4 read literally hands down twice its relevance."""
    case = ([Dense(1)], (1,), [[3], [0]], [[1]])
    (literal,) = through(*case, AlphaBeta(2, 1))
    assert (literal.received[0], literal.passed[0]) == (3, 6)
    assert lines(literal) == {"one_sided": -3}
    (conserve,) = through(*case, AlphaBeta(2, 1, one_sided="conserve"))
    assert conserve.passed[0] == 3
    assert lines(conserve) == {}


def test_stabiliser_and_dead_units_by_hand():
    (entry,) = through([Dense(1)], (1,), [[1], [0]], [[1]], Epsilon(0.5))
    assert lines(entry) == {"stabiliser": 1 / 3}
    layers, params = [Dense(1), Dense(1)], [[1], [0], [0], [2]]
    last, first = through(layers, (1,), params, [[0]], Flat())  # z = b = 2, but the input is 0
    assert lines(last) == {}
    assert first.received[0] == 2
    last, _ = through(layers, (1,), params, [[0]], ZPlus())  # without the bias nothing is left to share
    assert lines(last) == {"dead": 2}


def test_crop_by_hand():
    """Flat hands the same to each of 9 pixels, of which one is the stamp's own."""
    layers = [ZeroPad(1), Conv2d(1, 3), Flatten(), Dense(1)]
    entries = through(layers, (1, 1, 1), [np.ones(9), [0], [1], [0]], [[[[1.0]]]], Flat())
    assert lines(entries[-1]) == {"crop": 8 / 9}
    assert entries[-1].passed[0] == pytest.approx(1 / 9)


def test_a_mean_of_zeros_is_dead_where_it_shares_by_proportion(k):
    """Rules that do not look at the input share equally: R / 16 to each pixel of each rotation."""
    network = Network([CyclicSlice(), Flatten(), CyclicMean(), Dense(2)], (2, 2, 1))
    params, black = np.concatenate([np.ones(8), [1, 1]]), np.zeros((1, 2, 2, 1))

    def entries(rest):
        composite = Composite(WSquare(), rest, rest)  # the dense layer is the first with weights
        return ledger(k, REFERENCE, network, k.asarray(params), k.asarray(black), composite)[1]

    assert lines(entries(ZPlus())[1]) == {"dead": 1}
    for rule in (WSquare(), Flat()):
        _, mean, _, slice_ = entries(rule)
        assert lines(mean) == {}
        np.testing.assert_allclose(mean.below, 1 / 16)
        np.testing.assert_allclose(slice_.below, 1 / 4)


def test_average_pooling_shares_as_its_rule_says(k):
    layers = [AveragePool2d(2), Flatten(), Dense(1)]
    case = (layers, (2, 2, 1), [[4], [0]], [[[[1], [3]], [[0], [0]]]])
    assert through(*case, ZPlus(), k)[2].below.ravel().tolist() == [1, 3, 0, 0]
    assert through(*case, Flat(), k)[2].below.ravel().tolist() == [1, 1, 1, 1]
    case = (layers, (2, 2, 1), [[4], [2]], np.zeros((1, 2, 2, 1)))
    assert lines(through(*case, Epsilon(0.0), k)[2]) == {}  # the dense layer's bias has taken all there is
    assert through(*case, WSquare(), k)[2].below.ravel().tolist() == [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("rule", composites.COMPOSITES)
@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_every_layer_closes(k, rng, arch, rule):
    """To 1e-12 on every device; what float32 rounds is a line, below 1e-5 of the output's relevance, and
    where a rule divides by sums that cancel below 1e-4."""
    network = architectures.build(arch, 13, 2)
    params = network.initial("he", 1) + 0.05 * rng.normal(size=network.size)
    x = rng.uniform(size=(2, 13, 13, 2))
    _, entries = ledger(k, REFERENCE, network, k.asarray(params), k.asarray(x), composites.named(rule))
    assert len(entries) == len(network.layers)
    assert_closes(entries)
    cancels = "epsilon" in rule or rule == "zero"
    small = 1e-12 if k.device == "reference" else 1e-4 if cancels else 1e-5
    for entry in entries:
        assert np.all(np.abs(entry.lines["rounding"]) <= small * np.abs(entries[0].received)), entry.layer


def test_a_kernel_that_is_wrong_shows_as_rounding(cpu, rng):
    """The float64 judge computes the products anew."""
    network = architectures.build("cap-mini", 13, 1)
    params = cpu.asarray(network.initial("he", 1))
    wrong = replace(cpu, dense=_Wrong(cpu.dense))
    x = cpu.asarray(rng.uniform(size=(1, 13, 13, 1)))
    _, entries = ledger(wrong, REFERENCE, network, params, x, composites.named("zplus"))
    assert_closes(entries)
    assert entries[0].lines["rounding"][0] == pytest.approx(-0.01 * entries[0].received[0], rel=1e-4)


class _Wrong:
    """Dense kernels that hand down one per cent too much."""

    def __init__(self, dense):
        self.dense = dense

    def __getattr__(self, name):
        return getattr(self.dense, name)

    def redistribute(self, *arguments):
        return np.float32(1.01) * self.dense.redistribute(*arguments)


def test_an_account_that_is_wrong_does_not_close(rng):
    class Forgetful(Epsilon):
        def account(self, *arguments):
            taken = super().account(*arguments)
            return taken._replace(stabiliser=0 * taken.stabiliser)

    (entry,) = through([Dense(1)], (1,), [[1], [0]], [[1]], Forgetful(0.5))
    assert entry.closing_error[0] == pytest.approx(1 / 3)


class _KeepsHalf(Layer):
    """A layer of somebody who forgot to declare what it does not hand down."""

    name = "half"

    def init(self, shape):
        return Built(shape, {})

    def forward(self, k, p, x, mode):
        return x, None

    def backward(self, k, p, g, saved, dy, wanted):
        return dy

    def relevance(self, k, p, saved, r, rule):
        return r / 2


class _DeclaresHalf(_KeepsHalf):
    def lost(self, k, saved, r, rule):
        return {"dead": r / 2}


def test_a_layer_that_keeps_relevance_in_silence_does_not_close(k):
    """The closing error is what it kept, the audit names the layer; one that declares it closes."""
    network, x = Network([_KeepsHalf(), Dense(1)], (2,)), np.array([[1.0, 3.0]])
    answers = audit_on_device(k, network, np.array([1.0, 1, 0]), x, Composite.everywhere(Epsilon(0.0)), 0)
    ((logits, entries, deviations),) = answers
    assert entries[1].lines["rounding"][0] == 0
    assert entries[1].closing_error[0] == 2
    audit = Audit("run", Question(), 0, None, logits, 0.5, entries, deviations)
    assert list(audit.not_closed()) == [("half", 2)]
    layers = [_DeclaresHalf(), Dense(1)]
    entries = through(layers, (2,), [[1, 1], [0]], x, Epsilon(0.0), k)
    assert_closes(entries)
    assert lines(entries[1]) == {"dead": 2}


RULES = st.one_of(
    st.sampled_from([ZPlus(), WSquare(), Flat(), ZBox(-200, 200), Gamma(), Gamma(0.5, 1e-3)]),
    st.builds(Epsilon, st.sampled_from([0.0, 1e-6, 0.1])),
    st.builds(
        lambda beta, eps, one: AlphaBeta(1 + beta, beta, eps, one),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        st.sampled_from([0.0, 1e-3]),
        st.sampled_from(["literal", "conserve"]),
    ),
)
MIDDLES = st.lists(
    st.sampled_from(
        [
            ZeroPad(1),
            AveragePool2d(2),
            MaxPool2d(2),
            Activation(0.1),
            CyclicRoll(),
            Conv2d(2, 3, pad=1, slope=0.0),
            Conv2d(1, 2, pad=1, slope=0.01, pool=2),
        ]
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    middle=MIDDLES,
    join=st.sampled_from([CyclicMean(), CyclicMax(), CyclicConcat()]),
    rule=RULES,
    target=st.sampled_from(["predicted", "difference", "one", 1]),
    number=st.integers(0, 2**32 - 1),
)
def test_small_networks_close(middle, join, rule, target, number):
    """Any layers in a row, weights and stamps of either sign, a third of the weights and pixels zero."""
    rng = np.random.default_rng(number)
    layers = (ZeroPad(1), CyclicSlice(), Conv2d(2, 3, pad=1, slope=0.0), *middle, Flatten(), join, Dense(2))
    network = Network(layers, (9, 9, 2))
    params, x = rng.normal(size=network.size), rng.normal(size=(2, 9, 9, 2))
    params[rng.uniform(size=params.shape) < 1 / 3] = 0
    x[rng.uniform(size=x.shape) < 1 / 3] = 0
    _, entries = ledger(REFERENCE, REFERENCE, network, params, x, Composite.everywhere(rule), target)
    assert_closes(entries)


@pytest.mark.parametrize("rule", ["alpha2beta1", "epsilon-gamma-box"])
def test_in_fractions_nothing_is_left(rng, rule):
    """A small network by exact arithmetic: the error is 0, not small, and the reference agrees."""
    layers = (
        ZeroPad(1),
        CyclicSlice(),
        Conv2d(1, 3, slope=0.01, pool=2),
        Flatten(),
        Dense(2, 0.0),
        CyclicMean(),
        Dense(2),
    )
    network, composite, k = Network(layers, (4, 4, 1)), composites.named(rule), exact_kernels()
    params = network.initial("he", 4) + 0.1 * rng.normal(size=network.size)
    x = rng.uniform(size=(1, 4, 4, 1))
    twin = Network([composites.with_fractions(layer) for layer in layers], network.in_shape)
    _, exact = ledger(k, k, twin, k.asarray(params), k.asarray(x), composites.as_fractions(composite))
    _, close = ledger(REFERENCE, REFERENCE, network, params, x, composite)
    for entry, near in zip(exact, close, strict=True):
        assert entry.closing_error[0] == 0
        assert entry.lines["rounding"][0] == 0
        assert all(isinstance(r, Fraction) for r in entry.below.flat)
        for line in LINES:
            assert float(entry.lines[line][0]) == pytest.approx(near.lines[line][0], abs=1e-12)
        np.testing.assert_allclose(np.float64(entry.below), near.below, rtol=0, atol=1e-12)
