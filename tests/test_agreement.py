"""How a network agrees with a survey's own score: figures against SciPy's, and the three sources."""

import csv
import json

import h5py
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays
from scipy import stats

from rotinv.metrics import agreement as of
from rotinv.metrics.scores import SurveyScores
from rotinv.stamps.store import CHANNELS, create_store


def test_spearman_and_its_interval(rng):
    """Fisher's interval with Bonett and Wright's error is close to a bootstrap's."""
    x = rng.normal(size=300)
    y = np.exp(x + rng.normal(size=300))
    found = of.spearman(x, y)
    assert found["value"] == stats.spearmanr(x, y).statistic

    def rho(a, b):
        return stats.spearmanr(a, b).statistic

    draws = [rho(x[place], y[place]) for place in rng.integers(300, size=(500, 300))]
    np.testing.assert_allclose(found["interval"], np.quantile(draws, [0.025, 0.975]), atol=0.03)


def test_the_auc_and_its_interval(rng):
    """Ties count half, as for Mann and Whitney; the interval holds the truth in 19 of 20 draws."""
    real = rng.uniform(size=400) < 0.3
    score = np.round(rng.normal(size=400) + real, 1)
    found = of.auc(score, real)
    u = stats.mannwhitneyu(score[real], score[~real]).statistic
    assert found["value"] == pytest.approx(u / (real.sum() * (~real).sum()), abs=1e-12)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    draws = [
        of.auc(np.append(rng.normal(size=60), rng.normal(1, 1, 25)), np.arange(85) >= 60) for _ in range(400)
    ]
    held = np.mean([low <= truth <= high for low, high in (one["interval"] for one in draws)])
    assert 0.92 < held < 0.98


def test_what_does_not_exist():
    three, four = np.arange(3.0), np.arange(4.0)
    assert of.spearman(three, three) is None and of.spearman(four, np.ones(4)) is None
    assert of.spearman(four, four) == {"value": 1, "interval": None}
    assert of.auc(four, np.ones(4, bool)) is None
    assert of.auc(four, four > 1) == {"value": 1, "interval": None}


def test_each_kind_of_score_by_itself(rng):
    """drb and rb are apart, whatever their versions; what lacks a score is in neither."""
    n = 90
    version = np.array((["drb d6_m7", "drb d6_m4", "rb t8_f5"] * 30), object)
    score, p = rng.uniform(size=n), rng.uniform(size=n)
    score[:6], p[6:12], version[12:15] = np.nan, np.nan, ""
    drb, rb = of.agreement({"cap": p}, SurveyScores(score, version))
    assert (drb["score"], drb["versions"]) == ("drb", ["drb d6_m4", "drb d6_m7"])
    good = np.isfinite(score) & np.isfinite(p) & (version != "")
    for row, here in ((drb, good & (version != "rb t8_f5")), (rb, good & (version == "rb t8_f5"))):
        assert row["stamps"] == here.sum()
        assert row["real"] == (score[here] >= row["cut"]).sum() and row["real"] + row["bogus"] == here.sum()
        assert row["models"]["cap"] == {
            "spearman": of.spearman(p[here], score[here]),
            "auc": of.auc(p[here], score[here] >= row["cut"]),
        }
    assert (drb["cut"], rb["cut"], drb["survey_auc"]) == (0.5, 0.55, None)
    (again, _) = of.agreement({"cap": p}, SurveyScores(score, version), cut=0.9)
    assert again["cut"] == 0.9 and again["real"] < drb["real"]


def test_labels_judge_both(rng):
    label = rng.integers(0, 2, 80)
    score, p = rng.normal(label, 1), rng.normal(label, 2)
    (row,) = of.agreement({"cap": p}, SurveyScores(score, np.full(80, "reliability")), label)
    assert row["cut"] is None and row["real"] == label.sum()
    assert row["survey_auc"] == of.auc(score, label == 1)
    assert row["models"]["cap"]["auc"] == of.auc(p, label == 1)


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / f"cap-{seed}", "cap", seed, channels=CHANNELS) for seed in range(2)]


def store_of(path, label=None):
    """A store of 80 alerts with a drb that knows the stars, and of 10 without a score."""
    arrays = toy_arrays(n=90, channels=4)
    score = np.clip(0.35 * arrays["label"] + np.random.default_rng(1).uniform(size=90) * 0.6, 0, 1)
    score[80:] = np.nan
    known = {
        "survey_score": score,
        "survey_score_version": ["drb d6_m7"] * 80 + [""] * 10,
        "candidate_id": [str(i) for i in range(90)],
        "flags": np.zeros(90),
    }
    with create_store(path, channels=CHANNELS, size=13, labels=False, alerts=True) as store:
        store.append("test", arrays["stamps"], None, **known)
    return path, np.float32(score)


def document(*arguments):
    done = call("evaluate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_store_without_labels(runs, tmp_path):
    path, score = store_of(tmp_path / "alerts.h5")
    out = tmp_path / "s.csv"
    assert call("score", *runs, path, "--out", out).returncode == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (row,) = document(*runs, path)["agreement"]
    assert row["stamps"] == 80 and list(row["models"]) == ["cap-0", "cap-1", "majority of 2"]
    for name, column in (("cap-1", "probability_cap-1"), ("majority of 2", "probability")):
        p = np.array([float(one[column]) for one in rows[:80]])
        expected = of.spearman(np.float32(p), np.float64(score[:80]))
        assert row["models"][name]["spearman"]["value"] == pytest.approx(expected["value"])
    text = call("evaluate", *runs, path).stdout
    assert "AUC against drb cut at 0.5 (Duev et al. 2019)" in text and "drb d6_m7 (80 stamps)" in text
    (again,) = document(*runs, path, "--survey-cut", 0.7)["agreement"]
    assert again["cut"] == 0.7
    assert not (runs[0] / "thresholds.json").exists()
    (table,) = document(out)["agreement"]  # the catalogue tells the same
    for name in ("auc", "spearman"):
        one, other = table["models"]["s.csv"][name], row["models"]["majority of 2"][name]
        np.testing.assert_allclose([one["value"], *one["interval"]], [other["value"], *other["interval"]])


def test_alerts_themselves(tmp_path):
    """Of several folders of packets; an alert without a cut-out has no score, and is not counted."""
    packets = pytest.importorskip("alert_packets")
    run = make_run(tmp_path / "run", "cap-mini", channels=["difference"])
    score = np.linspace(0.2, 0.9, 10)
    for night in range(2):
        (tmp_path / f"night-{night}").mkdir()
        alerts = [packets.rubin(10 * night + i, packets.sky(30, i), reliability=score[i]) for i in range(10)]
        alerts[3]["cutoutDifference"] = None
        packets.write_avro(tmp_path / f"night-{night}" / "a.avro", packets.RUBIN, alerts)
    nights = [tmp_path / "night-0", tmp_path / "night-1"]
    (row,) = document(run, *nights)["agreement"]
    assert (row["score"], row["stamps"], row["real"]) == ("reliability", 18, 2 * np.sum(score[4:] >= 0.5))
    assert document(run, nights[0])["scored"] == "night-0" and document(run, *nights)["scored"] == "2 files"


def test_a_labelled_store_has_both(runs, tmp_path):
    path, score = store_of(tmp_path / "alerts.h5")
    labelled = tmp_path / "labelled.h5"
    labelled.write_bytes(path.read_bytes())
    label = np.arange(90) % 2
    with h5py.File(labelled, "r+") as file:
        file["test/label"] = label.astype(np.uint8)
    found = document(*runs, labelled, "--no-keep")
    (row,) = found["agreement"]
    assert row["survey_auc"]["value"] == of.auc(np.float64(score[:80]), label[:80] == 1)["value"]
    assert row["cut"] is None and found["stamps"] == 90
    text = call("evaluate", *runs, labelled, "--no-keep").stdout
    assert "AUC against the labels: 40 real, 40 bogus" in text
    done = call("evaluate", *runs, labelled, "--no-keep", "--out", tmp_path / "f.png")
    assert done.returncode == 0, done.stderr


def test_the_picture(runs, tmp_path):
    pytest.importorskip("matplotlib")
    path, _ = store_of(tmp_path / "alerts.h5")
    done = call("evaluate", *runs, path, "--out", tmp_path / "f.png")
    assert done.returncode == 0 and (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_what_needs_labels_is_refused(runs, tmp_path):
    path, _ = store_of(tmp_path / "alerts.h5")
    assert_refused(call("evaluate", runs[0], path, "--fpr", 0.1), "--fpr", "alerts.h5 has no labels")
    assert_refused(call("evaluate", runs[0], path, "--calibrate", "platt"), "--calibrate", "no labels")
    night = ("--prevalence", 0.1, "--per-night", 10)
    assert_refused(call("evaluate", runs[0], path, *night), "--prevalence", "no labels")
    arrays = toy_arrays(n=9, channels=4)
    with create_store(tmp_path / "bare.h5", channels=CHANNELS, size=13, labels=False, alerts=True) as store:
        store.append("test", arrays["stamps"], None, flags=np.zeros(9))
    assert_refused(call("evaluate", runs[0], tmp_path / "bare.h5"), "bare.h5", "no labels", "survey's own")
