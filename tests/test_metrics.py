"""Metrics against counting by hand, and on the real scores of Deep-HiTS."""

import h5py
import numpy as np
import pytest

from rotinv.metrics import rates


def test_the_real_scores_give_the_known_figures(real_data):
    with h5py.File(real_data / "deep_hits_test_scores.h5") as file:
        result = rates.classification_rates(file["label"][()], file["p_candidate"][()])
    assert result["accuracy"] == pytest.approx(0.99469, abs=5e-7)
    assert result["precision"] == pytest.approx(0.994166, abs=5e-7)
    assert result["recall"] == pytest.approx(0.995220, abs=5e-7)
    assert result["f1"] == pytest.approx(0.994693, abs=5e-7)
    assert result["confusion"]["false_negatives"] == 239
    assert result["confusion"]["false_positives"] == 292
    known = {"0.001": 0.0770, "0.002": 0.0281, "0.005": 0.0059, "0.01": 0.0021}
    assert result["fnr_at_fpr"] == pytest.approx(known, abs=5e-5)


def test_det_curve_by_counting():
    rng = np.random.default_rng(0)
    label, p = rng.integers(0, 2, 60), rng.integers(0, 12, 60) / 12  # with many ties
    fpr, fnr = rates.det_curve(label, p)
    thresholds = [2.0, *sorted(set(p), reverse=True)]
    np.testing.assert_allclose(fpr, [np.mean(p[label == 0] >= t) for t in thresholds])
    np.testing.assert_allclose(fnr, [np.mean(p[label == 1] < t) for t in thresholds])
    for limit in (0.0, 0.1, 0.37, 1.0):
        best = min(n for f, n in zip(fpr, fnr, strict=True) if f <= limit)
        assert rates.fnr_at_fpr(label, p, limit) == best


def test_figures_that_do_not_exist_are_none():
    result = rates.classification_rates(np.zeros(3), np.array([0.1, 0.2, 0.3]))
    assert result["precision"] is None and result["recall"] is None and result["accuracy"] == 1
    assert result["fnr_at_fpr"]["0.01"] is None
    with pytest.raises(ValueError, match="both classes"):
        rates.det_curve(np.ones(3), np.ones(3))
