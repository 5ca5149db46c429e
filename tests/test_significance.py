"""Intervals and tests against other ways to compute them: by hand, by root finding, by simulation."""

import numpy as np
import pytest
from scipy import optimize, stats

from rotinv.metrics import rates, significance, trial_differences


@pytest.mark.parametrize("part, whole", [(0, 10), (10, 10), (3, 17), (995, 1000)])
def test_wilson_is_where_the_score_test_rejects(part, whole):
    """The ends are the shares pi at which |part/whole - pi| = z sqrt(pi (1 - pi) / whole)."""
    z, share = stats.norm.ppf(0.975), part / whole

    def distance(pi):
        return (share - pi) ** 2 - z * z * pi * (1 - pi) / whole

    found = significance.wilson(part, whole)
    low = 0.0 if part == 0 else optimize.brentq(distance, 0, share - 1e-9 if part == whole else share)
    high = 1.0 if part == whole else optimize.brentq(distance, share + 1e-9 if part == 0 else share, 1)
    np.testing.assert_allclose(found, (low, high), rtol=1e-9, atol=1e-12)
    scipys = stats.binomtest(part, whole).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, (scipys.low, scipys.high), rtol=1e-9, atol=1e-12)


def test_wilson_of_nothing():
    assert significance.wilson(0, 0) is None


def test_mean_std_and_its_ddof():
    mean, std = significance.mean_std([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3) and std == pytest.approx(np.sqrt(7 / 3))
    assert significance.mean_std([5.0]) == (5.0, None)
    assert significance.mean_std([1.0, None]) == (None, None)


def test_welch_by_its_formula():
    first, second = [1.0, 2.0, 4.0, 4.5], [3.0, 5.0, 6.0]
    a, b = np.var(first, ddof=1) / 4, np.var(second, ddof=1) / 3
    difference = np.mean(second) - np.mean(first)
    df = (a + b) ** 2 / (a**2 / 3 + b**2 / 2)
    found = significance.welch(first, second)
    np.testing.assert_allclose([found.difference, found.df], [difference, df], rtol=1e-12)
    np.testing.assert_allclose(found.t, difference / np.sqrt(a + b), rtol=1e-12)
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(found.t, df), rtol=1e-9)
    reach = stats.t.ppf(0.975, df) * np.sqrt(a + b)
    np.testing.assert_allclose(found.interval, (difference - reach, difference + reach), rtol=1e-9)


def test_welch_that_does_not_exist():
    assert significance.welch([1.0], [1.0, 2.0]) is None
    assert significance.welch([1.0, 1.0], [2.0, 2.0]) is None


def test_paired_is_the_t_test_of_the_differences(rng):
    first = rng.normal(size=30)
    second = first + 0.2 + 0.1 * rng.normal(size=30)
    found = significance.paired(first, second)
    scipys = stats.ttest_rel(second, first).confidence_interval(0.95)
    np.testing.assert_allclose(found.interval, (scipys.low, scipys.high), rtol=1e-9)
    assert found.mean == pytest.approx(np.mean(second - first))
    apart = significance.welch(first, second).interval
    assert np.ptp(found.interval) < 0.2 * np.ptp(apart)  # what the stamps have in common is out
    assert significance.paired([1.0], [2.0]) is None


def test_mcnemar_by_counting():
    label = np.array([1] * 10 + [0] * 10)
    first, second = label.copy(), label.copy()
    first[:7] = 1 - first[:7]  # only the second is right: 7
    second[18:] = 1 - second[18:]  # only the first: 2
    first[12], second[12] = 1, 1  # neither
    found = significance.mcnemar(label, first, second)
    assert (found.only_first, found.only_second) == (2, 7)
    np.testing.assert_allclose(found.p, 2 * sum(stats.binom.pmf(i, 9, 0.5) for i in range(3)), rtol=1e-12)
    assert found.difference == pytest.approx(np.mean(second == label) - np.mean(first == label))
    low, high = significance.wilson(7, 9)
    np.testing.assert_allclose(found.interval, [(2 * low - 1) * 9 / 20, (2 * high - 1) * 9 / 20])
    assert significance.mcnemar(label, first, first).p == 1


def test_resampled_fnr_is_that_of_the_resampled_stamps(rng):
    """Each draw against metrics.fnr_at_fpr of the stamps written out."""
    label = rng.integers(0, 2, 50)
    scores = np.round(rng.uniform(size=(2, 50)) + 0.2 * label, 1)  # with ties
    fprs = (0.0, 0.05, 0.3, 1.0)
    found = significance.resampled_fnr(label, scores, fprs, draws=5, seed=3)
    again = np.random.default_rng(3)
    for draw in range(5):
        parts = []
        for kind in (0, 1):
            place = np.flatnonzero(label == kind)
            parts.append(place[again.integers(len(place), size=len(place))])
        chosen = np.concatenate(parts)
        for model in range(2):
            expected = [rates.fnr_at_fpr(label[chosen], scores[model][chosen], fpr) for fpr in fprs]
            np.testing.assert_allclose(found[draw, model], expected, rtol=1e-12)
    with pytest.raises(ValueError, match="both classes"):
        significance.resampled_fnr(np.ones(3), np.ones(3), fprs)


def test_the_bootstrap_spreads_as_new_samples_do(rng):
    """The std of FNR over draws of one test set is near that over test sets."""

    def sample():
        label = np.arange(4000) % 2
        return label, rng.normal(size=4000) + 3 * label

    fresh = [rates.fnr_at_fpr(*sample(), 0.01) for _ in range(200)]
    drawn = significance.resampled_fnr(*sample(), (0.01,), draws=300)
    assert 0.6 < drawn.std() / np.std(fresh) < 1.6


def test_an_interval_of_no_error_has_a_width():
    label, p = np.arange(200) % 2, np.arange(200) % 2 * 0.9
    draws = significance.resampled_fnr(label, p, (0.01,), draws=50)
    assert not draws.any()
    assert significance.fnr_interval(0.0, 100, draws[:, 0, 0]) == significance.wilson(0, 100)


def test_f1_is_within_its_interval_which_shrinks(rng):
    widths = []
    for n in (10, 1000):
        names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
        counts = dict(zip(names, (9 * n, n, 9 * n, n), strict=True))
        low, high = significance.f1_interval(counts)
        assert low < rates.of_counts(counts)["f1"] < high
        widths.append(high - low)
    assert 0.05 < widths[1] / widths[0] < 0.2  # ten times as narrow
    assert significance.f1_interval(dict.fromkeys(names, 0)) is None


def trial_scores(label, errors, rng):
    """Probabilities (trials, n) that are wrong at these shares of the stamps, drawn anew for each trial."""
    wrong = np.stack([rng.random(label.size) < share for share in errors])
    return np.where(wrong != (label == 1), 0.9, 0.1)


def test_trials_that_are_alike_differ_by_their_stamps_alone():
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 2000)
    first, second = (np.repeat(trial_scores(label, [share], rng), 3, axis=0) for share in (0.10, 0.07))
    found = trial_differences.accuracy_difference(label, first, second, 2000)
    each = ((second[0] >= 0.5) == label) * 1.0 - ((first[0] >= 0.5) == label)
    std = np.sqrt(sum(each[label == kind].var() * 2000 for kind in (0, 1))) / 4000
    np.testing.assert_allclose(found.mean, each.mean())
    np.testing.assert_allclose(
        found.detectable, (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * std, rtol=0.1
    )
    np.testing.assert_allclose(found.interval, each.mean() + np.array([-1.96, 1.96]) * std, atol=0.2 * std)


def test_trials_that_scatter_widen_the_interval():
    """By std^2 / m of each kind's m trials, stds of ddof 1, beside what the stamps give."""
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 20_000)
    first = trial_scores(label, [0.05, 0.10, 0.15, 0.20], rng)
    second = trial_scores(label, [0.06, 0.11, 0.13], rng)
    found = trial_differences.accuracy_difference(label, first, second, 3000)
    accuracy = [((one >= 0.5) == label).mean(axis=1) for one in (first, second)]
    std = np.sqrt(sum(one.var(ddof=1) / one.size for one in accuracy))
    np.testing.assert_allclose(found.detectable / 2.8016, std, rtol=0.1)
    assert found.interval.low < 0 < found.interval.high


def test_a_difference_of_fnr_is_that_of_the_means():
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], 3000)
    first, second = (
        1 / (1 + np.exp(-shift * (2 * label - 1) - rng.normal(size=(4, label.size)))) for shift in (1.5, 2.0)
    )
    found = trial_differences.fnr_differences(label, first, second, (1e-2, 1e-3), 300)
    for fpr, one in zip((1e-2, 1e-3), found, strict=True):
        a, b = (np.mean([rates.fnr_at_fpr(label, p, fpr) for p in kind]) for kind in (first, second))
        np.testing.assert_allclose(one.mean, b - a)
        assert one.interval.low < one.mean < one.interval.high
    assert found[0].interval.high < 0  # the second kind is better, beyond doubt


def test_a_single_trial_is_taken_as_it_is():
    rng = np.random.default_rng(5)
    label = np.repeat([0, 1], 500)
    first, second = (trial_scores(label, [share], rng) for share in (0.2, 0.1))
    found = trial_differences.accuracy_difference(label, first, second, 200)
    assert found.interval.low < found.mean < found.interval.high
