"""Every kernel of every device against an independent evaluation of its contract (rotinv/nn/contract.py)."""

import inspect
from typing import get_type_hints

import numpy as np
import pytest
from conftest import DEVICES, EMULATED, assert_close, kernels_of
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal, special

from rotinv.kernels.cpu import elementwise
from rotinv.nn.contract import FAMILIES, Kernels
from rotinv.nn.devices import get_kernels

# n, side, channels in, filters, size, pad
CONVOLUTIONS = [
    (1, 5, 1, 1, 3, 1),
    (2, 27, 4, 32, 4, 0),  # the network's first
    (3, 24, 32, 32, 3, 1),
    (2, 12, 32, 64, 3, 1),
    (5, 6, 7, 5, 3, 1),
    (1, 8, 3, 33, 3, 1),  # 8 = 4 + 4 in Winograd's tiles
    (2, 10, 16, 16, 3, 1),
    (2, 11, 5, 9, 3, 1),
    (2, 16, 8, 8, 3, 0),
    (1, 9, 2, 3, 5, 2),
    (2, 7, 3, 4, 1, 0),
    (1, 13, 4, 6, 2, 1),
    (18, 13, 17, 21, 3, 1),  # images and channels that fill no whole vectors
    (2, 9, 10, 6, 4, 2),  # too many channels to scatter, no 3x3 taps
    (2, 9, 12, 5, 1, 1),  # padded by more than the taps reach
    (2, 12, 3, 5, 11, 5),
    (2, 14, 3, 17, 4, 2),  # Winograd of few channels, outputs that fill no whole vectors
]
SLOPES = [0.0, 0.01, 1.0]


def draw(k, rng, *shape):
    return k.asarray(rng.normal(size=shape))


def conv_case(k, rng, n, side, c, o, size, pad):
    x = draw(k, rng, n, side, side, c)
    w = draw(k, rng, size, size, c, o)
    b = draw(k, rng, o)
    out = side + 2 * pad - size + 1
    return x, w, b, draw(k, rng, n, out, out, o)


def slow_convolution(x, w, b, pad):
    """z by scipy's correlation, channel by channel, in float64."""
    x, w = (np.asarray(a, np.float64) for a in (x, w))
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    z = [
        [
            sum(signal.correlate2d(x[n, :, :, c], w[:, :, c, o], "valid") for c in range(x.shape[3])) + b[o]
            for o in range(w.shape[3])
        ]
        for n in range(len(x))
    ]
    return np.moveaxis(np.array(z, np.float64), 1, 3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", DEVICES)
def test_signatures_are_the_contracts(device, family):
    protocol = get_type_hints(Kernels)[family]
    module = getattr(kernels_of(device), family)
    contract = {name: f for name, f in vars(protocol).items() if not name.startswith("_")}
    assert contract
    for name, function in contract.items():
        wanted = list(inspect.signature(function).parameters)[1:]
        assert list(inspect.signature(getattr(module, name)).parameters) == wanted, name


@pytest.mark.parametrize("size", [1, 15, 33, 40_001])
def test_a_negative_is_found_anywhere(size):
    x = np.zeros(size, np.float32)
    x[::2], x[1::3], x[::7] = -0.0, np.inf, np.nan
    assert not elementwise.is_negative_anywhere(x)
    for place in {0, size // 2, size - 1}:
        for value in (-1e-45, -np.inf):
            again = x.copy()
            again[place] = value
            assert elementwise.is_negative_anywhere(again)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_forward(k, rng, case, slope):
    x, w, b, _ = conv_case(k, rng, *case)
    z = slow_convolution(x, w, b, case[-1])
    y, index = k.conv2d.forward(x, w, b, case[-1], slope, 1)
    assert index is None
    assert_close(y, np.where(z > 0, z, slope * z))


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("case", [c for c in CONVOLUTIONS if c[1] >= 6])
def test_convolution_with_pooling_is_convolution_then_pooling(k, rng, case, slope):
    x, w, b, _ = conv_case(k, rng, *case)
    whole, _ = k.conv2d.forward(x, w, b, case[-1], slope, 1)
    y, index = k.conv2d.forward(x, w, b, case[-1], slope, 2)
    pooled, winner = k.pool2d.max_forward(whole, 2)
    np.testing.assert_array_equal(y, pooled)
    np.testing.assert_array_equal(index, winner)
    assert index.dtype == np.uint8


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_backward_is_the_adjoint(k, reference, rng, case):
    """<conv(x, w), dz> = <x, conv*(dz, w)> = <w, conv*(x, dz)>, on the float64 sums, and by value."""
    o, pad = case[3], case[5]
    x, w, _, dz = conv_case(k, rng, *case)
    x64, w64, dz64 = (np.asarray(a, np.float64) for a in (x, w, dz))
    dw, db = k.zeros(w.shape), k.zeros((o,))
    dx = k.conv2d.backward(x, w, dz, None, dz, pad, 1.0, dw, db, True)
    product = np.sum(slow_convolution(x, w, np.zeros(o), pad) * dz64)
    size_of_terms = np.sqrt(np.sum(np.square(dx, dtype=float)) * np.sum(x64**2))
    assert abs(np.sum(x64 * dx) - product) < 1e-5 * size_of_terms
    assert abs(np.sum(w64 * dw) - product) < 1e-5 * size_of_terms
    exact_w, exact_b = np.zeros(w.shape), np.zeros(o)
    exact = reference.conv2d.backward(x64, w64, dz64, None, dz64, pad, 1.0, exact_w, exact_b, True)
    for found, expected in ((dx, exact), (dw, exact_w), (db, exact_b)):
        assert_close(found, expected)


def test_convolution_backward_of_groups_of_eleven_tiles(cpu, reference, rng):
    """A slot of 11 images of one tile each: no multiple of the rows that the tiles compute."""
    x, w, _, dz = conv_case(cpu, rng, 88, 6, 16, 16, 3, 1)
    found, exact = [cpu.zeros(w.shape), cpu.zeros((16,))], [np.zeros(w.shape), np.zeros(16)]
    found.append(cpu.conv2d.backward(x, w, dz, None, dz, 1, 1.0, *found, True))
    x, w, dz = np.float64(x), np.float64(w), np.float64(dz)
    exact.append(reference.conv2d.backward(x, w, dz, None, dz, 1, 1.0, *exact, True))
    for one, other in zip(found, exact, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize(
    "case", [(3, 7, 3, 5, 3, 1), (3, 13, 16, 33, 3, 1), (9, 12, 20, 16, 3, 0), (9, 30, 3, 17, 4, 2)]
)
def test_convolution_backward_goes_through_its_epilogue(k, reference, rng, case, slope, pool):
    """Activation and pooling go backward first; dx on its own account, the parameters on theirs."""
    o, pad = case[3], case[5]
    x, w, b, _ = conv_case(k, rng, *case)
    y, index = k.conv2d.forward(x, w, b, pad, slope, pool)
    dy = draw(k, rng, *y.shape)
    found = [k.zeros(w.shape), k.zeros((o,))]
    found.append(k.conv2d.backward(x, w, y, index, dy, pad, slope, *found, True))
    x64, w64, y64, dy64 = (np.asarray(a, np.float64) for a in (x, w, y, dy))
    exact = [np.zeros(w.shape), np.zeros(o)]
    exact.append(reference.conv2d.backward(x64, w64, y64, index, dy64, pad, slope, *exact, True))
    for one, other in zip(found, exact, strict=True):
        assert_close(one, other)
    again = [k.zeros(w.shape), k.zeros((o,))]
    assert k.conv2d.backward(x, w, y, index, dy, pad, slope, *again, False) is None
    for one, other in zip(found[:2], again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("side", [6, 7])
def test_epilogue_backward_is_its_parts(k, rng, side, slope, pool):
    x, w, b, dz = conv_case(k, rng, 3, side, 3, 5, 3, 1)
    y, index = k.conv2d.forward(x, w, b, 1, slope, pool)
    dy = draw(k, rng, *y.shape)
    masked = k.activation.backward(dy, y, slope)
    expected = masked if pool == 1 else k.pool2d.max_backward(masked, index, 2, dz.shape)
    np.testing.assert_array_equal(k.conv2d.epilogue_backward(dy, y, index, slope, dz.shape), expected)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("side", [6, 7])
def test_epilogue_activates_and_pools_the_sums(k, rng, side, slope):
    """Sums of few values: in most windows some are equal, and the first maximum has to win."""
    z_pos, z_neg = (k.asarray(rng.integers(-2, 3, (3, side, side, 21))) for _ in range(2))
    activated = k.activation.forward(z_pos + z_neg, slope)
    y, index = k.conv2d.epilogue(z_pos, z_neg, slope, 1)
    assert index is None
    np.testing.assert_array_equal(y, activated)
    y, index = k.conv2d.epilogue(z_pos, z_neg, slope, 2)
    pooled, winner = k.pool2d.max_forward(activated, 2)
    assert index.dtype == np.uint8
    np.testing.assert_array_equal(y, pooled)
    np.testing.assert_array_equal(index, winner)


ROUNDED = 1e-7  # of each sum itself, however its terms cancel: float32 rounds by 6e-8


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_contributions_and_redistribute(k, reference, rng, case, negative):
    x, w, b, c_pos = conv_case(k, rng, *case)
    x = x if negative else np.abs(x)
    pad, c_neg = case[-1], draw(k, rng, *c_pos.shape)
    x64, w64, b64 = (np.asarray(a, np.float64) for a in (x, w, b))
    z_pos, z_neg = k.conv2d.contributions(x, w, b, pad)
    pos, neg = lambda a: np.maximum(a, 0), lambda a: np.minimum(a, 0)
    slow_pos = slow_convolution(pos(x64), pos(w64), pos(b64), pad)
    slow_pos += slow_convolution(neg(x64), neg(w64), np.zeros_like(b64), pad)
    slow_neg = slow_convolution(pos(x64), neg(w64), neg(b64), pad)
    slow_neg += slow_convolution(neg(x64), pos(w64), np.zeros_like(b64), pad)
    assert_close(z_pos, slow_pos)
    assert_close(z_neg, slow_neg)
    np.testing.assert_allclose(k.conv2d.sums(x, w, b, pad), slow_pos + slow_neg, rtol=ROUNDED, atol=0)
    r = k.conv2d.redistribute(x, w, c_pos, c_neg, pad)
    assert_close(r, reference.conv2d.redistribute(x64, w64, *np.asarray([c_pos, c_neg], float), pad))
    # what all units hand down, from the sums: sum_i R_i = sum_j (z+_j - b+_j) c+_j + (z-_j - b-_j) c-_j
    total = np.sum((slow_pos - pos(b64)) * c_pos + (slow_neg - neg(b64)) * c_neg)
    assert abs(np.sum(r, dtype=float) - total) < 1e-5 * np.sum(np.abs(r))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("c, o, size", [(4, 32, 4), (32, 33, 3), (3, 5, 3), (64, 16, 3)])
def test_equal_windows_have_equal_sums(k, rng, c, o, size, negative):
    """To the last bit, wherever in the image they are: a patch of one value, its edges and the padding's."""
    x, w, b, _ = conv_case(k, rng, 2, 23, c, o, size, 1)
    x = x if negative else np.abs(x)
    x[0, 2:19, 3:22], x[1, :, :], x[1, 20] = x[0, 0, 0], x[1, 0, 0], x[1, 1, 1] + 1
    sums = np.concatenate([*k.conv2d.contributions(x, w, b, 1), k.conv2d.sums(x, w, b, 1)], axis=3)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (size, size), axis=(1, 2)).reshape(-1, c * size * size)
    _, group, members = np.unique(windows, axis=0, return_inverse=True, return_counts=True)
    assert members.max() > 150
    sums, group = sums.reshape(len(windows), -1), group.reshape(-1)
    first = np.array([np.flatnonzero(group == g)[0] for g in range(len(members))])
    np.testing.assert_array_equal(sums, sums[first[group]])


CHANNELS_AND_SIZES = [(4, 4), (6, 3), (10, 3), (12, 3), (20, 3), (64, 3)]


def relevance_passes(k, rng, c, size, negative):
    """contributions, sums and redistribute of some of 19 images, as a function; one may be all negative."""
    x, w, b, c_pos = conv_case(k, rng, 19, 13, c, 18, size, 1)
    x, c_neg = np.abs(x), draw(k, rng, *c_pos.shape)
    x[3] *= -1 if negative else 1

    def passes(k, some):
        r = k.conv2d.redistribute(x[some], w, c_pos[some], c_neg[some], 1)
        return [*k.conv2d.contributions(x[some], w, b, 1), k.conv2d.sums(x[some], w, b, 1), r]

    return passes


@pytest.mark.parametrize("k", ["cpu", EMULATED], indirect=True)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("c, size", CHANNELS_AND_SIZES)
def test_relevance_of_an_image_does_not_depend_on_the_others(k, rng, c, size, negative):
    """Nor on their number or signs: to the last bit."""
    passes = relevance_passes(k, rng, c, size, negative)
    together = passes(k, slice(None))
    for some in (slice(0, 1), slice(2, 3), slice(15, 17), slice(18, 19)):
        for part, whole in zip(passes(k, some), together, strict=True):
            np.testing.assert_array_equal(part, whole[some])


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("c, size", CHANNELS_AND_SIZES)
def test_relevance_does_not_depend_on_the_threads(cpu, rng, c, size, negative):
    passes = relevance_passes(cpu, rng, c, size, negative)
    for one, other in zip(*(passes(k, slice(None)) for k in (cpu, get_kernels("cpu", 1))), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_empty_side_of_the_contributions_is_exactly_zero(k, rng):
    x = np.abs(draw(k, rng, 2, 12, 12, 8))
    w = np.abs(draw(k, rng, 3, 3, 8, 16))
    _, z_neg = k.conv2d.contributions(x, w, k.zeros((16,)), 1)
    z_pos, _ = k.conv2d.contributions(x, -w, k.zeros((16,)), 1)
    assert not np.any(z_neg) and not np.any(z_pos)
    rows, matrix = x.reshape(2, -1), np.abs(draw(k, rng, 12 * 12 * 8, 5))
    assert not np.any(k.dense.contributions(rows, matrix, k.zeros((5,)))[1])


DENSE = [(1, 1, 1), (3, 7, 5), (200, 2304, 64), (50, 64, 2), (17, 64, 64), (5, 33, 40)]


@pytest.mark.parametrize("n, c, o", DENSE)
def test_dense(k, rng, n, c, o):
    x, w, b, dz = draw(k, rng, n, c), draw(k, rng, c, o), draw(k, rng, o), draw(k, rng, n, o)
    x64, w64, b64, dz64 = (np.asarray(a, np.float64) for a in (x, w, b, dz))
    z = x64 @ w64 + b64
    for slope in SLOPES:
        assert_close(k.dense.forward(x, w, b, slope), np.where(z > 0, z, slope * z))
    assert_close(k.dense.backward_input(dz, w), dz64 @ w64.T)
    dw, db = k.zeros((c, o)), k.zeros((o,))
    k.dense.backward_params(x, dz, dw, db)
    assert_close(dw, x64.T @ dz64)
    assert_close(db, dz64.sum(axis=0))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("n, c, o", [(1, 1, 1), (3, 7, 5), (20, 300, 64), (5, 33, 2)])
def test_dense_contributions_and_redistribute(k, rng, n, c, o, negative):
    x, w, b = draw(k, rng, n, c), draw(k, rng, c, o), draw(k, rng, o)
    x = x if negative else np.abs(x)
    c_pos, c_neg = draw(k, rng, n, o), draw(k, rng, n, o)
    x64, w64, b64 = (np.asarray(a, np.float64) for a in (x, w, b))
    z = x64[:, :, None] * w64  # z_ij, (n, i, j)
    np.testing.assert_allclose(k.dense.sums(x, w, b), z.sum(axis=1) + b64, rtol=ROUNDED, atol=0)
    z_pos, z_neg = k.dense.contributions(x, w, b)
    assert_close(z_pos, np.maximum(z, 0).sum(axis=1) + np.maximum(b64, 0))
    assert_close(z_neg, np.minimum(z, 0).sum(axis=1) + np.minimum(b64, 0))
    r = np.maximum(z, 0) * c_pos[:, None] + np.minimum(z, 0) * c_neg[:, None]
    assert_close(k.dense.redistribute(x, w, c_pos, c_neg), r.sum(axis=2))


@pytest.mark.parametrize("side, size", [(6, 2), (7, 2), (9, 3), (5, 5)])
def test_pooling(k, rng, side, size):
    x = draw(k, rng, 2, side, side, 3)
    y, index = k.pool2d.max_forward(x, size)
    p = side // size
    means = np.empty(y.shape)
    for n, i, j, c in np.ndindex(2, p, p, 3):
        window = x[n, i * size : (i + 1) * size, j * size : (j + 1) * size, c]
        assert y[n, i, j, c] == window.max() and index[n, i, j, c] == window.argmax()
        means[n, i, j, c] = np.mean(window, dtype=float)
    assert_close(k.pool2d.average_forward(x, size), means)
    dy = draw(k, rng, *y.shape)
    dx = k.pool2d.max_backward(dy, index, size, x.shape)
    assert np.count_nonzero(dx) == dy.size
    assert np.isclose(np.sum(dx * x, dtype=float), np.sum(dy * y, dtype=float), rtol=1e-4)
    average = k.pool2d.average_backward(dy, size, x.shape)
    inner = np.sum(np.asarray(k.pool2d.average_forward(x, size), float) * dy)
    assert abs(np.sum(np.asarray(average, float) * x) - inner) < 1e-5 * np.sqrt(x.size)


def test_ties_go_to_the_first_maximum(k):
    x = k.zeros((1, 4, 4, 1))
    x[0, 2:, 2:, 0] = [[1, 3], [3, 3]]
    _, index = k.pool2d.max_forward(x, 2)
    np.testing.assert_array_equal(index[0, :, :, 0], [[0, 0], [0, 1]])


def test_average_relevance_is_proportional_and_zero_where_all_is_zero(k, rng):
    x = np.abs(draw(k, rng, 2, 4, 4, 3))
    x[0, :2, :2] = 0
    r = draw(k, rng, 2, 2, 2, 3)
    below = k.pool2d.average_relevance(x, r, 2)
    assert not np.any(below[0, :2, :2])
    window = np.asarray(x[1, :2, :2], float)
    assert_close(below[1, :2, :2], window / window.sum((0, 1)) * r[1, 0, 0])


def test_cyclic_slice_and_its_adjoint(k, rng):
    x = draw(k, rng, 3, 5, 5, 2)
    y = k.cyclic.slice(x)
    for turn in range(4):
        np.testing.assert_array_equal(y[3 * turn : 3 * turn + 3], np.rot90(x, turn, axes=(1, 2)))
    np.testing.assert_array_equal(k.cyclic.align(y), np.concatenate([x] * 4))
    np.testing.assert_array_equal(k.cyclic.align_backward(k.cyclic.align(y)), y)
    dy = draw(k, rng, *y.shape)
    dx = k.cyclic.slice_backward(dy)
    assert np.isclose(np.sum(y * dy, dtype=float), np.sum(x * dx, dtype=float), rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 6), (8, 3, 3, 5)])
def test_cyclic_joins(k, rng, shape):
    x = draw(k, rng, *shape)
    a = np.split(np.asarray(x, float), 4)
    assert_close(k.cyclic.stack(x), np.concatenate(a, axis=-1))
    np.testing.assert_array_equal(k.cyclic.stack_backward(k.cyclic.stack(x)), x)
    rolled = k.cyclic.roll(x)
    assert_close(rolled, np.concatenate([np.concatenate(a[q:] + a[:q], axis=-1) for q in range(4)]))
    dy = draw(k, rng, *rolled.shape)
    dx = k.cyclic.roll_backward(dy)
    assert np.isclose(np.sum(rolled * dy, dtype=float), np.sum(x * dx, dtype=float), rtol=1e-4)
    mean, (largest, index), rms = k.cyclic.mean(x), k.cyclic.max(x), k.cyclic.rms(x)
    assert_close(mean, np.mean(a, axis=0))
    assert_close(largest, np.max(a, axis=0))
    np.testing.assert_array_equal(index, np.argmax(np.split(x, 4), axis=0))
    assert_close(rms, np.sqrt(np.mean(np.square(a), axis=0)))
    d = draw(k, rng, *mean.shape)
    d64 = np.asarray(d, float)
    assert_close(k.cyclic.mean_backward(d), np.concatenate([d64 / 4] * 4))
    assert_close(k.cyclic.max_backward(d, index), np.concatenate([d64 * (index == q) for q in range(4)]))
    assert_close(k.cyclic.rms_backward(d, x, rms), np.concatenate([p * d64 / (4 * rms) for p in a]))
    positive = np.abs(x)
    share = np.asarray(positive, float) / np.concatenate([np.sum(np.split(positive, 4), axis=0)] * 4)
    assert_close(k.cyclic.mean_relevance(positive, d), share * np.concatenate([d64] * 4))
    assert not np.any(k.cyclic.mean_relevance(k.zeros(shape), d))
    assert not np.any(k.cyclic.rms_backward(d, k.zeros(shape), k.zeros(mean.shape)))


def test_the_cyclic_mean_keeps_its_bits_when_the_four_are_rotated(k, rng):
    parts = np.split(draw(k, rng, 40, 64), 4)
    means = [k.cyclic.mean(np.concatenate(parts[q:] + parts[:q])) for q in range(4)]
    for mean in means[1:]:
        np.testing.assert_array_equal(mean, means[0])


@pytest.mark.parametrize("slope", SLOPES)
def test_activation(k, rng, slope):
    z, dy = draw(k, rng, 3, 5, 5, 2), draw(k, rng, 3, 5, 5, 2)
    z[0, 0] = 0
    y = k.activation.forward(z, slope)
    assert_close(y, np.where(z > 0, z, slope * np.asarray(z, float)))
    assert_close(k.activation.backward(dy, y, slope), np.where(z > 0, dy, slope * np.asarray(dy, float)))


def test_dropout_keeps_the_same_elements_on_every_device(reference, cpu, rng):
    x = np.abs(rng.normal(size=(200, 64))) + 1
    kept = reference.dropout.forward(x, 0.3, 7, 1234, 2)
    assert_close(cpu.dropout.forward(cpu.asarray(x), 0.3, 7, 1234, 2), kept)
    assert_close(cpu.dropout.backward(cpu.asarray(x), 0.3, 7, 1234, 2), kept)
    assert abs(np.mean(kept == 0) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)
    for other in ((8, 1234, 2), (7, 1235, 2), (7, 1234, 1)):
        assert np.mean((reference.dropout.forward(x, 0.3, *other) == 0) == (kept == 0)) < 0.65


def test_softmax_and_cross_entropy(k, rng):
    z = draw(k, rng, 30, 3) * 20
    label = k.asindex(rng.integers(0, 3, 30))
    p = special.softmax(np.asarray(z, float), axis=1)
    assert_close(k.softmax.forward(z), p)
    nll = -special.log_softmax(np.asarray(z, float), axis=1)[np.arange(30), label]
    for weight in ([1, 1, 1], [0.5, 1.25, 8]):
        loss, dz = k.softmax.cross_entropy(z, label, k.asarray(weight))
        assert_close(loss, np.take(weight, label) * nll)
        assert_close(dz, np.take(weight, label)[:, None] * (p - np.eye(3)[label]) / 30)


def test_sgd(k, rng):
    params, grads = draw(k, rng, 1000), draw(k, rng, 1000)
    expected = np.asarray(params, float) - 0.04 * np.asarray(grads, float)
    k.sgd.update(params, grads, 0.04)
    assert_close(params, expected)
