"""Operating points of a night, and calibrators."""

import json

import numpy as np
import pytest

from rotinv.metrics import calibrators, operating, rates
from rotinv.metrics.operating import Night
from rotinv.system.errors import UserError

NIGHT = Night(prevalence=0.02, alerts=10_000)


def scored(rng, candidates=400, artifacts=2_000):
    label = np.repeat([1, 0], [candidates, artifacts])
    z = rng.normal(np.where(label == 1, 2.5, -2.5), 2)
    return label, 1 / (1 + np.exp(-z))


def test_a_point_is_what_counting_gives(rng):
    label, p = scored(rng)
    for point, fpr in zip(operating.at_fprs(label, p, [0.01, 0.05], NIGHT), (0.01, 0.05), strict=True):
        accepted = p >= point.threshold
        tpr, wrong = accepted[label == 1].mean(), accepted[label == 0].mean()
        assert point.completeness == pytest.approx(tpr) and point.fpr == pytest.approx(wrong) and wrong <= fpr
        assert point.threshold == rates.threshold_at_fpr(label, p, fpr)
        real, false = 10_000 * 0.02 * tpr, 10_000 * 0.98 * wrong
        assert point.real == pytest.approx(real) and point.accepted == pytest.approx(real + false)
        assert point.precision == pytest.approx(real / (real + false))
        low, high = point.precision_interval
        assert low < point.precision < high


def test_the_labelled_sets_own_balance_does_not_count(rng):
    """Twice as many candidates, each seen twice: nothing of a night changes."""
    label, p = scored(rng)
    twice = np.concatenate([label, label[label == 1]]), np.concatenate([p, p[label == 1]])
    (one,), (other,) = (operating.at_fprs(*each, [0.02], NIGHT) for each in ((label, p), twice))
    assert one.precision == pytest.approx(other.precision) and one.accepted == pytest.approx(other.accepted)


def test_the_best_k_are_at_most_k(rng):
    label, p = scored(rng)
    points = operating.at_best(label, p, [20, 100, 1_000], NIGHT)
    assert [point.accepted <= k for point, k in zip(points, (20, 100, 1_000), strict=True)] == [True] * 3
    assert points[0].completeness < points[1].completeness < points[2].completeness
    text = operating.lines(points, NIGHT)
    assert text[0] == "a night of 10,000 alerts, 0.02 of them real" and "the best 1,000" in text[-1]


def test_nothing_is_accepted_where_the_highest_score_is_an_artifacts(rng):
    label = np.repeat([1, 0], 500)
    p = np.where(label == 1, 0.2, rng.random(1000))
    (point,) = operating.at_fprs(label, np.append(p[:-5], [0.999999] * 5), [0.002], NIGHT)
    assert np.isinf(point.threshold) and point.precision is None and point.accepted == 0
    assert (
        "none" in operating.lines([point], NIGHT)[-1] and "undefined" in operating.lines([point], NIGHT)[-1]
    )


def test_too_few_artifacts_are_refused(rng):
    label, p = scored(rng, artifacts=99)
    with pytest.raises(UserError, match=r"FPR 0.01: 99 artifacts .* label at least 100"):
        operating.at_fprs(label, p, [0.01], NIGHT)


@pytest.mark.parametrize("kind", calibrators.KINDS)
def test_a_calibrator_mends_overconfidence(kind, rng):
    truth = rng.random(20_000)
    label = rng.random(20_000) < truth
    over = 1 / (1 + (1 / truth - 1) ** 3)  # logits three times too large
    calibrator = calibrators.fit(kind, label[:10_000], over[:10_000])
    found = calibrator(over[10_000:])
    assert np.abs(found - truth[10_000:]).mean() < 0.02 < np.abs(over - truth).mean()
    again = calibrators.of_json(json.loads(json.dumps(calibrator.as_json())))
    np.testing.assert_array_equal(again(over), calibrator(over))
    ordered = np.sort(over)
    assert (np.diff(calibrator(ordered)) >= 0).all()


def test_platt_finds_the_slope(rng):
    truth = rng.random(50_000)
    calibrator = calibrators.fit("platt", rng.random(50_000) < truth, 1 / (1 + (1 / truth - 1) ** 3))
    assert calibrator.a == pytest.approx(1 / 3, abs=0.02) and calibrator.b == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("kind", calibrators.KINDS)
def test_separable_classes_stay_finite(kind):
    label, p = np.repeat([0, 1], 60), np.repeat([0.0, 1.0], 60)
    found = calibrators.fit(kind, label, p)(np.array([0, 0.5, 1]))
    assert np.isfinite(found).all() and found[0] < 0.05 and found[2] > 0.95


def test_bad_calibrators_are_refused():
    with pytest.raises(UserError, match="49 candidates"):
        calibrators.fit("platt", np.repeat([1, 0], [49, 100]), np.linspace(0, 1, 149))
    with pytest.raises(UserError, match="'beta' is not known"):
        calibrators.fit("beta", np.repeat([1, 0], 100), np.linspace(0, 1, 200))
    with pytest.raises(ValueError, match="non-decreasing"):
        calibrators.of_json({"kind": "isotonic", "p": [0, 1], "value": [1, 0]})
