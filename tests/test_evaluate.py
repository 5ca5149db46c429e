"""The program rotinv.evaluate: its figures, tables of scores, thresholds kept for score, bad input."""

import csv
import json

import h5py
import looks
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

from rotinv.metrics import classification_report, curves, rates, scores
from rotinv.metrics.scores import Scores
from rotinv.runs import thresholds
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model, write_weights
from rotinv.stamps.store import create_store
from rotinv.system import pictures
from rotinv.system.errors import UserError

CHANNELS = ["difference"]


@pytest.fixture
def models(tmp_path):
    return [make_run(tmp_path / f"cap-{seed}", seed=seed) for seed in range(3)]


@pytest.fixture
def stamps(tmp_path):
    np.savez(tmp_path / "stamps.npz", **toy_arrays(n=80))
    return tmp_path / "stamps.npz"


def document(*arguments):
    result = call("evaluate", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def table(*arguments, out):
    result = call("score", *arguments, "--out", out)
    assert result.returncode == 0, result.stderr
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_the_real_scores_give_the_known_figures(real_data):
    found = document(real_data / "deep_hits_test_scores.h5")
    known = {"accuracy": 0.99469, "precision": 0.994166, "recall": 0.995220, "f1": 0.994693}
    for name, value in known.items():
        assert found[name] == pytest.approx(value, abs=5e-7)
        low, high = found["intervals"][name]
        assert low < value < high and high - low < 0.002
    errors = {name: found["confusion"][name] for name in ("false_negatives", "false_positives")}
    assert errors == {"false_negatives": 239, "false_positives": 292}
    fnr = {"0.001": 0.0770, "0.002": 0.0281, "0.005": 0.0059, "0.01": 0.0021}
    assert found["fnr_at_fpr"] == pytest.approx(fnr, abs=5e-5)
    incomplete = {row["from"]: 1 - row["completeness"] for row in found["by_snr"] if row["candidates"]}
    known = {0: 0.035, 6.5: 0.023, 7: 0.014, 7.5: 0.010, 8: 0.0064, 9: 0.0033}
    assert {low: incomplete[low] for low in known} == pytest.approx(known, rel=0.06)
    fpr = {row["from"]: row["fpr"] for row in found["by_snr"]}
    assert {low: fpr[low] for low in (10, 20, 50)} == pytest.approx(
        {10: 0.016, 20: 0.015, 50: 0.002}, rel=0.15
    )


def test_a_model_scores_and_a_table_of_its_scores_agree(models, stamps, tmp_path):
    one = document(models[0], stamps)
    rows = table(models[0], stamps, out=tmp_path / "scores.csv")
    other = document(tmp_path / "scores.csv")
    for name in ("accuracy", "precision", "recall", "f1", "fnr_at_fpr", "by_snr", "intervals"):
        assert one[name] == other[name], name
    assert one["thresholds"] == pytest.approx(other["thresholds"], rel=1e-7)
    with np.load(stamps) as arrays:
        right = np.array([row["class"] == "1" for row in rows]) == arrays["label"]
    assert one["accuracy"] == right.mean()
    assert list(one["models"]) == ["cap-0"]


def test_several_runs_vote(models, stamps, tmp_path):
    found = document(*models, stamps)
    table(*models, stamps, out=tmp_path / "scores.csv")
    assert list(found["models"]) == ["cap-0", "cap-1", "cap-2", "majority of 3"]
    assert found["accuracy"] == document(tmp_path / "scores.csv")["accuracy"]
    assert found["accuracy"] == found["models"]["majority of 3"]["accuracy"]
    assert found["models"]["cap-0"]["accuracy"] == document(models[0], stamps)["accuracy"]


def test_scores_at_the_thresholds_that_were_kept(models, stamps, tmp_path):
    """The highest scores are made candidates', or no threshold would do."""
    assert_refused(call("score", models[0], stamps, "--at-fpr", 0.01), "thresholds.json", "evaluate")
    arrays = dict(np.load(stamps))
    for chosen in ([models[0]], models):
        rows = table(*chosen, stamps, out=tmp_path / f"all-{len(chosen)}.csv")
        arrays["label"][np.argsort([float(row["probability"]) for row in rows])[-9:]] = 1
    np.savez(stamps, **arrays)
    assert call("evaluate", *models, stamps).returncode == 0
    with np.load(stamps) as arrays:
        artifact = arrays["label"] == 0
    for chosen in ([models[0]], models[::-1]):
        rows = table(*chosen, stamps, "--at-fpr", 0.01, out=tmp_path / f"{len(chosen)}.csv")
        accepted = np.array([row["class"] == "1" for row in rows])
        assert not accepted[artifact].any()  # one of them would be above 1%
        p = np.float32([float(row["probability"]) for row in rows])
        np.testing.assert_array_equal(accepted, p > p[artifact].max())
    assert_refused(call("score", models[0], stamps, "--at-fpr", 0.3), "0.3", "0.001, 0.002, 0.005, 0.01")
    assert_refused(call("score", *models[:2], stamps, "--at-fpr", 0.01), "thresholds", "evaluate")


def test_thresholds_belong_to_weights(models, stamps):
    assert call("evaluate", models[0], stamps).returncode == 0
    entries = json.loads((models[0] / thresholds.FILE).read_text())["entries"]
    assert call("evaluate", models[0], stamps).returncode == 0  # again: in place of the last
    assert json.loads((models[0] / thresholds.FILE).read_text())["entries"] == entries
    config = read_config(models[0])
    write_weights(models[0], config, config.network().initial("he", 9))
    assert_refused(call("score", models[0], stamps, "--at-fpr", 0.01), "no thresholds of these weights")
    (models[0] / thresholds.FILE).write_text("[]")
    assert_refused(call("score", models[0], stamps, "--at-fpr", 0.01), thresholds.FILE, "remove it")


def test_thresholds_may_be_left_alone(models, stamps):
    assert call("evaluate", models[0], stamps, "--no-keep").returncode == 0
    assert not (models[0] / thresholds.FILE).exists()


def kept_of(run):
    (entry,) = json.loads((run / thresholds.FILE).read_text())["entries"]
    return entry


def test_surer_thresholds_stay(models, stamps, tmp_path):
    """Those of more artifacts of other stamps are not replaced unasked; those of the same stamps are."""
    np.savez(tmp_path / "many.npz", **toy_arrays(n=400, seed=5))
    assert call("evaluate", models[0], tmp_path / "many.npz").returncode == 0
    before = kept_of(models[0])
    assert before["artifacts"] == 200
    result = call("evaluate", models[0], stamps)
    assert result.returncode == 0 and kept_of(models[0]) == before
    assert "stay those of 200 artifacts" in result.stderr and "--keep replaces them" in result.stderr
    assert "kept thresholds" not in result.stdout and document(models[0], stamps)["kept"] is None
    np.savez(tmp_path / "many.npz", **toy_arrays(n=300, seed=5))  # the same file, with fewer
    assert call("evaluate", models[0], tmp_path / "many.npz").returncode == 0
    assert kept_of(models[0])["artifacts"] == 150
    result = call("evaluate", models[0], stamps, "--keep")
    assert result.returncode == 0 and kept_of(models[0])["stamps"] == str(stamps)
    assert "kept thresholds, of 'stamps' (80 stamps)" in result.stdout


def test_a_vote_has_its_own_thresholds(models, stamps, tmp_path):
    """Where those of a run by itself stay, those of its vote, which has none yet, are kept."""
    np.savez(tmp_path / "many.npz", **toy_arrays(n=400, seed=5))
    assert call("evaluate", models[0], tmp_path / "many.npz").returncode == 0
    result = call("evaluate", *models[:2], stamps)
    assert result.stderr.count("stay those of") == 1 and "kept thresholds, of" in result.stdout
    entries = json.loads((models[0] / thresholds.FILE).read_text())["entries"]
    assert {(len(entry["models"]), entry["artifacts"]) for entry in entries} == {(1, 200), (2, 40)}


def test_a_run_votes_once(models, stamps, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(models[0])
    for twice in (models[0], link):
        for program in ("evaluate", "score"):
            result = call(program, models[0], models[1], twice, stamps)
            assert_refused(result, twice.name, "is named twice", "one vote")


def test_too_few_artifacts_for_a_threshold_are_told(models, stamps, tmp_path):
    """With 40 artifacts, less than one lies above a threshold at FPR 0.01; the program says so, and keeps."""
    result = call("evaluate", models[0], stamps)
    artifacts = int((np.load(stamps)["label"] == 0).sum())
    assert f"only {artifacts} artifacts, too few to fix a threshold for FPR 0.001, 0.002" in result.stderr
    assert (models[0] / thresholds.FILE).exists()
    np.savez(tmp_path / "many.npz", **toy_arrays(n=2400))
    assert "too few" not in call("evaluate", models[0], tmp_path / "many.npz").stderr
    assert "too few" not in call("evaluate", models[0], stamps, "--no-keep").stderr


def test_help_gives_no_default_of_no_keep():
    text = " ".join(call("evaluate", "--help").stdout.split())
    assert "--no-keep do not keep the thresholds with the runs (default: False)" in text


def test_a_threshold_that_accepts_nothing_is_told(models, stamps):
    model = load_model(models[0])
    thresholds.store([models[0]], [model], {0.01: np.inf}, {})
    assert_refused(call("score", models[0], stamps, "--at-fpr", 0.01), "no threshold rejects enough")


def test_bins_by_counting(rng):
    label, kind = rng.integers(0, 2, 500), rng.integers(0, 3, 500)
    p, snr = rng.uniform(size=500), rng.choice([-3.0, 6.0, 6.5, 11.0, 500.0, np.nan], 500)
    found = classification_report.evaluate(Scores(label, p, snr, kind, ("a", "b", "c")), draws=50)
    rows = {(row["from"], row["to"]): row for row in found["by_snr"]}
    at = (snr == 6.5) & (label == 1)
    assert rows[6.5, 7]["candidates"] == at.sum()
    assert rows[6.5, 7]["completeness"] == pytest.approx(np.mean(p[at] >= 0.5))
    at = (snr == -3) & (label == 0)
    assert rows[None, 0]["fpr"] == pytest.approx(np.mean(p[at] >= 0.5))
    assert sum(row["candidates"] + row["artifacts"] for row in found["by_snr"]) == np.isfinite(snr).sum()
    assert rows[7, 7.5]["fpr"] is None and rows[7, 7.5]["fpr_interval"] is None
    for number, row in enumerate(found["by_kind"]):
        assert (row["kind"], row["stamps"]) == ("abc"[number], np.sum(kind == number))
        assert row["accepted"] == pytest.approx(np.mean(p[kind == number] >= 0.5))


def test_calibration():
    p = np.array([0.05, 0.05, 0.55, 0.55, 1.0, 1.0])
    found = classification_report.calibration(np.array([0, 0, 0, 1, 1, 1]), p)
    full = {row["from"]: (row["stamps"], row["candidates"]) for row in found["bins"] if row["stamps"]}
    assert full == {0.0: (2, 0.0), 0.5: (2, 0.5), 0.9: (2, 1.0)}
    assert found["expected_error"] == pytest.approx((2 * 0.05 + 2 * 0.05) / 6)
    assert found["brier"] == pytest.approx((2 * 0.05**2 + 0.55**2 + 0.45**2) / 6)


def test_one_class_alone(tmp_path):
    scores.write(tmp_path / "s.h5", Scores(np.zeros(20, np.uint8), np.linspace(0, 1, 20)))
    found = document(tmp_path / "s.h5")
    assert found["recall"] is None and found["fnr_at_fpr"]["0.01"] is None
    assert found["thresholds"]["0.01"] is None and found["intervals"]["f1"] is None
    arrays = toy_arrays(n=30)
    np.savez(tmp_path / "ones.npz", **{**arrays, "label": np.ones(30, int)})
    run = make_run(tmp_path / "run")
    result = call("evaluate", run, tmp_path / "ones.npz")
    assert "no thresholds are kept" in result.stderr and not (run / thresholds.FILE).exists()
    result = call("evaluate", tmp_path / "s.h5")
    assert result.returncode == 0 and "undefined" in result.stdout
    assert_refused(call("evaluate", tmp_path / "s.h5", "--out", tmp_path / "f.png"), "s.h5", "both classes")
    assert not (tmp_path / "f.png").exists()


def test_the_text_and_the_picture(models, stamps, tmp_path):
    pytest.importorskip("matplotlib")
    result = call("evaluate", *models[:2], stamps, "--out", tmp_path / "f.png")
    found = document(*models[:2], stamps)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert f"{found['accuracy']:.3%}" in result.stdout
    assert "majority of 2" in result.stdout and "calibration" in result.stdout
    assert_refused(
        call("evaluate", models[0], stamps, "--out", tmp_path / "f.png"), "f.png", "exists already"
    )


def evaluated(rng, names=("cap-1", "deephits-1", "majority of 2")):
    """Curves, and all figures, of some models of 600 stamps."""
    label, snr = np.arange(600) % 2, rng.uniform(4, 80, 600)
    each = {
        name: Scores(label, 1 / (1 + np.exp(-(2 * label - 1) * (0.7 + i / 2) - rng.normal(size=600))), snr)
        for i, name in enumerate(names)
    }
    drawn = {name: rates.det_curve(one.label, one.probability) for name, one in each.items()}
    return drawn, {name: classification_report.evaluate(one, draws=20) for name, one in each.items()}


def test_curves_are_told_apart_and_have_their_working_points(rng):
    """A working point lies on its curve, at the rates that the threshold 0.5 gives."""
    figure = pytest.importorskip("matplotlib.figure").Figure(layout="constrained")
    drawn, found = evaluated(rng)
    points = {name: curves.working_point(one["confusion"]) for name, one in found.items()}
    for draw, side in ((curves.draw_det, lambda fnr: fnr), (curves.draw_roc, lambda fnr: 1 - fnr)):
        axes = draw(drawn, points, figure.subplots())
        lines, marks = axes.get_lines()[:3], axes.get_lines()[3:]
        assert len(set(looks.looks(lines))) == len(set(looks.looks(marks))) == 3
        for mark, (name, (fpr, fnr)) in zip(marks, drawn.items(), strict=True):
            (x,), (y,) = mark.get_data()
            counts = found[name]["confusion"]
            assert x == counts["false_positives"] / 300
            assert y == pytest.approx(side(counts["false_negatives"] / 300))
            assert (np.isclose(fpr, x) & np.isclose(side(fnr), y)).any()
        figure.clear()


def test_a_picture_without_a_curve_says_why(rng):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    label = np.repeat([0, 1], 20)
    apart, mixed = (
        rates.det_curve(label, p) for p in (label * 0.5 + rng.uniform(0, 0.4, 40), rng.uniform(size=40))
    )
    for drawn, told in (({"a": apart}, True), ({"a": apart, "b": mixed}, False), ({"b": mixed}, False)):
        axes = curves.draw_det(drawn, None, figure.subplots())
        assert any("no stamp is wrong" in one.get_text() for one in axes.texts) == told
        figure.clear()


def test_a_working_point_without_errors_stands_at_the_edge(rng):
    """0 has no place on a logarithmic axis."""
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    label, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.6, 0.4, 0.8, 0.9])
    curves.draw_det({"m": rates.det_curve(label, p)}, {"m": (0.0, 1 / 3)}, axes)
    (x,), _ = axes.get_lines()[-1].get_data()
    assert x == axes.get_xlim()[0] > 0


def test_the_legend_hides_no_error_bar(rng):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(5.5, 4.25), layout="constrained")
    (_, found), *_ = evaluated(rng)[1].items()
    axes = curves.draw_errors_by_snr(found["by_snr"], figure.subplots())
    looks.over_the_edge(figure)  # lays it out
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 > axes.transData.transform((0, 1))[1]


def test_the_evaluations_picture_stays_within_its_edges(rng, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, path, overwrite: figures.append(figure))
    curves.evaluation_picture(tmp_path / "f.png", *evaluated(rng), "survey.h5, test")
    assert looks.over_the_edge(figures[0]) < 0.01


def test_bad_tables_are_refused_in_one_line(models, stamps, tmp_path):
    (tmp_path / "text.csv").write_text("index,probability\n0,0.5\n")
    (tmp_path / "words.csv").write_text("label,probability\n0,high\n")
    (tmp_path / "outside.csv").write_text("label,probability\n0,0.5\n1,1.5\n")
    (tmp_path / "empty.csv").write_text("")
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["label"] = [0, 1]
    for name, *words in (
        ("text.csv", "label", "probability"),
        ("words.csv", "probability", "high"),
        ("outside.csv", "row 1", "1.5"),
        ("empty.csv", "label"),
        ("none.h5", "p_candidate", "RUN"),
        ("absent.csv", "no such file"),
        ("cap-0", "is a folder", "STAMPS"),
    ):
        assert_refused(call("evaluate", tmp_path / name), name, *words)
    assert_refused(call("evaluate", tmp_path / "text.csv", stamps), "text.csv", "holds no run")


def test_stamps_without_labels_are_refused(models, stamps, tmp_path):
    np.save(tmp_path / "bare.npy", np.load(stamps)["stamps"])
    assert_refused(call("evaluate", models[0], tmp_path / "bare.npy"), "bare.npy", "labels")


def test_probabilities_that_are_written_read_back(tmp_path, rng):
    label, p = rng.integers(0, 2, 10).astype(np.uint8), rng.uniform(size=10).astype(np.float32)
    scores.write(tmp_path / "s.h5", Scores(label, p, snr=p))
    found = scores.read(tmp_path / "s.h5")
    np.testing.assert_array_equal(found.probability, p)
    np.testing.assert_array_equal(found.snr, p)
    with pytest.raises(UserError, match="exists already"):
        scores.write(tmp_path / "s.h5", found)


def test_thresholds_are_where_the_fnr_is(rng):
    label = rng.integers(0, 2, 300)
    p = np.round(rng.uniform(size=300) + 0.3 * label, 2)
    for fpr in (0.0, 0.01, 0.1, 1.0):
        threshold = rates.threshold_at_fpr(label, p, fpr)
        assert np.mean(p[label == 0] >= threshold) <= fpr
        assert np.mean(p[label == 1] < threshold) == pytest.approx(rates.fnr_at_fpr(label, p, fpr))
    assert rates.threshold_at_fpr([0, 1], [1.0, 1.0], 0.1) == np.inf


SUFFIXES = {".csv": None, ".h5": None, ".parquet": "pyarrow", ".fits": "astropy"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_catalogue_of_score_is_read(models, stamps, tmp_path, suffix):
    """Stamps to which score gave no score are left out, and told."""
    if SUFFIXES[suffix]:
        pytest.importorskip(SUFFIXES[suffix])
    arrays = dict(np.load(stamps))
    arrays["stamps"][7, 3, 3, 0] = np.nan
    np.savez(stamps, **arrays)
    out = tmp_path / f"scores{suffix}"
    assert call("score", models[0], stamps, "--on-bad", "flag", "--out", out).returncode == 0
    result = call("evaluate", out, "--json")
    assert result.returncode == 0, result.stderr
    assert "1 stamp without a score left out" in result.stderr
    found, other = json.loads(result.stdout), document(models[0], stamps, "--on-bad", "drop")
    assert found["stamps"] == 79
    for name in ("confusion", "fnr_at_fpr", "by_snr"):
        assert found[name] == other[name]


def test_a_score_that_is_no_number_is_dropped_when_told_to(tmp_path):
    p = np.linspace(0, 1, 20)
    p[3] = np.nan
    scores.write(tmp_path / "s.h5", Scores(np.arange(20, dtype=np.uint8) % 2, p))
    assert_refused(call("evaluate", tmp_path / "s.h5"), "row 3 is nan", "--on-bad drop")
    assert document(tmp_path / "s.h5", "--on-bad", "drop")["stamps"] == 19


def test_thresholds_are_those_of_the_split_validate(models, tmp_path):
    """Where the store has one: they are not chosen on the stamps of the test, and the report says so."""
    path = tmp_path / "store.h5"
    with create_store(path, channels=CHANNELS, size=13) as writer:
        for name, count, seed in (("validate", 60, 1), ("test", 80, 2)):
            arrays = toy_arrays(count, seed=seed)
            writer.append(name, arrays["stamps"], arrays["label"])
    model = models[0]
    of = {name: document(model, path, "--split", name, "--no-keep") for name in ("validate", "test")}
    assert of["validate"]["thresholds"] != of["test"]["thresholds"] and not (model / thresholds.FILE).exists()
    result = call("evaluate", model, path)
    assert "kept thresholds, of 'validate' (60 stamps), and what they come to on 'test'" in result.stdout
    (entry,) = json.loads((model / thresholds.FILE).read_text())["entries"]
    assert entry["split"] == "validate" and entry["thresholds"] == of["validate"]["thresholds"]
    kept = document(model, path)["kept"]
    rows = table(model, path, out=tmp_path / "s.csv")
    label, p = (np.float32([row[name] for row in rows]) for name in ("label", "probability"))
    for row in kept["at_fpr"].values():
        accepted = p >= (np.inf if row["threshold"] is None else np.float32(row["threshold"]))
        assert row["fpr"] == accepted[label == 0].mean()
        assert row["fnr"] == pytest.approx(1 - accepted[label == 1].mean())
    assert document(model, path, "--split", "validate")["kept"]["on"] == "validate"


def test_a_split_of_stamps_that_have_none_is_refused(models, stamps):
    assert_refused(call("evaluate", models[0], stamps, "--split", "test"), "stamps.npz", "no splits")
