"""Which stamps to label next: the doubt and its parts, the spread, and the choice from a source."""

import numpy as np
import pytest
from programs import make_run, toy_arrays
from scipy import stats

from rotinv.catalogue import picking, sources
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.metrics import active_learning
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import open_models
from rotinv.system.errors import UserError


def margins(*probabilities):
    """The margins (m, 4, 1) of one stamp, of each network's four rotations."""
    p = np.array(probabilities, float)
    return np.log(p / (1 - p))[:, :, None]


def parts(*probabilities, threshold=0.5):
    return np.ravel(active_learning.doubt(margins(*probabilities), threshold)[1:])


def test_each_kind_of_doubt_is_told_apart():
    sure, unsure, split = [0.999] * 4, [0.5] * 4, [0.999, 0.001, 0.999, 0.001]
    assert (parts(sure) < 0.02).all()
    np.testing.assert_allclose(parts(unsure, unsure), [1, 0, 0], atol=1e-12)
    nearness, rotations, networks = parts(split)
    assert nearness < 0.02 and rotations > 0.98 and networks == 0
    nearness, rotations, networks = parts(sure, [0.001] * 4)
    assert nearness < 0.02 and rotations < 1e-12 and networks > 0.98


def test_the_parts_sum_to_the_entropy_of_the_mean_vote(rng):
    z = rng.normal(scale=3, size=(3, 4, 50))
    found = active_learning.doubt(z)
    p = (1 / (1 + np.exp(-z))).mean(axis=(0, 1))
    np.testing.assert_allclose(found.vote, p)
    np.testing.assert_allclose(found.total, stats.entropy([p, 1 - p], base=2), rtol=1e-12)
    assert all((part >= 0).all() for part in found[1:])


def test_the_doubt_is_about_the_threshold():
    assert parts([0.99] * 4, threshold=0.99)[0] == pytest.approx(1)
    assert parts([0.5] * 4, threshold=0.99)[0] < 0.1
    assert np.isfinite(parts([0.9] * 4, threshold=1.0)).all()


def test_units_of_several_networks_weigh_alike(rng):
    units = np.hstack([rng.normal(5, 1, (400, 3)), rng.normal(0, 100, (400, 3))])
    found = active_learning.scaled_units(units, networks=2)
    np.testing.assert_allclose((found**2).reshape(400, 2, 3).sum(axis=2).mean(axis=0), 0.5)
    assert np.isfinite(active_learning.scaled_units(np.ones((3, 2)))).all()


def clusters(rng, sizes):
    """Places about corners that are far apart, and the corner of each."""
    corner = np.repeat(np.arange(len(sizes)), sizes)
    return 100 * np.eye(len(sizes))[corner] + rng.normal(scale=0.1, size=(len(corner), len(sizes))), corner


def test_no_two_alike_while_there_are_others(rng):
    """Of six clusters, six stamps are one of each, however few there are of one."""
    units, corner = clusters(rng, (300, 100, 100, 30, 3, 1))
    for seed in range(20):
        chosen, distance = active_learning.spread(np.full(len(units), 0.3), units, 6, seed=seed)
        assert sorted(corner[chosen]) == [0, 1, 2, 3, 4, 5]
        assert np.isinf(distance[0]) and (distance[1:] > 100).all()


def test_what_is_known_already_is_not_chosen(rng):
    units, corner = clusters(rng, (50, 50, 50))
    known = units[corner == 1][:1]
    for seed in range(20):
        chosen, distance = active_learning.spread(np.ones(150), units, 2, known, seed)
        assert sorted(corner[chosen]) == [0, 2] and np.isfinite(distance).all()


def test_half_of_the_choice_is_for_doubt_and_a_quarter_for_either_class(rng):
    """Whatever their shares: here a hundredth is in doubt, and a hundredth looks real."""
    units, doubt, vote = rng.normal(size=(2000, 2)), np.zeros(2000), np.zeros(2000)
    doubt[:20], vote[20:40] = 1, 1
    weights = active_learning.weights(doubt, vote)
    drawn = np.concatenate([active_learning.spread(weights, units, 3, seed=seed)[0] for seed in range(300)])
    shares = [np.mean(drawn < 20), np.mean((20 <= drawn) & (drawn < 40)), np.mean(drawn >= 40)]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.06)
    assert (active_learning.weights(np.zeros(3), np.zeros(3)) == 4).all()


def test_all_are_chosen_where_there_are_not_more(rng):
    same = np.zeros((5, 3))
    chosen, _ = active_learning.spread(np.ones(5), same, 9)
    assert sorted(chosen) == [0, 1, 2, 3, 4]


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / f"cap-{seed}", seed=seed) for seed in range(2)]


@pytest.fixture
def store(tmp_path):
    arrays = toy_arrays(n=60)
    arrays["stamps"][7, 0, 0, 0] = np.nan
    np.savez(tmp_path / "stamps.npz", **arrays)
    return tmp_path / "stamps.npz"


def picked(runs, path, count, **options):
    models = open_models(runs)
    source = sources.open_source(models[0], [path])
    scorer = Scorer(get_kernels("cpu"), models, Threshold())
    return scorer, source, picking.pick(scorer, source, count, **options)


def test_the_reasons_are_those_of_the_networks(runs, store):
    scorer, source, found = picked(runs, store, 20)
    rows = found.rows
    assert len(set(rows["index"])) == 20 and 7 not in rows["index"] and found.without_score == 1
    np.testing.assert_array_equal(rows["order"], np.arange(1, 21))
    (block,) = source.blocks(0, len(source))
    np.testing.assert_array_equal(found.stamps, block.stamps[rows["index"]])
    np.testing.assert_array_equal(rows["label"], block.known["label"][rows["index"]])
    votes, units = scorer.committee(found.stamps)
    expected = active_learning.doubt(votes)
    for name in expected._fields:
        np.testing.assert_allclose(rows[name], getattr(expected, name), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rows["doubt"], expected.total, rtol=1e-4)
    assert units.shape == (20, 128)
    catalogue = np.concatenate([scorer.rows(one)["probability"] for one in source.blocks(0, len(source))])
    np.testing.assert_allclose(rows["probability"], catalogue[rows["index"]], rtol=1e-5)


def test_the_same_seed_gives_the_same_choice(runs, store):
    first, again, other = (picked(runs, store, 20, seed=seed)[2].rows["index"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_labelled_is_left_out(runs, store):
    def even(block):
        return block.index % 2 == 0

    _, _, found = picked(runs, store, 60, is_labelled=even)
    assert sorted(found.rows["index"]) == [i for i in range(60) if i % 2 and i != 7]
    assert found.labelled == 30 and np.isfinite(found.rows["distance"]).all()
    with pytest.raises(UserError, match=r"59 are labelled already, 1 have no score"):
        picked(runs, store, 5, is_labelled=lambda block: block.index >= 0)


def test_a_large_source_is_thinned(runs, store, monkeypatch):
    """The list keeps those of the largest doubt, and as many of the others."""
    monkeypatch.setattr(picking, "SHORTLIST", 10)
    monkeypatch.setattr(sources, "BLOCK", 16)
    _, _, whole = picked(runs, store, 60)
    most = set(whole.rows["index"][np.argsort(-whole.rows["doubt"])[:10]])
    shortlist = picking._Shortlist(10, seed=0)
    scorer, source, _ = picked(runs, store, 1)
    for block in source.blocks(0, len(source)):
        good = block.scorable
        votes, _ = scorer.committee(block.stamps[good])
        shortlist.add({"doubt": active_learning.doubt(votes).total, "index": block.index[good]})
    kept = set(shortlist.rows["index"])
    assert most <= kept and 10 < len(kept) <= 20
