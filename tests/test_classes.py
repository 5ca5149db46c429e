"""Which class is named and which one explained: ties, thresholds, votes, and tests with a single class."""

import csv
import json
import re

import h5py
import numpy as np
import pytest
from programs import call, make_run, toy_arrays

import rotinv
from rotinv.lrp import attribution, map_files, subjects, targets
from rotinv.lrp.attribution import Question
from rotinv.lrp.study import study
from rotinv.nn.devices import get_kernels
from rotinv.runs import thresholds, trials
from rotinv.runs.model import load_model, open_stamps_for, verdict
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.pixels import prepare

SIDE = 13


def equal_logits(views):
    """Both classes get the same weights, so that the logits are equal, and not 0."""
    views[-1]["w"][:, 0] = views[-1]["w"][:, 1] = np.abs(views[-1]["w"][:, 1])
    views[-1]["b"][:] = 0.25


def no_weights(views):
    for layer in views:
        for array in layer.values():
            array[:] = 0


@pytest.fixture
def stamps(tmp_path):
    np.savez(tmp_path / "stamps.npz", **toy_arrays(n=24))
    return tmp_path / "stamps.npz"


@pytest.fixture
def tie(tmp_path):
    return make_run(tmp_path / "tie", "cap-mini", change=equal_logits)


def test_of_equal_logits_the_candidates_is_explained(k):
    """By every target, on every device; p(candidate) = 0.5 is a candidate, as in the program score."""
    logits = k.asarray(np.array([[2.0, 2.0], [3.0, 1.0], [1.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(targets.explained_classes(k, logits, "predicted"), [1, 0, 1, 1])
    of = {name: k.to_host(targets.relevance(k, logits, name)) for name in targets.TARGETS}
    np.testing.assert_array_equal(of["predicted"], [[0, 2], [3, 0], [0, 3], [0, 0]])
    np.testing.assert_array_equal(of["one"], [[0, 1], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(of["difference"], [[-2, 2], [3, -1], [-1, 3], [0, 0]])
    assert of["probability"][0, 1] == 0.5 and of["probability"][0, 0] == 0
    np.testing.assert_array_equal(k.to_host(targets.gradient(k, logits, "predicted"))[0], [0, 1])


def test_classes_that_a_caller_names_are_explained(k):
    logits = k.asarray(np.array([[2.0, 5.0], [3.0, 1.0]]))
    other = targets.OfClasses("predicted", np.array([0, 1]))
    np.testing.assert_array_equal(k.to_host(targets.relevance(k, logits, other)), [[2, 0], [0, 1]])
    assert list(targets.explained_classes(k, logits, other)) == [0, 1]


def test_a_tie_is_named_by_every_program(tie, stamps, tmp_path):
    told = call("explain", tie, stamps, "--index", 0, "--maps", tmp_path / "m.h5")
    assert told.returncode == 0 and "candidate (a tie)" in told.stdout
    with h5py.File(tmp_path / "m.h5") as file:
        group = file["models/tie"]
        assert group["logits"][0, 0] == group["logits"][0, 1] != 0
        assert list(group["explained"]) == [1]
    told = call("audit", tie, stamps, "--index", 0)
    assert "predicted candidate (a tie), p(candidate) 0.500000" in told.stdout
    document = json.loads(call("audit", tie, stamps, "--index", 0, "--json").stdout)
    assert document["stamps"][0]["predicted"] == 1 and document["stamps"][0]["probability"] == 0.5
    out = tmp_path / "scores.csv"
    assert call("score", tie, stamps, "--out", out).returncode == 0
    assert {row["class"] for row in csv.DictReader(out.open())} == {"1"}
    assert call("view", tie, stamps, "--index", 0, "--out", tmp_path / "page.html").returncode == 0
    assert '"candidate (a tie)"' in (tmp_path / "page.html").read_text()


def test_a_tie_has_the_map_of_the_class_that_is_named(tie, stamps):
    model, k = load_model(tie), get_kernels("cpu")
    split = open_stamps_for(model, stamps)
    maps = {
        target: study(subjects.runs(k, [model]), split, np.arange(3), Question(target=target)).maps
        for target in ("predicted", 0, 1)
    }
    np.testing.assert_array_equal(maps["predicted"], maps[1])
    exact = call("audit", tie, stamps, "--index", 0, "--exact", "--json")
    near = call("audit", tie, stamps, "--index", 0, "--json")
    one, other = (json.loads(text.stdout)["stamps"][0] for text in (exact, near))
    assert one["predicted"] == other["predicted"] == 1
    assert one["output"] == pytest.approx(other["output"])
    assert max(row["deviation"] for row in other["layers"]) < 1e-4


def test_relevance_of_nothing_is_said_to_be_none(tmp_path, stamps):
    blank = make_run(tmp_path / "blank", "cap-mini", change=no_weights)
    told = call("audit", blank, stamps, "--index", 0)
    assert told.returncode == 0 and "relevance at the output is 0" in told.stdout
    assert "100% is" not in told.stdout
    assert json.loads(call("audit", blank, stamps, "--index", 0, "--json").stdout)["stamps"][0]["output"] == 0


def test_p_is_that_of_a_candidate_everywhere(tmp_path, stamps):
    run = make_run(tmp_path / "run", "cap-mini", seed=3)
    out = tmp_path / "scores.csv"
    assert call("score", run, stamps, "--out", out).returncode == 0
    rows = list(csv.DictReader(out.open()))
    for index in range(6):
        told = call("audit", run, stamps, "--index", index).stdout
        assert f"p(candidate) {np.float32(rows[index]['probability']):.6f}" in told


@pytest.mark.parametrize("models", [1, 3])
def test_maps_are_of_the_class_that_the_catalogue_gives(tmp_path, stamps, models):
    """At a threshold that few reach, and in a vote that a network may lose."""
    runs = [make_run(tmp_path / f"run-{seed}", "cap-mini", seed=seed) for seed in range(models)]
    out = tmp_path / "a.csv"
    assert call("score", *runs, stamps, "--out", out).returncode == 0
    p = sorted(float(row["probability"]) for row in csv.DictReader(out.open()))
    loaded = [load_model(run) for run in runs]
    thresholds.store(runs, loaded, {0.01: p[12]}, {"stamps": "x", "split": "test", "artifacts": 1})
    out = tmp_path / "b.csv"
    told = call("score", *runs, stamps, "--at-fpr", 0.01, "--explain", "all", "--out", out)
    assert told.returncode == 0, told.stderr
    rows = list(csv.DictReader(out.open()))
    classes = np.array([int(row["class"]) for row in rows])
    assert set(classes) == {0, 1}
    with h5py.File(tmp_path / "b-maps.h5") as file:
        index = file["indices"][()]
        disagree = 0
        for run, model in zip(runs, loaded, strict=True):
            group = file[f"models/{run.name}"]
            np.testing.assert_array_equal(group["explained"], classes[index])
            disagree += int(np.sum(group["logits"][()].argmax(axis=1) != classes[index]))
            split = open_stamps_for(model, stamps)
            for of in (0, 1):
                chosen = np.flatnonzero(classes[index] == of)[:2]
                expected = study(
                    subjects.runs(get_kernels("cpu"), [model]), split, index[chosen], Question(target=of)
                )
                np.testing.assert_array_equal(group["maps"][()][chosen], expected.maps)
    assert disagree > 0  # else nothing is tested


def test_a_map_of_another_class_says_whose_it_is(tmp_path, stamps):
    from rotinv.lrp.map_figures import header

    model = load_model(make_run(tmp_path / "run", "cap-mini", seed=1))
    split = open_stamps_for(model, stamps)
    for target in (0, 1):
        (one,) = study(
            subjects.runs(get_kernels("cpu"), [model]), split, np.arange(3), Question(target=target)
        ).answers
        for i in range(3):
            other = one.predicted[i] != target
            assert (f"maps of {('artifact', 'candidate')[target]}" in header(one, i, None)) == other


def test_verdicts():
    two, three = Classes(), Classes.of(["bogus", "SN", "star"], "SN")
    assert [verdict(two, p >= 0.5, p) for p in (0.2, 0.5)] == ["artifact", "candidate (a tie)"]
    assert [verdict(two, p >= 0.9, p, 0.9) for p in (0.5, 0.9)] == ["artifact", "candidate (a tie)"]
    assert [verdict(three, 1, p, at) for p, at in ((0.5, None), (0.5, 0.5))] == ["SN", "SN (a tie)"]


@pytest.mark.parametrize("where", [0, 12])
def test_every_map_is_of_the_class_at_the_threshold(tmp_path, stamps, where):
    """Of explain, audit and view, the maps' file, the page and Python alike: few pass, or half of them."""
    runs = [make_run(tmp_path / f"run-{seed}", "cap-mini", seed=seed) for seed in (1, 2)]
    loaded = [load_model(run) for run in runs]
    of_each = [rotinv.load(run) for run in runs]
    opened = open_stamps_for(loaded[0], stamps)
    at = [np.sort(clf.predict_proba(opened)[:, 1])[::-1][where].item() for clf in of_each]
    for run, model, value in zip(runs, loaded, at, strict=True):
        thresholds.store([run], [model], {0.01: value}, {"stamps": "x", "split": "test", "artifacts": 1})
    classes = [clf.predict(opened, at_fpr=0.01) for clf in of_each]
    assert [int(one.sum()) for one in classes] == [where + 1] * 2
    assert any(np.any(one != clf.predict(opened)) for one, clf in zip(classes, of_each, strict=True))
    fpr, index = ("--at-fpr", 0.01), ("--index", *range(24))
    done = call("explain", runs[0], stamps, *index, "--compare", runs[1], *fpr, "--maps", tmp_path / "m.h5")
    assert done.returncode == 0, done.stderr
    _, answers = map_files.read(tmp_path / "m.h5")
    named = re.findall(r"^  run-\d  (artifact|candidate)", done.stdout, re.MULTILINE)
    wanted = [TWO.names[one[i]] for i in range(24) for one in classes]
    assert named == wanted and done.stdout.count("classes at the threshold") == 2
    for one, own, model, value in zip(answers, classes, loaded, at, strict=True):
        np.testing.assert_array_equal(one.explained, own)
        np.testing.assert_array_equal(one.predicted, own)
        assert one.threshold == value
        plain = study(subjects.runs(get_kernels("cpu"), [model]), opened, np.arange(24), Question()).answers[
            0
        ]
        same = plain.explained == own
        np.testing.assert_array_equal(one.maps[same], plain.maps[same])
        assert not np.array_equal(one.maps[~same], plain.maps[~same]) or same.all()
    done = call("audit", runs[0], stamps, *index, *fpr, "--json")
    told = json.loads(done.stdout)
    assert [one["predicted"] for one in told["stamps"]] == list(classes[0]) and told["threshold"] == at[0]
    found = of_each[0].audit(stamp(opened, 3), at_fpr=0.01, normalised=True)
    assert found.predicted == classes[0][3] and f"(threshold {at[0]:.4g})" in str(found)
    page = tmp_path / "v.html"
    assert call("view", *runs, stamps, *index, *fpr, "--rule", "alpha2beta1", "--out", page).returncode == 0
    assert re.findall(r'"predicted": ?"(artifact|candidate)', page.read_text()) == wanted


def stamp(split, i):
    """One stamp, scaled to 0-1."""
    return prepare(split.raw(i, i + 1), split.normalisation, None)[0][0]


def test_unequal_answers_are_told_apart(tmp_path, stamps):
    """Names that are alike are numbered, and blocks joined, by the function that asks several networks."""
    model = load_model(make_run(tmp_path / "run", "cap-mini"))
    x = study(
        subjects.runs(get_kernels("cpu"), [model]), open_stamps_for(model, stamps), np.arange(24), Question()
    ).stamps
    x = np.concatenate([x] * 3)  # more than a block
    both = attribution.answers(get_kernels("cpu"), [model, model], x, Question())
    assert [one.name for one in both] == ["run-1", "run-2"]
    assert both[0].maps.shape[0] == len(both[0].explained) == 72


def result(tp, fp, tn, fn):
    counts = {"true_positives": tp, "false_positives": fp, "true_negatives": tn, "false_negatives": fn}
    both = tp + fn > 0 and fp + tn > 0
    return {"stamps": tp + fp + tn + fn, "confusion": counts, "fnr_at_fpr": {"0.01": 1.0 if both else None}}


def test_a_network_that_gives_one_class_is_told():
    assert "no stamp of the test is taken for a candidate" in trials.one_sided(result(0, 0, 50, 1))
    assert "--at-fpr" in trials.one_sided(result(0, 0, 50, 1))
    assert "every stamp" in trials.one_sided(result(3, 50, 0, 0))
    assert trials.one_sided(result(1, 0, 50, 1)) is None
    assert trials.one_sided(result(0, 0, 50, 0)) is None  # there is but one class
