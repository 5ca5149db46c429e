"""Integrated gradients and occlusion, on every device: completeness, finite differences, and by hand."""

import numpy as np
import pytest
from conftest import assert_close
from programs import assert_refused, call, make_run, toy_arrays

from rotinv.lrp import composites, heatmaps, targets
from rotinv.lrp.methods import integrated_gradients, occlusion
from rotinv.nn import architectures
from rotinv.nn.layers import Flatten
from rotinv.nn.linear import Dense
from rotinv.nn.network import Network

LRP = composites.named("alpha2beta1")


@pytest.fixture
def mini(rng):
    network = architectures.build("cap-mini", 13, 2)
    params = network.initial("he", 3) + 0.05 * rng.normal(size=network.size)
    return network, params, rng.uniform(size=(2, 13, 13, 2))


def linear():
    """Two classes of four pixels: 1 a + 2 b + 3 c + 4 d + 10, and a class whose logit is 0."""
    network = Network((Flatten(), Dense(2)), (2, 2, 1))
    params = np.zeros(network.size)
    network.views(params)[1]["w"][:, 0] = [1, 2, 3, 4]
    network.views(params)[1]["b"][:] = [10, 0]
    return network, params, np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)


def test_a_linear_network_by_hand(k):
    """Integrated gradients are w x; a patch of 3 x 3 about a pixel covers all four."""
    network, params, x = linear()
    _, maps = integrated_gradients.maps(k, network, k.asarray(params), k.asarray(x), "predicted", 3)
    assert_close(maps[0], np.array([1.0, 4, 9, 16]).reshape(x.shape))
    (account,) = integrated_gradients.completeness(
        k, network, params, x, maps[0].sum(axis=(1, 2, 3)), "predicted"
    )
    assert (account.whole, account.black) == (40, 10) and account.left == pytest.approx(0, abs=1e-5)
    assert account.doubts == []
    _, (covered,) = occlusion.maps(k, network, k.asarray(params), k.asarray(x), "predicted")
    assert_close(covered, np.full(x.shape, 30.0))


@pytest.mark.parametrize("target", ["predicted", "probability", "difference", 0])
def test_integrated_gradients_are_complete_at_every_layer(k, mini, target):
    """To what the steps leave, which more steps make less."""
    network, params, x = mini
    left = {}
    for steps in (8, 64):
        _, maps = integrated_gradients.maps(k, network, k.asarray(params), k.asarray(x), target, steps)
        assert len(maps) == len(network.layers) + 1
        each = [np.float64(k.to_host(one)).reshape(-1, 2, one[0].size) for one in maps]
        sums = [one.sum(axis=(0, 2)) for one in each]
        accounts = [integrated_gradients.completeness(k, network, params, x, one, target) for one in sums]
        shared = np.abs(each[0]).sum(axis=(0, 2))
        left[steps] = max(
            abs(one.left) / share for each in accounts for one, share in zip(each, shared, strict=True)
        )
    assert left[64] < 0.01 and left[64] < left[8]


def test_integrated_gradients_equal_the_integral(reference, mini):
    """Of the path's finite differences, pixel by pixel, where the path is divided finely."""
    network, params, x = mini
    _, maps = integrated_gradients.maps(reference, network, params, x, 1, 400)
    total, steps, tiny = np.zeros(x.shape), 400, 1e-6
    for t in (np.arange(steps) + 0.5) / steps:
        total += heatmaps.trail(reference, network, params, t * x, "gradient", LRP, 1).relevance[0] / steps
    np.testing.assert_allclose(maps[0], x * total, rtol=0, atol=0.01 * np.abs(maps[0]).max())
    place = (0, 6, 5, 1)
    nudge = np.zeros_like(x)
    nudge[place] = tiny
    slopes = [
        (
            network.forward(reference, params, t * x + nudge)
            - network.forward(reference, params, t * x - nudge)
        )[0, 1]
        for t in (np.arange(100) + 0.5) / 100
    ]
    expected = x[place] * np.mean(slopes) / (2 * tiny)
    assert maps[0][place] == pytest.approx(expected, abs=0.01 * np.abs(maps[0]).max())


def test_doubts_are_told_of_a_map_that_leaves_much():
    complete, half = (
        integrated_gradients.Completeness(5.0, 1.0, 3.9),
        integrated_gradients.Completeness(5.0, 1.0, 2.0),
    )
    assert complete.doubts == [] and str(complete).endswith("leaves 0.1")
    assert "2 of 4" in half.doubts[0]
    assert integrated_gradients.Completeness(5.0, 1.0, np.nan).doubts


@pytest.mark.parametrize("target", ["predicted", "probability", 0])
def test_occlusion_written_out(k, mini, target):
    """At a corner, where the patch lies over the edge, and in the middle."""
    network, params, x = mini
    logits, (found,) = occlusion.maps(k, network, k.asarray(params), k.asarray(x), target)
    fixed = targets.of_same_classes(k, logits, target)
    for place, rows, columns in (((0, 0), slice(0, 2), slice(0, 2)), ((6, 12), slice(5, 8), slice(11, 13))):
        covered = x.copy()
        covered[:, rows, columns, 1] = 0
        after = network.forward(k, k.asarray(params), k.asarray(covered))
        expected = targets.values(k, logits, fixed) - targets.values(k, after, fixed)
        largest = np.abs(k.to_host(found)).max()
        np.testing.assert_allclose(
            k.to_host(found)[(slice(None), *place, 1)], expected, rtol=0, atol=1e-5 * largest
        )


def test_occlusions_map_turns_with_the_stamp(cpu, mini):
    network, params, x = mini
    upright, turned = (
        heatmaps.trail(cpu, network, cpu.asarray(params), cpu.asarray(s), "occlusion", LRP).relevance[0]
        for s in (x, np.rot90(x, axes=(1, 2)))
    )
    np.testing.assert_array_equal(turned, np.rot90(upright, axes=(1, 2)))


def test_explain_draws_both_and_tells_the_account(tmp_path):
    pytest.importorskip("matplotlib")
    make_run(tmp_path / "run", "cap-mini")
    np.savez(tmp_path / "stamps.npz", **toy_arrays(8))
    given = ("explain", tmp_path / "run", tmp_path / "stamps.npz", "--index", 3, "5", "--method")
    done = call(*given, "integrated-gradients", "--out", tmp_path / "ig.pdf")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a black stamp gets") == 2 and "completeness leaves" in done.stdout
    deeper = call(*given, "integrated-gradients", "--layer", "dense 1")
    assert deeper.returncode == 0 and deeper.stdout.count("completeness leaves") == 2
    done = call(*given, "occlusion", "--out", tmp_path / "o.pdf", "--maps", tmp_path / "o.h5")
    assert done.returncode == 0 and (tmp_path / "o.pdf").exists() and (tmp_path / "o.h5").exists()
    assert_refused(call(*given, "occlusion", "--layer", "dense 1"), "occlusion", "no layer")
    stamps = tmp_path / "stamps.npz"
    assert_refused(call("invariance", tmp_path / "run", stamps, "--method", "occlusion"), "occlusion", "lrp")
