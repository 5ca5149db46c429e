"""evaluate's operating points of a night and its calibrators, and the calibrated column of score."""

import csv
import json

import numpy as np
import pytest
from programs import assert_refused, call, toy_arrays

from rotinv.metrics.scores import Scores
from rotinv.metrics.scores import read as read_scores
from rotinv.metrics.scores import write as write_scores
from rotinv.runs import calibrated
from rotinv.runs.folder import Config
from rotinv.runs.model import write_weights

NIGHT = ("--prevalence", 0.02, "--per-night", 10_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    np.savez(folder / "toy.npz", **toy_arrays(n=600))
    result = call("pack", folder / "toy.npz", "--out", folder / "toy.h5", "--split", "0.2,0.4,0.4")
    assert result.returncode == 0, result.stderr
    return folder / "toy.h5"


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / f"mini-{seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        config = Config(arch="cap-mini", size=13, channels=["channel0"])
        folder.mkdir()
        write_weights(folder, config, config.network().initial("he", seed))
    return folders


@pytest.fixture
def table(tmp_path, rng):
    """A table of scores, of 500 candidates and 2,000 artifacts."""
    label = np.repeat([1, 0], [500, 2_000])
    z = rng.normal(np.where(label == 1, 2.5, -2.5), 2)
    write_scores(tmp_path / "scores.h5", Scores(label.astype(np.uint8), 1 / (1 + np.exp(-z)), None))
    return tmp_path / "scores.h5"


def test_a_night_is_told(table):
    result = call("evaluate", table, *NIGHT, "--fpr", 0.03, "--best", 100, 1_000)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    night = lines[lines.index("a night of 10,000 alerts, 0.02 of them real") :]
    assert [line.split("  ")[1] for line in night[2:]] == ["FPR 3%", "the best 100", "the best 1,000"]
    document = json.loads(call("evaluate", table, *NIGHT, "--fpr", 0.03, "--json").stdout)
    (point,) = document["operating_points"]
    scores = read_scores(table)
    accepted = scores.probability >= point["threshold"]
    tpr, fpr = accepted[scores.label == 1].mean(), accepted[scores.label == 0].mean()
    assert point["accepted"] == pytest.approx(200 * tpr + 9_800 * fpr)
    assert document["thresholds"]["0.03"] == point["threshold"]
    assert "0.03" in document["intervals"]["fnr_at_fpr"]
    assert "    3.0%  " in result.stdout


def test_what_does_not_go_together_is_refused(table, store, runs):
    assert_refused(call("evaluate", table, "--prevalence", 0.02), "--per-night")
    assert_refused(call("evaluate", table, "--best", 10), "--prevalence")
    assert_refused(call("evaluate", table, "--fpr", 1e-4), "2,000 artifacts", "at least 10,000")
    assert_refused(call("evaluate", table, "--calibrate", "platt"), "a table of scores")
    toy = store.with_name("toy.npz")
    assert_refused(
        call("evaluate", runs[0], toy, "--calibrate", "platt"), "no validation split", "rotinv pack"
    )
    assert_refused(call("score", runs[0], store, "--calibrated"), "no calibrator", "--calibrate isotonic")


@pytest.mark.parametrize("count", [1, 3])
def test_a_calibrator_is_fitted_on_the_validation_split_and_used(count, runs, store, tmp_path):
    """A network that has learned nothing is calibrated to the share of candidates."""
    chosen = runs[:count]
    result = call("evaluate", *chosen, store, "--calibrate", "platt", "--out", tmp_path / "evaluation.png")
    assert result.returncode == 0, result.stderr
    assert (
        "calibrated by platt on the validation split" in result.stdout
        and "calibrators are kept" in result.stderr
    )
    found = json.loads(call("evaluate", *chosen, store, "--calibrate", "platt", "--json").stdout)
    assert found["calibrated"]["brier"] < found["calibration"]["brier"]
    out = tmp_path / "scores.csv"
    assert call("score", *chosen, store, "--calibrated", "--out", out).returncode == 0
    with out.open(newline="") as file:
        rows = [row for row in csv.DictReader(line for line in file if not line.startswith("#"))]
    p, after = (np.array([float(row[name]) for row in rows]) for name in ("probability", "calibrated"))
    (entry,) = (
        one
        for one in json.loads((chosen[0] / calibrated.FILE).read_text())["entries"]
        if len(one["models"]) == count
    )
    a, b = entry["calibrator"]["a"], entry["calibrator"]["b"]
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-(a * np.log(p / (1 - p)) + b))), rtol=1e-5)
    assert entry["split"] == "validate"


def test_a_damaged_calibrator_is_told(runs, store):
    assert call("evaluate", runs[0], store, "--calibrate", "isotonic").returncode == 0
    path = runs[0] / calibrated.FILE
    document = json.loads(path.read_text())
    document["entries"][0]["calibrator"]["value"] = [3, 1]
    path.write_text(json.dumps(document))
    assert_refused(call("score", runs[0], store, "--calibrated"), path.name, "remove it")
