"""Region perturbation: AOPC by hand on a linear network, pairing, and the program."""

import csv
import json

import numpy as np
import pytest
from programs import assert_refused, call, run, toy_arrays

from rotinv import perturbation, runs


def linear(weights):
    """A score of two classes: the weighted sum of a stamp's pixels, and half of it."""
    return lambda x: np.stack(
        [(x * weights).sum(axis=(1, 2, 3)), (x * weights).sum(axis=(1, 2, 3)) / 2], axis=1
    )


def test_aopc_by_hand():
    """Pixels 1, 2, 3, 4 of weight 1, blanked from the largest: the score falls by 4, 7, 9, 10 of 10."""
    x = np.array([[1.0, 2], [3, 4]])[None, :, :, None]
    regions = perturbation.region_of_pixels(2, 1)
    order = perturbation.ranks(x, regions, "lrp")
    np.testing.assert_array_equal(order, [[3, 2, 1, 0]])
    drops = perturbation.drops(linear(1.0), x, order, regions, np.zeros_like(x), 4)
    np.testing.assert_array_equal(drops, [[0, 4, 7, 9, 10]])
    backwards = perturbation.drops(linear(1.0), x, order[:, ::-1], regions, np.zeros_like(x), 4)
    np.testing.assert_array_equal(backwards, [[0, 1, 3, 6, 10]])


def test_the_contributions_own_order_is_the_best(rng):
    """Of a linear score, against every other order of six regions drawn, at every number of steps."""
    weights, x = rng.normal(size=(6, 6, 2)), rng.uniform(size=(5, 6, 6, 2))
    x *= np.sign((x * weights).sum(axis=(1, 2, 3)))[:, None, None, None]  # class 0 is predicted
    regions, nothing = perturbation.region_of_pixels(6, 2), np.zeros_like(x)
    best = perturbation.drops(
        linear(weights), x, perturbation.ranks(x * weights, regions, "lrp"), regions, nothing, 9
    )
    for seed in range(20):
        order = perturbation.random_ranks(np.arange(5), 9, seed)
        other = perturbation.drops(linear(weights), x, order, regions, nothing, 9)
        assert (best >= other - 1e-12).all()
    np.testing.assert_allclose(best[:, -1], (x * weights).sum(axis=(1, 2, 3)))


def test_unsigned_methods_rank_by_magnitude():
    maps = np.array([[-5.0, 1], [2, 3]])[None, :, :, None]
    regions = perturbation.region_of_pixels(2, 1)
    assert perturbation.ranks(maps, regions, "gradient")[0, 0] == 0
    assert perturbation.ranks(maps, regions, "gradient-x-input")[0, -1] == 0


@pytest.mark.parametrize("size, side", [(21, 3), (21, 4), (13, 5), (5, 7)])
def test_regions_tile_the_stamp(size, side):
    regions = perturbation.region_of_pixels(size, side)
    across = -(-size // side)
    assert set(regions.ravel()) == set(range(across**2))
    for number in range(across**2):
        rows, columns = np.nonzero(regions == number)
        assert np.ptp(rows) < side and np.ptp(columns) < side
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_draws_are_a_stamps_own():
    """Whatever other stamps are perturbed with it."""
    alone = perturbation.noise(np.array([7]), (5, 5, 2), 3)
    among = perturbation.noise(np.arange(9), (5, 5, 2), 3)
    np.testing.assert_array_equal(alone[0], among[7])
    assert 0 <= among.min() and among.max() < 1 and len(np.unique(among)) == among.size
    np.testing.assert_array_equal(
        perturbation.random_ranks(np.array([7]), 9, 3)[0], perturbation.random_ranks(np.arange(9), 9, 3)[7]
    )


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("perturb")
    config = runs.Config("cap-mini", 13, ["difference"])
    runs.write_weights(folder, config, config.network().initial("he", 0))
    np.savez(folder / "stamps.npz", **toy_arrays(70))
    return folder


def perturb(mini, *arguments):
    return call("perturb", mini, mini / "stamps.npz", *arguments)


def test_text_json_and_csv_tell_the_same(mini, tmp_path):
    options = ["--count", 60, "--steps", 5, "--methods", "lrp,gradient", "--rules", "epsilon,zplus"]
    done = perturb(mini, *options, "--json", "--csv", tmp_path / "t.csv")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    table = {row["method"]: row for row in document["table"]}
    assert list(table) == ["lrp epsilon", "lrp zplus", "gradient", "random"]
    assert table["random"]["above_random"] == 0
    for name, row in table.items():
        assert row["aopc"] == pytest.approx(np.mean(document["mean_drop"][name]))
        assert row["above_random"] == pytest.approx(row["aopc"] - table["random"]["aopc"])
    with (tmp_path / "t.csv").open() as file:
        for row in csv.DictReader(file):
            assert float(row["aopc"]) == table[row["method"]]["aopc"]
    text = run("perturb", mini, mini / "stamps.npz", *options, "--threads", 1)
    assert text.returncode == 0, text.stderr
    for line in text.stdout.splitlines()[2:]:
        name = line[:30].strip()
        assert float(line[30:40]) == pytest.approx(table[name]["aopc"], abs=1e-4)


def test_a_stamps_drops_do_not_depend_on_the_others(mini):
    alone, among = (
        json.loads(perturb(mini, "--index", *index, "--json", "--methods", "lrp").stdout)
        for index in ([5], [5, 5, 5])
    )
    assert alone["mean_drop"] == among["mean_drop"]
    assert alone["table"][0]["error"] is None


def test_the_picture(mini, tmp_path):
    pytest.importorskip("matplotlib")
    done = perturb(mini, "--count", 5, "--out", tmp_path / "aopc.png", "--of", "probability")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "aopc.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_refused(mini, tmp_path):
    assert_refused(perturb(mini, "--methods", "lrp,saliency"), "saliency", "gradient")
    assert_refused(perturb(mini, "--rules", "alpha3beta1"), "alpha3beta1", "alpha2beta1")
    assert_refused(perturb(mini, "--steps", 26), "--steps 26", "25 regions")
    assert_refused(perturb(mini, "--index", 70), "no stamp 70")
    (tmp_path / "t.csv").write_text("precious")
    assert_refused(perturb(mini, "--csv", tmp_path / "t.csv"), "exists already")
