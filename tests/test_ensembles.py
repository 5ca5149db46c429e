"""The rules that join models, against votes counted by hand, and the table of sizes and rules."""

import itertools

import numpy as np
import pytest

from rotinv.metrics import ensembles, rates

EACH = np.float32([[0.9, 0.2, 0.6, 0.0], [0.8, 0.4, 0.4, 1.0], [0.3, 0.9, 0.4, 1.0]])


def test_the_majority_is_the_vote_at_every_threshold(rng):
    each = rng.uniform(size=(5, 200))
    for threshold in (0.1, 0.5, 0.77):
        votes = (each >= threshold).sum(axis=0) >= 3
        np.testing.assert_array_equal(ensembles.majority(each) >= threshold, votes)


def test_any_and_all_at_every_threshold(rng):
    each = rng.uniform(size=(4, 200))
    for threshold in (0.2, 0.5):
        np.testing.assert_array_equal(ensembles.any_of(each) >= threshold, (each >= threshold).any(axis=0))
        np.testing.assert_array_equal(ensembles.all_of(each) >= threshold, (each >= threshold).all(axis=0))


def test_means_by_hand():
    np.testing.assert_allclose(ensembles.mean_probability(EACH), [2 / 3, 0.5, 1.4 / 3, 2 / 3], rtol=1e-6)
    found = ensembles.mean_logit(EACH)
    odds = np.prod(EACH[:, :3] / (1 - EACH[:, :3]), axis=0) ** (1 / 3)
    np.testing.assert_allclose(found[:3], odds / (1 + odds), rtol=1e-6)
    assert 0.99 < found[3] < 1  # 0 and 1 are not infinitely sure


def test_one_model_is_itself():
    for name, rule in ensembles.RULES.items():
        np.testing.assert_allclose(rule(EACH[:1]), EACH[0], atol=1e-7, err_msg=name)


def test_the_table_against_a_slow_loop(rng):
    label = np.arange(300) % 2
    each = np.clip(0.5 + 0.4 * (label - 0.5) + 0.2 * rng.normal(size=(4, 300)), 0, 1)
    rows = ensembles.table(label, each, [1, 3, 4])
    assert [(row.size, row.choices) for row in rows[:: len(ensembles.RULES)]] == [(1, 4), (3, 4), (4, 1)]
    for row in rows:
        found = []
        for members in itertools.combinations(range(4), row.size):
            score = ensembles.RULES[row.rule](each[list(members)])
            found.append(np.mean((score >= 0.5) == label))
        mean, std = row.figures["accuracy"]
        assert mean == pytest.approx(np.mean(found))
        assert std is None if len(found) == 1 else std == pytest.approx(np.std(found, ddof=1))
    recall = {row.rule: row.figures["recall"][0] for row in rows if row.size == 3}
    assert recall["any"] > recall["majority"] > recall["all"]
    alone = [row.figures["fnr"][0] for row in rows if row.size == 1]
    assert alone == [pytest.approx(np.mean([rates.fnr_at_fpr(label, p, 0.01) for p in each]))] * 5
