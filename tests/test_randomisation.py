"""Randomisation of the weights: similarity written out, the cascade, smooth and efficient MPRT."""

import json

import numpy as np
import pytest
from programs import call, make_run, toy_arrays
from scipy import stats

from rotinv.lrp.quality import randomisation, similarity, ways
from rotinv.lrp.quality.perturbation import How
from rotinv.nn.architectures import build
from rotinv.runs.model import load_model
from rotinv.stamps.pixels import prepare


def test_spearman_is_scipys(rng):
    a, b = rng.normal(size=(2, 4, 5, 5, 2))
    b[0] = np.exp(3 * a[0])  # the same ranks
    a[1], b[1] = a[1].round(), b[1].round()  # with ties
    expected = [
        stats.spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(similarity.spearman(a, b), expected, rtol=1e-12)
    assert similarity.spearman(a, b)[0] == pytest.approx(1)
    assert similarity.spearman(0 * a, b).tolist() == [0] * 4


def test_ssim_written_out(rng):
    """Window by window, with the Gaussian's weights and the constants of Wang et al."""
    a, b = rng.normal(size=(2, 1, 13, 13, 2))
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    first, second, found = a / np.abs(a).max(), b / np.abs(b).max(), []
    for channel in range(2):
        for row, column in np.ndindex(3, 3):
            x, y = (one[0, row : row + 11, column : column + 11, channel] for one in (first, second))
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            c1, c2 = 0.02**2, 0.06**2
            found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    np.testing.assert_allclose(similarity.ssim(a, b), [np.mean(found)], rtol=1e-9)
    np.testing.assert_allclose(similarity.ssim(a, 7 * a), 1)
    assert similarity.ssim(a, b)[0] < 0.5


def test_entropy_by_hand():
    """Half of the values in one bin, a quarter in each of two others."""
    maps = np.repeat([0.0, 0.5, 1.0], [8, 4, 4]).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(similarity.entropy(maps), [0.5 * np.log(2) + 0.5 * np.log(4)])
    assert similarity.entropy(np.ones((1, 4, 4, 1))).tolist() == [0]


def test_the_cascade_goes_from_the_logits_down():
    network = build("cap-mini", 13, 1)
    params, fresh = np.arange(network.size, dtype=np.float64), network.initial("he", randomisation._APART + 5)
    steps = list(randomisation.randomised(network, params, 5))
    changed = [
        [
            not np.array_equal(now["w"], was["w"])
            for now, was in zip(*map(network.views, (one, params)), strict=True)
            if now
        ]
        for one in steps
    ]
    assert changed == [[False, False, True], [False, True, True], [True, True, True]]
    np.testing.assert_array_equal(steps[-1], fresh)
    np.testing.assert_array_equal(params, np.arange(network.size))


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("randomise")
    make_run(folder, "cap-mini")
    np.savez(folder / "stamps.npz", **toy_arrays(20))
    return folder


@pytest.mark.parametrize("method", ["lrp", "gradient", "guided", "integrated-gradients", "occlusion"])
def test_maps_are_compared_with_the_trained_networks(k, mini, method):
    """By maps made here, of weights drawn here (a seed at which they are not 0), on every device."""
    model = load_model(mini)
    x, indices = prepare(np.load(mini / "stamps.npz")["stamps"][:2])[0], np.arange(2)
    (way,) = ways.ways([method], ["zplus"])
    classes = ways.predicted(ways.score_function(k, model, k.asarray(model.params), "logit")(x))
    (found,) = randomisation.cascade(k, model, x, indices, classes, [way], How(seed=5))
    assert found.layers == ["dense 2", "dense 1", "convolution"]
    unsigned = np.abs if method in ways.UNSIGNED else np.asarray
    trained = unsigned(ways.maps_of(k, model, k.asarray(model.params), x, way))
    random = k.asarray(model.network.initial("he", randomisation._APART + 5))
    target = randomisation.targets.OfClasses("predicted", classes)
    other = unsigned(ways.maps_of(k, model, random, x, way, target))
    for i in range(2):
        expected = stats.spearmanr(trained[i].ravel(), other[i].ravel()).statistic
        assert found.spearman[i, -1] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(found.ssim[:, -1], similarity.ssim(trained, other), rtol=1e-9)
    before, after = similarity.entropy(trained), similarity.entropy(other)
    np.testing.assert_allclose(found.entropy_rise[:, -1], after / before - 1, rtol=1e-9)


def randomise(mini, *options):
    done = call("perturb", mini, mini / "stamps.npz", "--measure", "randomisation", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_smooth_maps_are_means_over_noisy_copies(mini, cpu):
    model = load_model(mini)
    x, indices = prepare(np.load(mini / "stamps.npz")["stamps"][:3])[0], np.arange(3)
    (way,) = ways.ways(["gradient-x-input"], ["zero"])
    classes = np.array([0, 1, 1])
    task = randomisation._Task(cpu, model, x, indices, classes, way, How(smooth=400), None)
    target = randomisation.targets.OfClasses("predicted", classes)
    noise = 0.1 * np.random.default_rng(1).normal(size=(400, *x.shape)).astype(np.float32)
    copies = [(x + one).clip(0, 1) for one in noise]  # pixels beyond 0-1 are none
    each = [ways.maps_of(cpu, model, cpu.asarray(model.params), one, way, target) for one in copies]
    error = np.std(each, axis=0) / np.sqrt(400)
    assert (np.abs(task.maps(model.params) - np.mean(each, axis=0)) < 8 * error + 1e-7).all()


def test_smooth_maps_by_a_rule_of_bounded_pixels(mini):
    """z^B is for pixels from 0 to 1, and noise leaves none beyond."""
    randomise(mini, "--methods", "lrp", "--rule", "epsilon-gamma-box", "--count", 2, "--smooth", 2)


def test_draws_and_smooth_repeat_and_differ(mini):
    options = ["--methods", "lrp", "--count", 6, "--smooth", 3]
    one, again, other = (randomise(mini, *options, *more) for more in ([], ["--threads", 1], ["--seed", 1]))
    assert one == again
    assert one["mean_spearman"] != other["mean_spearman"]
    both = randomise(mini, *options[:-2], "--draws", 2)["mean_ssim"]["lrp alpha2beta1"]
    apart = [
        randomise(mini, *options[:-2], "--seed", seed)["mean_ssim"]["lrp alpha2beta1"] for seed in (0, 1)
    ]
    np.testing.assert_allclose(both, np.mean(apart, axis=0), rtol=1e-9)
