"""Layers, networks, architectures and weights from elsewhere."""

import h5py
import numpy as np
import pytest
from conftest import DEVICES, EMULATED, kernels_of

from rotinv import architectures as table_program
from rotinv.lrp import composites
from rotinv.lrp.ledger import Widener
from rotinv.lrp.relevance import relevance
from rotinv.nn import architectures
from rotinv.nn.cyclic import CyclicConcat, CyclicMax, CyclicMean, CyclicRms, CyclicRoll, CyclicSlice
from rotinv.nn.layers import SCORE, Activation, AveragePool2d, Dropout, Flatten, MaxPool2d, Train, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.system.errors import UserError

SMALL = {
    "cap": architectures.build("cap", 13, 2),
    "deephits": architectures.build("deephits", 14, 3),
    "deephits-relu": architectures.build("deephits-relu", 13, 1),
    "cyclic max": Network(
        (CyclicSlice(), Conv2d(3, 3, 1, slope=0.01), CyclicMax(), MaxPool2d(2), Flatten(), Dense(2)),
        (6, 6, 2),
    ),
    "cyclic rms": Network(
        (CyclicSlice(), Conv2d(3, 2), CyclicRms(), Flatten(), Dense(4), Activation(0.1), Dense(2)), (5, 5, 2)
    ),
    "cyclic roll": Network(
        (
            CyclicSlice(),
            Conv2d(2, 3, slope=0.1),
            CyclicRoll(),
            Conv2d(3, 2),
            CyclicMean(),
            Flatten(),
            Dense(2),
        ),
        (6, 6, 1),
    ),
    "average pooling": Network(
        (ZeroPad(1), Conv2d(3, 3, pool=2), AveragePool2d(2), Flatten(), Dropout(0.3, 5), Dense(3)), (9, 9, 2)
    ),
    "concatenated maps": Network(
        (CyclicSlice(), Conv2d(2, 3, 1), CyclicConcat(), Conv2d(2, 3, slope=0.2), Flatten(), Dense(2)),
        (5, 5, 2),
    ),
}


def stamps(rng, network, n=3):
    return rng.uniform(size=(n, *network.in_shape))


@pytest.mark.parametrize("arch, count", [("deephits", 697_858), ("deephits-relu", 697_858), ("cap", 255_490)])
def test_parameter_counts_are_the_papers(arch, count):
    assert architectures.build(arch).size == count


def test_table_of_cap(capsys):
    assert table_program.main(["cap"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["21x21x4", "27x27x4", "27x27x4", "24x24x32"]
    assert lines[-1].split() == ["total", "255,490"]
    assert sum(int(line[26:38].replace(",", "")) for line in lines[1:-1]) == 255_490


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
@pytest.mark.parametrize("size, channels", [(13, 1), (14, 3), (21, 4), (22, 2), (63, 3)])
def test_any_stamp_scores(cpu, rng, arch, size, channels):
    network = architectures.build(arch, size, channels)
    logits = network.forward(cpu, cpu.asarray(network.initial("he", 0)), cpu.asarray(stamps(rng, network, 1)))
    assert logits.shape == (1, 2) and np.isfinite(logits).all()


@pytest.mark.parametrize(
    "arguments, message",
    [(("resnet",), "not known"), (("cap", 12), "too small"), (("deephits", 5), "too small")],
)
def test_what_cannot_be_built_is_said(arguments, message):
    with pytest.raises(UserError, match=message):
        architectures.build(*arguments)


def test_only_square_stamps_are_turned():
    with pytest.raises(UserError, match="square"):
        Network((CyclicSlice(),), (5, 6, 1))


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_the_slope_of_the_logits(reference, rng, name):
    """Along random directions, <gradient, direction> is the centred difference of <logits, dy>.

    A step that crosses a kink of an activation or a maximum is no test of the gradient; the smallest
    deviation over a few directions is of one that crosses none.
    """
    network, k = SMALL[name], reference
    params, x = network.initial("he", 3), stamps(rng, network)
    dy = rng.normal(size=network.forward(k, params, x).shape)
    mode = Train(seed=5, step=9)
    _, tape = network.record(k, params, x, mode)
    grads = np.zeros(network.size)
    dx = network.backward(k, params, grads, tape, dy, to_input=True)

    def value(eps, u, v):
        y, _ = network.record(k, params + eps * u, x + eps * v, mode)
        return np.sum(y * dy)

    deviations = []
    for eps in (1e-8, 1e-9):
        for _ in range(4):
            u, v = rng.normal(size=network.size), rng.normal(size=x.shape)
            slope = (value(eps, u, v) - value(-eps, u, v)) / (2 * eps)
            deviations.append(abs(grads @ u + np.sum(dx * v) - slope) / (1 + abs(slope)))
    assert min(deviations) < 1e-6
    assert np.median(deviations) < 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_cpu_agrees_with_the_reference(reference, cpu, rng, name):
    """The reference goes backward over the cpu's tape, so that both take the same branches."""
    network, mode = SMALL[name], Train(1, 2)
    params, x = np.float32(network.initial("he", 3)), np.float32(stamps(rng, network))
    y, tape = network.record(cpu, params, x, mode)
    dy = cpu.asarray(rng.normal(size=y.shape))
    grads, exact = cpu.zeros((network.size,)), np.zeros(network.size)
    dx = network.backward(cpu, params, grads, tape, dy, to_input=True)
    exact_y, _ = network.record(reference, np.float64(params), np.float64(x), mode)
    tape = Widener(cpu, reference)(tape)
    exact_dx = network.backward(reference, np.float64(params), exact, tape, np.float64(dy), to_input=True)
    for found, expected in ((y, exact_y), (grads, exact), (dx, exact_dx)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", SMALL)
def test_each_rotations_own_logits(k, rng, name):
    """The logits are those of forward; a network that brings no rotations together says why it has none."""
    network = SMALL[name]
    params, x = k.asarray(network.initial("he", 3)), k.asarray(stamps(rng, network))
    if name == "average pooling":
        with pytest.raises(UserError, match="no layer that brings rotations together"):
            network.forward_rotations(k, params, x)
        return
    logits, alone, units = network.forward_rotations(k, params, x)
    np.testing.assert_array_equal(k.to_host(logits), k.to_host(network.forward(k, params, x)))
    last, _ = network.layers[-1].forward(k, network.views(params)[-1], units, SCORE)
    np.testing.assert_array_equal(k.to_host(last), k.to_host(logits))
    assert alone.shape == (4, len(x), logits.shape[1])
    assert not np.array_equal(k.to_host(alone)[0], k.to_host(alone)[1])


def test_initial_weights():
    network = architectures.build("cap")
    named = checkpoints.to_named(network, network.initial("he", 0))
    for name, fan_in in (("conv2/w", 288), ("dense1/w", 2304)):
        assert named[name].std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.03)
    assert not named["conv2/b"].any()
    named = checkpoints.to_named(network, network.initial("authors", 0))
    assert np.abs(named["dense1/w"]).max() <= 0.1 and named["dense1/w"].std() == pytest.approx(
        0.044, rel=0.02
    )
    assert (named["dense3/b"] == 0.05).all()
    assert not np.array_equal(network.initial("he", 0), network.initial("he", 1))


def test_weights_by_name_come_back():
    network = architectures.build("deephits", 13, 2)
    params = network.initial("he", 0)
    named = checkpoints.to_named(network, params)
    assert list(named)[:3] == ["conv1/w", "conv1/b", "conv2/w"] and list(named)[-1] == "dense3/b"
    np.testing.assert_array_equal(checkpoints.from_named(network, named, "test"), params)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("dense2/b"), "has no weights dense2/b"),
        (lambda a: a.update({"conv9/w": a["conv1/w"]}), "conv9/w belongs to no layer"),
        (lambda a: a.update({"conv1/w": a["conv1/w"][:, :, :1]}), "conv1/w has shape"),
        (lambda a: a.update({"conv1/b": np.full(32, np.nan)}), "not finite"),
        (lambda a: a.update({"conv1/b": np.full(32, "x")}), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    network = architectures.build("cap", 13, 2)
    named = checkpoints.to_named(network, network.initial("he", 0))
    change(named)
    with pytest.raises(UserError, match=message):
        checkpoints.from_named(network, named, "FILE")


@pytest.mark.parametrize(
    "device, precision, tolerance",
    [(device, "fp32", 1e-5) for device in DEVICES[:2]]
    + [
        pytest.param("cuda-emulated", "fp32", 1e-5, marks=EMULATED.marks),
        pytest.param("cuda-emulated", "tf32", 5e-3, marks=EMULATED.marks),
    ],
)
def test_authors_cap_on_real_alerts(real_data, device, precision, tolerance):
    check_authors_cap(kernels_of(device, precision), real_data, tolerance)


def check_authors_cap(k, folder, tolerance):
    """The paper's own network gives its known probabilities on 47 Rubin alerts."""
    path = folder / "authors_cap_3channel.h5"
    network = architectures.build("cap", 21, 3)
    params = k.asarray(checkpoints.from_named(network, checkpoints.read_named(path), str(path)))
    with h5py.File(path) as file:
        x = np.moveaxis(file["check/rubin_input_nchw"][()], 1, 3)
        expected = file["check/rubin_p_candidate"][()]
    p = k.to_host(k.softmax.forward(network.forward(k, params, k.asarray(x))))[:, 1]
    np.testing.assert_allclose(p, expected, atol=tolerance)
    np.testing.assert_array_equal(p > 0.5, expected > 0.5)


def test_a_network_without_weights(k, rng):
    """Has nothing to learn, and hands gradients and relevance on as they are."""
    network = Network([Flatten()], (2, 1, 1))
    params, grads, x = k.zeros((0,)), k.zeros((0,)), k.asarray(rng.uniform(size=(3, 2, 1, 1)))
    z, tape = network.record(k, params, x, SCORE)
    assert network.backward(k, params, grads, tape, z) is None
    dx = network.backward(k, params, grads, tape, z, to_input=True)
    np.testing.assert_array_equal(k.to_host(dx), k.to_host(x))
    found = relevance(k, network, params, x, composites.named("alpha2beta1"), 1)
    np.testing.assert_array_equal(k.to_host(found.relevance[0])[:, 1], k.to_host(x)[:, 1])
