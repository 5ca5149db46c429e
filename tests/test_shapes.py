"""Arrays that do not fit: networks and kernels refuse them, and read nothing outside of their arrays."""

import inspect
from typing import get_type_hints

import numpy as np
import pytest

from rotinv.lrp import composites
from rotinv.lrp.relevance import relevance
from rotinv.nn import architectures
from rotinv.nn.contract import FAMILIES, Array, Kernels
from rotinv.nn.depth_first import Convolution
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import SCORE
from rotinv.nn.shapes import ARRAYS
from rotinv.system.errors import UserError

NETWORK = architectures.build("cap-mini", 13, 2)
OPTIONAL = {"index"}  # arrays that may be None


def test_every_array_of_the_contract_is_declared():
    declared = {name: [one.split(":")[0] for one in text.split()] for name, text in ARRAYS.items()}
    wanted = {}
    for family, protocol in get_type_hints(Kernels).items():
        if family in FAMILIES:
            for name, function in vars(protocol).items():
                if not name.startswith("_"):
                    hints = {parameter: hint for parameter, hint in get_type_hints(function).items()}
                    parameters = list(inspect.signature(function).parameters)[1:]
                    arrays = [p for p in parameters if hints[p] == Array or p in OPTIONAL]
                    wanted[f"{family}.{name}"] = arrays
    assert declared == wanted


def params_and_stamps(k, n=3):
    rng = np.random.default_rng(1)
    return k.asarray(NETWORK.initial("he", 0)), k.asarray(rng.uniform(size=(n, 13, 13, 2)))


WRONG_STAMPS = {
    "another size": lambda k, x: k.asarray(k.to_host(x)[:, :12, :12]),
    "a channel too few": lambda k, x: k.asarray(k.to_host(x)[..., :1]),
    "a channel too many": lambda k, x: k.asarray(np.repeat(k.to_host(x), 2, axis=3)),
    "channels first": lambda k, x: k.asarray(np.moveaxis(k.to_host(x), 3, 1)),
    "one stamp alone": lambda k, x: x[0],
    "flat": lambda k, x: x.reshape(3, -1),
    "integers": lambda k, x: k.to_host(x).astype(np.int16),
    "another precision": lambda k, x: k.to_host(x).astype(np.float16),
    "turned, not copied": lambda k, x: np.rot90(k.to_host(x), axes=(1, 2)),
    "a list": lambda k, x: k.to_host(x).tolist(),
}


@pytest.mark.parametrize("wrong", WRONG_STAMPS)
def test_stamps_that_do_not_fit_are_refused(k, wrong):
    params, x = params_and_stamps(k)
    x = WRONG_STAMPS[wrong](k, x)
    for call in (
        lambda: NETWORK.forward(k, params, x),
        lambda: NETWORK.record(k, params, x, SCORE),
        lambda: NETWORK.forward_rotations(k, params, x),
        lambda: relevance(k, NETWORK, params, x, composites.named("alpha2beta1")),
    ):
        with pytest.raises(UserError, match=r"^stamps .*") as refused:
            call()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p[:, None], lambda p: p[::-1], list])
def test_parameters_that_do_not_fit_are_refused(k, change):
    params, x = params_and_stamps(k)
    for call in (NETWORK.forward, lambda *a: NETWORK.record(*a, SCORE)):
        with pytest.raises(UserError, match=r"^parameters .*"):
            call(k, change(params), x)


def test_gradients_that_do_not_fit_are_refused(k):
    params, x = params_and_stamps(k)
    logits, tape = NETWORK.record(k, params, x, SCORE)
    with pytest.raises(UserError, match=r"^gradients .*"):
        NETWORK.backward(k, params, params[:-1], tape, logits)


def test_a_row_of_convolutions_refuses_maps_that_do_not_fit():
    k = get_kernels("cpu")
    w, b = k.zeros((3, 3, 16, 16)), k.zeros((16,))
    row, x, short = [Convolution(w, b, 1, 0.0, 1)] * 2, k.zeros((2, 8, 8, 16)), k.zeros((1, 8, 8, 16))
    with pytest.raises(UserError, match=r"^kernel conv2d\.forward"):
        k.row.forward(x[..., :8], row)
    kept, grads = k.row.forward(x, row), [(k.zeros(w.shape), k.zeros(b.shape))] * 2
    fits = {"x": x, "kept": kept, "dy": x, "grads": grads}
    for name, other in (
        ("x", short),
        ("dy", short),
        ("kept", [(short, None), kept[1]]),
        ("kept", [kept[0], (kept[1][0], np.zeros(x.shape, np.uint8))]),
        ("grads", [grads[0], (w[:2], b)]),
    ):
        with pytest.raises(UserError, match=r"^kernel conv2d\.backward"):
            k.row.backward(row=row, wanted=False, **fits | {name: other})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("arch", ["cap", "deephits"])
def test_a_pixel_that_is_no_number_shows_in_its_stamps_logits(k, arch, value):
    """And in no other's; so forward need not search all pixels. No map is made of such logits."""
    network = architectures.build(arch, 13, 2)
    params = k.asarray(network.initial("he", 0))
    host = np.random.default_rng(1).uniform(size=(3, 13, 13, 2))
    host[1, 6, 5, 1] = value
    x = k.asarray(host)
    with np.errstate(invalid="ignore"):
        logits = k.to_host(network.forward(k, params, x))
        assert np.isfinite(logits).all(axis=1).tolist() == [True, False, True]
        assert not np.isfinite(logits[1]).any()
        with pytest.raises(UserError, match=r"logits .* not numbers"):
            relevance(k, network, params, x, composites.named("alpha2beta1"))


def index(*shape):
    return np.zeros(shape, np.uint8)


X, W = (2, 6, 6, 3), (3, 3, 3, 5)
Z, HALF = (2, 6, 6, 5), (2, 3, 3, 5)
REFUSED = {
    "a bias too short": lambda k, z: k.conv2d.forward(z(*X), z(*W), z(4), 1, 0.0, 1),
    "other channels": lambda k, z: k.conv2d.forward(z(*X), z(3, 3, 4, 5), z(5), 1, 0.0, 1),
    "taps that are not square": lambda k, z: k.conv2d.forward(z(*X), z(3, 2, 3, 5), z(5), 1, 0.0, 1),
    "a window larger than the map": lambda k, z: k.conv2d.forward(z(*X), z(9, 9, 3, 5), z(5), 1, 0.0, 1),
    "a negative padding": lambda k, z: k.conv2d.forward(z(*X), z(*W), z(5), -1, 0.0, 1),
    "a pooling of 3": lambda k, z: k.conv2d.forward(z(*X), z(*W), z(5), 1, 0.0, 3),
    "winners of other maps": lambda k, z: k.conv2d.epilogue_backward(
        z(*HALF), z(*HALF), index(2, 3, 2, 5), 0.0, Z
    ),
    "maps of another size": lambda k, z: k.conv2d.epilogue_backward(z(*HALF), z(*HALF), None, 0.0, Z),
    "gradients of another size": lambda k, z: k.conv2d.backward(
        z(*X), z(*W), z(*HALF), None, z(*HALF), 1, 0.0, z(*W), z(5), True
    ),
    "weights' gradients too short": lambda k, z: k.conv2d.backward(
        z(*X), z(*W), z(*Z), None, z(*Z), 1, 0.0, z(2, 3, 3, 5), z(5), True
    ),
    "other weights of contributions": lambda k, z: k.conv2d.contributions(z(*X), z(3, 3, 2, 5), z(5), 1),
    "other weights of sums": lambda k, z: k.conv2d.sums(z(*X), z(3, 3, 2, 5), z(5), 1),
    "sums that differ": lambda k, z: k.conv2d.epilogue(z(*Z), z(*HALF), 0.0, 2),
    "shares of other maps": lambda k, z: k.conv2d.redistribute(z(*X), z(*W), z(*HALF), z(*HALF), 1),
    "vectors too long": lambda k, z: k.dense.forward(z(2, 7), z(6, 5), z(5), 0.0),
    "vectors' gradients": lambda k, z: k.dense.backward_input(z(2, 4), z(6, 5)),
    "a matrix's gradient": lambda k, z: k.dense.backward_params(z(2, 6), z(2, 5), z(5, 6), z(5)),
    "vectors' sums": lambda k, z: k.dense.contributions(z(2, 6), z(6, 5), z(6)),
    "vectors' exact sums": lambda k, z: k.dense.sums(z(2, 6), z(6, 5), z(6)),
    "vectors' shares": lambda k, z: k.dense.redistribute(z(2, 6), z(6, 5), z(2, 5), z(3, 5)),
    "no window": lambda k, z: k.pool2d.max_forward(z(*X), 0),
    "a map too small for its windows": lambda k, z: k.pool2d.max_backward(z(*HALF), index(*HALF), 2, HALF),
    "a mean of another map": lambda k, z: k.pool2d.average_relevance(z(*X), z(*Z), 2),
    "an average of another map": lambda k, z: k.pool2d.average_backward(z(*HALF), 2, HALF),
    "maps that are not square": lambda k, z: k.cyclic.slice(z(2, 6, 5, 3)),
    "no four rotations": lambda k, z: k.cyclic.mean(z(6, 5)),
    "no four rotations of maps": lambda k, z: k.cyclic.slice_backward(z(6, 5, 5, 2)),
    "other rotations": lambda k, z: k.cyclic.mean_relevance(z(8, 5), z(3, 5)),
    "rotations' winners": lambda k, z: k.cyclic.max_backward(z(2, 5), index(3, 5)),
    "no four parts": lambda k, z: k.cyclic.stack_backward(z(2, 6)),
    "masks of another size": lambda k, z: k.activation.backward(z(2, 6), z(2, 5), 0.0),
    "relevance of another size": lambda k, z: k.shares.joint(z(2, 6), z(2, 6), z(2, 5), 0.0, 0.0),
    "labels too few": lambda k, z: k.softmax.cross_entropy(z(3, 2), k.asindex([0, 1]), z(2)),
    "labels of another type": lambda k, z: k.softmax.cross_entropy(z(2, 2), z(2), z(2)),
    "weights too few": lambda k, z: k.softmax.cross_entropy(z(2, 2), k.asindex([0, 1]), z(1)),
    "gradients too few": lambda k, z: k.sgd.update(z(6), z(5), 0.1),
    "a list": lambda k, z: k.activation.forward([1.0], 0.0),
    "another type": lambda k, z: k.activation.forward(np.zeros(3, np.float16), 0.0),
    "every second number": lambda k, z: k.activation.forward(z(6)[::2], 0.0),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_kernels_refuse_what_does_not_fit(k, wrong):
    with pytest.raises(UserError, match=r"^kernel \w+\.\w+: .* do not fit"):
        REFUSED[wrong](k, lambda *shape: k.zeros(shape))


@pytest.mark.parametrize("device_index", [5, 255])
def test_a_winner_that_is_no_place_of_its_window_gets_nothing(k, device_index):
    winners = k.asindex(np.full((1, 2, 2, 1), device_index)).astype(np.uint8)
    below = k.pool2d.max_backward(k.asarray(np.ones((1, 2, 2, 1))), winners, 2, (1, 4, 4, 1))
    assert not np.any(k.to_host(below))


@pytest.mark.parametrize("label", [-1, 2, 10**6])
def test_a_label_that_is_no_class_gives_no_number(k, label):
    loss, _ = k.softmax.cross_entropy(
        k.asarray([[1, 2], [3, 4]]), k.asindex([1, label]), k.asarray([1.0, 1.0])
    )
    loss = k.to_host(loss)
    assert np.isfinite(loss[0]) and np.isnan(loss[1])
