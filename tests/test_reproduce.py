"""The program rotinv.reproduce: its sheets against counting by hand, its report in a browser, kills, bad
input."""

import contextlib
import dataclasses
import functools
import html
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import looks
import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT, assert_refused, call, command, toy_arrays
from scipy import stats

from rotinv import explain, reproduce
from rotinv.lrp.viewer.page import RULES
from rotinv.metrics import ensembles, rates, scores
from rotinv.metrics.scores import Scores
from rotinv.metrics.significance import Interval
from rotinv.paper import (
    claims,
    differences,
    place,
    plan,
    published,
    scales,
    sheets,
    table1_fig1,
    table2_fig2,
    table3_figs3to5,
)
from rotinv.paper import figures as paper_figures
from rotinv.paper.place import ARCHS, Place
from rotinv.runs.model import open_stamps_for
from rotinv.runs.protocol import Schedule
from rotinv.system import locks, pipeline
from rotinv.system.errors import UserError

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

TINY = scales.Scale(
    {"train": 200, "validate": 20, "test": 60},
    Schedule(batch=20, halve_every=5, iterations=10, extend_by=0, validate_every=5),
    trials=3,
    explained=30,
    viewed=2,
    draws=50,
)


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory):
    """Six trials of each network, of which CAP's scores are the better."""
    at = Place(tmp_path_factory.mktemp("fabricated"), Path("none.h5"))
    rng = np.random.default_rng(5)
    label = (np.arange(2000) % 2).astype(np.uint8)
    for arch, strength in zip(ARCHS, (3.0, 3.1, 4.0), strict=True):
        for trial in range(1, 7):
            logit = strength * (2.0 * label - 1) + 1.5 * rng.normal(size=len(label))
            p = np.float32(1 / (1 + np.exp(-logit)))
            scores.write(at.scores(arch, trial), Scores(label, p))
    return at


def told(share):
    """Progress that nobody follows."""


def right(at, arch, trial):
    found = scores.read(at.scores(arch, trial))
    return (found.probability >= 0.5) == found.label


def test_table_2_by_counting(fabricated):
    table2_fig2.table_2(fabricated, 6, told)
    found = sheets.read(fabricated.sheet("table2"))
    assert found.heading == "Table II"
    accuracy = {arch: [100 * right(fabricated, arch, i).mean() for i in range(1, 7)] for arch in ARCHS}
    for arch in ARCHS:
        assert found.data["figures"][arch]["accuracy"] == pytest.approx(accuracy[arch])
    cell = f"{np.mean(accuracy['cap']):.2f} ± {np.std(accuracy['cap'], ddof=1):.2f}"
    rows = {row[0]: row for row in found.tables[0].rows}
    assert rows["CAP"][:4] == ["CAP", "6", cell, "99.52 ± 0.01"]
    assert (rows["CAPE"][1], rows["CAPE"][3]) == ("20", "99.53 ± 0.01")
    expected = stats.ttest_ind(accuracy["deephits"], accuracy["cap"], equal_var=False).pvalue
    assert found.data["welch"]["deephits v cap"]["accuracy"][0] == pytest.approx(expected)


def test_cape_is_the_vote_of_every_triple(fabricated):
    table2_fig2.table_2(fabricated, 6, told)
    found = sheets.read(fabricated.sheet("table2")).data
    each = [right(fabricated, "cap", i) for i in range(1, 7)]
    votes = {
        t: np.mean(sum(np.int64(each[i]) for i in t) >= 2) * 100 for t in itertools.combinations(range(6), 3)
    }
    assert found["figures"]["cape"]["accuracy"] == pytest.approx(list(votes.values()))
    two = [votes[0, 1, 2], votes[3, 4, 5]]
    one = [100 * right.mean() for right in each]
    expected = stats.ttest_ind(one, two, equal_var=False).pvalue
    assert found["welch"]["cap v cape"]["accuracy"][0] == pytest.approx(expected)
    names = [name for name, _ in found["mcnemar"]["cap v cape"]]
    assert names[0] == "CAP 1 v CAPE of 2, 3, 4" and names[5] == "CAP 6 v CAPE of 1, 2, 3"
    _, (first, second, *_rest) = found["mcnemar"]["deephits v cap"][2]
    a, b = right(fabricated, "deephits", 3), right(fabricated, "cap", 3)
    assert (first, second) == (np.sum(a & ~b), np.sum(b & ~a))


def test_fig_2_and_its_fnr(fabricated):
    table2_fig2.fig_2(fabricated, 6, 100, told)
    found = sheets.read(fabricated.sheet("fig2"))
    each = [scores.read(fabricated.scores("deephits", i)) for i in range(1, 7)]
    expected = [rates.fnr_at_fpr(one.label, one.probability, 0.01) for one in each]
    here = found.data["0.01"]["deephits"]
    assert here["each"] == pytest.approx(expected)
    assert here["interval"][0] <= here["mean"] <= here["interval"][1]
    assert found.data["0.01"]["difference"]["interval"][1] < 0  # CAPE is better, beyond doubt
    assert "0.228" in found.tables[0].rows[0]
    assert (fabricated.sheets / "fig2.png").read_bytes().startswith(b"\x89PNG")


def test_the_differences_over_stamps_and_trials(fabricated):
    differences.differences(fabricated, 6, 100, told)
    found = sheets.read(fabricated.sheet("differences"))
    accuracy = {arch: np.mean([right(fabricated, arch, i).mean() for i in range(1, 7)]) for arch in ARCHS}
    here = found.data["deephits v cap"]["accuracy"]
    assert here["mean"] == pytest.approx(accuracy["cap"] - accuracy["deephits"])
    rows = {row[0]: row for row in found.tables[0].rows}
    assert rows["CAP less Deep-HiTS, accuracy"][3] == "yes"  # CAP is better, beyond doubt
    assert len(rows) == 9 and "CAPE less CAP, FNR at FPR 0.001" in rows
    differences.differences(fabricated, 2, 100, told)
    assert list(sheets.read(fabricated.sheet("differences")).data) == ["deephits v cap"]


def test_the_claims_of_accuracy_and_fnr(fabricated):
    table2_fig2.table_2(fabricated, 6, told)
    differences.differences(fabricated, 6, 100, told)
    found = {name: sheets.read(fabricated.sheet(name)) for name in ("table2", "differences")}
    better = claims._accuracy(found, "deephits", "cap", "")
    assert better.verdict == claims.AGREES and better.here.endswith(" detectable")
    fewer = claims._fnr(found["differences"])
    assert fewer.verdict == claims.AGREES and fewer.text.startswith("CAPE misses fewer")
    table2_fig2.table_2(fabricated, 1, told)
    differences.differences(fabricated, 1, 20, told)
    found = {name: sheets.read(fabricated.sheet(name)) for name in ("table2", "differences")}
    assert claims._accuracy(found, "deephits", "cap", "").verdict == claims.OPEN
    assert claims._fnr(found["differences"]).text.startswith("CAP misses fewer")


def test_the_zoomed_axis_holds_what_is_drawn_of_it():
    """A rate of 0, which has no place on a logarithmic axis, does not hide the rest."""
    axes = Figure().subplots()
    curve = np.array([0, 0.01]), np.array([0.05, 0.003])
    paper_figures.draw_det({"a": [curve]}, np.array([5e-3, 0.02]), axes)
    low, high = paper_figures._span(axes.get_lines(), [(0.003, Interval(0.0, 0.004))], [1.38e-3])
    assert 5e-4 < low < 1.38e-3 and 0.05 < high < 0.1


def test_ensembles_of_every_size_and_rule(fabricated):
    table2_fig2.ensemble(fabricated, 6, told)
    found = sheets.read(fabricated.sheet("ensembles"))
    rows = {(row["size"], row["rule"]): row for row in found.data["rows"]}
    assert len(rows) == 30 and rows[3, "majority"]["choices"] == 20
    table2_fig2.table_2(fabricated, 6, told)
    cape = sheets.read(fabricated.sheet("table2")).data["figures"]["cape"]["accuracy"]
    assert 100 * rows[3, "majority"]["figures"]["accuracy"][0] == pytest.approx(np.mean(cape))
    assert (fabricated.sheets / "ensembles.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_told_apart_without_colour(rng):
    axes = Figure().subplots()
    models = {name: [(np.array([0, 0.1]), np.array([1, 0.1]))] for name in ("Deep-HiTS", "CAP", "CAPE")}
    drawn = paper_figures.draw_det(models, np.array([0.05, 0.2]), axes)
    assert len(set(looks.looks(drawn.get_lines()))) == 3
    rows = [
        ensembles.Row(size, rule, 1, {"accuracy": (0.9, 0.01)}) for size in (1, 2) for rule in ensembles.RULES
    ]
    drawn = paper_figures.draw_ensembles(rows, "accuracy", "%", Figure().subplots())
    lines = [bars.lines[0] for bars in drawn.containers]
    assert len(set(looks.looks(lines))) == len(ensembles.RULES)


def test_few_iterations_are_told_loudly(fabricated):
    """On every sheet and picture of what such networks have shown."""
    at = dataclasses.replace(fabricated, caution=place.caution(scales.SCALES["smoke"].schedule))
    assert "ONLY A TEST" in at.caution and " 80 iterations" in at.caution
    assert at.captioned("title").endswith(at.caution)
    assert place.caution(scales.SCALES["paper"].schedule) == ""
    assert "2,400 iterations" in place.caution(scales.SCALES["quick"].schedule)
    table2_fig2.ensemble(at, 6, told)
    found = sheets.read(at.sheet("ensembles"))
    assert found.caution == at.caution
    assert at.caution in (at.sheets / "ensembles.txt").read_text()
    assert f'<p class="caution">{html.escape(at.caution)}' in "".join(sheets.as_html(found, at.sheets))


def test_two_trials_have_no_cape(fabricated):
    table2_fig2.table_2(fabricated, 2, told)
    found = sheets.read(fabricated.sheet("table2"))
    assert "cape" not in found.data["figures"] and "needs 3 trials" in found.tables[0].rows[3]
    table2_fig2.table_2(fabricated, 3, told)
    notes = " ".join(sheets.read(fabricated.sheet("table2")).notes)
    assert "majority of the three" in notes and "overlap" not in notes and "needs two triples" in notes
    table2_fig2.fig_2(fabricated, 2, 20, told)
    assert sheets.read(fabricated.sheet("fig2")).data["0.01"]["difference"]["of"] == "cap"
    table2_fig2.table_2(fabricated, 1, told)
    assert sheets.read(fabricated.sheet("table2")).data["welch"]["deephits v cap"]["accuracy"] is None


@pytest.mark.parametrize(
    "low, high, verdict", [(-1, 1, claims.OPEN), (0.1, 1, claims.AGREES), (-1, -0.1, claims.DISAGREES)]
)
def test_verdicts(low, high, verdict):
    assert claims._sign(low, high, 1) == verdict


def test_the_scales_are_the_papers():
    paper = scales.SCALES["paper"]
    assert paper.survey == {"train": 1_220_000, "validate": 100_000, "test": 100_000}
    assert (paper.trials, paper.explained) == (6, published.EXPLAINED)
    assert (paper.schedule.rate, paper.schedule.batch, paper.schedule.halve_every) == (0.04, 50, 100_000)
    assert scales.SCALES["smoke"].trials == 2


def test_steps_come_after_their_needs(tmp_path):
    for data in (None, tmp_path / "data.h5"):
        of = plan.steps(tmp_path, scales.settings("quick", None, data, "error", "cpu"), 2, 1)
        met = set()
        for step in of:
            assert met.issuperset(step.needs), step.name
            met.add(step.name)
        assert sum(name.startswith("train ") for name in met) == 18
        assert set(plan.CHOICES) <= met and ("survey" in met) == (data is None)


def test_what_needs_no_survey_does_not_wait_for_one(tmp_path):
    of = plan.steps(tmp_path, scales.settings("paper", None, None, "error", "cpu"), 2, 1)
    assert [step.name for step in pipeline.wanted(of, ["table1", "fig1"])] == ["table1", "fig1"]
    at = Place(tmp_path, tmp_path / "survey.h5")
    table1_fig1.table_1(at, True, told)
    found = sheets.read(at.sheet("table1")).data
    assert {arch: found[arch]["parameters"] for arch in published.PARAMETERS} == published.PARAMETERS
    for arch in ARCHS:
        rows = [row for row in found[arch]["layers"][:-1] if not row[0].startswith("dropout")]
        assert [row[2] for row in rows] == [row[3] for row in rows] == list(published.TABLE_1[arch])


def test_a_changed_program_makes_sheets_anew_and_trains_no_network_again(tmp_path, monkeypatch):
    def hashes():
        of = plan.steps(tmp_path, scales.settings("quick", None, None, "error", "cpu"), 2, 1)
        return {step.name: pipeline.Book(tmp_path).inputs(step) for step in of}

    before = hashes()
    assert hashes() == before
    monkeypatch.setattr(plan, "_program", lambda: "another")
    changed = {name for name, digest in hashes().items() if digest != before[name]}
    assert changed == set(plan.CHOICES)


def test_the_default_number_of_processes_is_the_reproductions_devices():
    """When it goes on, the device is not named again."""
    asked = functools.partial(SimpleNamespace, dask=None)
    assert reproduce._processes(asked(workers=None), "cuda")[0] == 1
    assert reproduce._processes(asked(workers=None), "cpu")[0] == os.cpu_count()
    assert reproduce._processes(asked(workers=3), "cuda")[0] == 3


def test_table_3_compares_stamp_by_stamp(fabricated, monkeypatch):
    """CAP's maps disagree a little less on every stamp: by so little that only pairs can tell."""
    rng = np.random.default_rng(6)
    label, deep = np.arange(200) % 2, rng.gamma(3, 0.02, size=(200, 1))
    cap = deep - 0.001 + 0.0005 * rng.normal(size=deep.shape)
    for arch, values in (("deephits", deep), ("cap", cap)):
        np.savez(fabricated.sigma(arch), values=values, label=label, blank=np.array(0))
    model = SimpleNamespace(config=SimpleNamespace(channels=["snr_difference"]))
    monkeypatch.setattr(Place, "model", lambda at, arch: model)
    table3_figs3to5.table_3(fabricated, told)
    found = sheets.read(fabricated.sheet("table3"))
    for kind, number in (("artifact", 0), ("candidate", 1)):
        low, high = found.data[f"{kind} difference"]["interval"]
        assert low < np.mean((cap - deep)[label == number]) < high < 0
        assert claims._sigma(found, kind).verdict == claims.AGREES
    assert found.tables[1].rows[0][-1] == "-0.0212"  # .0517 - .0729


def tiny(monkeypatch):
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)


def reproduced(store, out, *more):
    arguments = ["--scale", "smoke", "--data", store, "--out", out, "--workers", "2", *more]
    return reproduce.main([str(argument) for argument in arguments])


def test_only_and_status(store, tmp_path, monkeypatch, capsys):
    """What needs no training is there in seconds; the rest is to do."""
    tiny(monkeypatch)
    assert reproduced(store, tmp_path / "out", "--only", "table1", "fig1") == 0
    printed, told = capsys.readouterr()
    assert "Table I. " in printed and "[  2/2] fig1" in told
    found = sheets.read(tmp_path / "out" / "sheets" / "table1.json")
    assert found.data["cap"]["parameters"] < published.PARAMETERS["cap"]  # of smaller stamps
    assert (tmp_path / "out" / "sheets" / "fig1.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out" / "trials").exists()
    assert reproduce.main(["--status", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"table1 +done in", printed) and re.search(r"train cap-3 +to do", printed)
    assert "2 of 32 steps done" in printed


def test_it_is_begun_anew_when_told_to(store, tmp_path, monkeypatch):
    """With other options too; what is not of the reproduction stays."""
    tiny(monkeypatch)
    out = tmp_path / "out"
    assert reproduced(store, out, "--only", "table1") == 0
    (out / "trials" / "cap-1").mkdir(parents=True)
    (out / "trials" / "cap-1" / "last.h5").write_text("of another time")
    (out / "mine.txt").write_text("mine")
    begin = ["--scale", "smoke", "--data", store, "--out", out, "--overwrite"]
    with locks.held(out / "steps"):
        assert_refused(call("reproduce", *begin), "out", "at work in it")
    assert_refused(call("reproduce", *begin, "--status"), "--overwrite", "leave out")
    assert (out / "trials" / "cap-1" / "last.h5").exists()
    made = []
    monkeypatch.setattr(reproduce.pipeline, "run", lambda folder, *_: made.extend(folder.rglob("*")))
    assert call("reproduce", *begin, "--trials", 4).returncode == 0
    assert {path.name for path in made} == {"mine.txt", scales.SETTINGS, "steps", "lock"}
    assert scales.begun(out).trials == 4
    inside = out / "mine.h5"
    inside.write_bytes(store.read_bytes())
    begin[begin.index(store)] = inside
    assert_refused(call("reproduce", *begin), "mine.h5", "move it")
    assert inside.exists() and scales.begun(out).trials == 4


def test_bad_input_is_refused_in_one_line(store, tmp_path, monkeypatch):
    tiny(monkeypatch)
    out = tmp_path / "out"
    assert reproduced(store, out, "--only", "table1") == 0
    full, lonely = tmp_path / "full", tmp_path / "lonely.h5"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    arrays = toy_arrays(n=60)
    np.savez(tmp_path / "lonely.npz", **{**arrays, "label": np.zeros(60, int)})
    assert call("pack", tmp_path / "lonely.npz", "--out", lonely, "--channels", "difference").returncode == 0
    for arguments, *words in (
        (["--out", full], "full", "other files"),
        (["--out", full / "mine.txt"], "mine.txt", "is a file"),
        (["--out", out, "--scale", "quick"], "begun with scale smoke", "quick"),
        (["--out", out, "--trials", "4"], "trials 3", "4"),
        (["--out", out, "--data", tmp_path / "other.h5"], "begun with data", "other.h5"),
        (["--out", out, "--only", "fig9"], "fig9", "fig5"),
        (["--out", tmp_path / "new", "--data", tmp_path / "absent.h5"], "absent.h5", "no such file"),
        (["--out", tmp_path / "new", "--data", lonely], "lonely.h5", "artifacts only"),
        (["--out", tmp_path / "new", "--status"], "new", "no reproduction"),
        (["--out", tmp_path / "new", "--trials", "0"], "--trials"),
        (["--out", tmp_path / "new", "--device", "cuda", "--data", store], "cuda"),
    ):
        assert_refused(call("reproduce", *arguments), *words)
    assert (full / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()
    (out / scales.SETTINGS).write_text("{")
    assert_refused(call("reproduce", "--out", out), scales.SETTINGS, "damaged")


def test_a_sheet_survives_being_written(tmp_path):
    table = sheets.Table("a <b>", ("x", "y"), [("1", "2 & 3")])
    sheet = sheets.Sheet("Table II", "t", [table], ["n"], [("p.png", "about")], {"k": [1]})
    sheets.write(tmp_path / "s.json", sheet)
    found = sheets.read(tmp_path / "s.json")
    assert (found.heading, found.data, found.pictures) == ("Table II", {"k": [1]}, [("p.png", "about")])
    with pytest.raises(UserError, match=r"p\.png: no such file"):
        list(sheets.as_html(found, tmp_path))
    (tmp_path / "p.png").write_bytes(b"png")
    page = "".join(sheets.as_html(found, tmp_path))
    assert "a &lt;b&gt;" in page and "2 &amp; 3" in page and "data:image/png;base64,cG5n" in page
    assert "2 & 3" in (tmp_path / "s.txt").read_text()
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(UserError, match=r"s\.json"):
        sheets.read(tmp_path / "s.json")


class Here:
    """A crew of this process alone: it does a task when it is waited for (see workers.Crew)."""

    def __init__(self):
        self._tasks = []

    @property
    def free(self):
        return 1 - len(self._tasks)

    @property
    def busy(self):
        return [name for name, _ in self._tasks]

    def start(self, name, task):
        self._tasks.append((name, task))

    def wait(self, seconds):
        name, task = self._tasks.pop()
        task(told)
        yield name, None


@contextlib.contextmanager
def employ_here(workers, threads, hold):
    yield Here()


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """A whole reproduction of a tiny scale, every step of it in this process, which starts no other."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny(monkeypatch)
        monkeypatch.setattr(reproduce, "employ", employ_here)
        assert reproduced(store, out) == 0
    return out


def test_the_report_is_one_page(whole):
    page = (whole / "report.html").read_text(encoding="utf-8")
    for heading in ("Table I", "Table II", "Table III", "Fig. 1", "Fig. 2", "Fig. 3", "Fig. 4", "Fig. 5"):
        assert f"<h2>{heading}</h2>" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # nothing from elsewhere
    assert len(page) < 15e6
    assert '"iterations": 10' in html.unescape(page) and "numpy" in page and "trial 3: 3" in page
    assert "99.52 ± 0.01" in page


def test_its_viewer_shows_what_explain_writes(whole, store, tmp_path):
    """Sums of maps of a stamp that is viewed, by each model and rule, are those of explain's HDF5."""
    page = (whole / "report.html").read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    document = json.loads(text)
    assert document["models"] == ["Deep-HiTS, trial 1", "CAP, trial 1"]
    assert [rule["name"] for rule in document["rules"]] == list(RULES)
    assert len(document["stamps"]) == 2
    index = document["stamps"][1]["index"]
    for m, arch in enumerate(("deephits", "cap")):
        for r, rule in enumerate(RULES):
            maps = tmp_path / f"{arch}-{rule}.h5"
            run = whole / "trials" / f"{arch}-1"
            asked = [run, store, "--index", index, "--rule", rule, "--maps", maps]
            assert explain.main([str(one) for one in asked]) == 0
            with h5py.File(maps) as file:
                found = file[f"models/{arch}-1/maps"][0]
            layers = {layer["name"]: layer for layer in document["answers"][1][m][r]["layers"]}
            sums = layers["stamps"]["sums"]
            for turn in range(4):
                assert float(sums[turn][0]) == pytest.approx(found[turn, ..., 0].sum(dtype=float), rel=1e-3)


def test_it_works_in_a_browser(whole, browser):
    browser.open(whole / "report.html")
    assert browser.errors == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    before = browser.run("document.querySelector('.lrp-viewer').innerText")
    both = "[...document.querySelectorAll('.lrp-viewer label, .lrp-viewer button')]"
    browser.click(f"{both}.find(e => e.innerText.includes('CAP, trial 1'))")
    after = browser.run("document.querySelector('.lrp-viewer').innerText")
    assert "Ledger of Deep-HiTS" in before and "Ledger of CAP" in after


def test_figs_3_and_4_show_the_stamps_that_only_cap_gets_right(whole, store, tmp_path):
    """Of each class the one on which the two differ most; the viewer takes the classes by turns."""
    there, at = Place(whole, store), Place(tmp_path, store, caution="CAUTION")
    for arch in table3_figs3to5.PAIR:
        shutil.copytree(there.run(arch, 1), at.run(arch, 1))
    label = scores.read(there.scores("cap", 1)).label
    candidates, artifacts = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    deep = np.where(label == 1, 0.9, 0.1)
    deep[candidates[[2, 4]]], deep[artifacts[3]] = (0.4, 0.2), 0.7
    for arch, p in zip(table3_figs3to5.PAIR, (deep, np.where(label == 1, 0.9, 0.1)), strict=True):
        scores.write(at.scores(arch, 1), Scores(label, p))
    for name, figure, stamp in (
        ("fig3", table3_figs3to5.fig_3, candidates[4]),
        ("fig4", table3_figs3to5.fig_4, artifacts[3]),
    ):
        figure(at, told)
        found = sheets.read(at.sheet(name))
        assert found.data["stamp"] == stamp and found.caution == "CAUTION"
        assert sorted(found.data["disagreements"]) == sorted([*candidates[[2, 4]], artifacts[3]])
        assert (at.sheets / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    split = open_stamps_for(at.model("cap"), store, "test")
    first, second, *others = table3_figs3to5._dozen(at, split, 5)
    assert [first, second] == [candidates[4], artifacts[3]]
    assert others == [i for i in range(len(label)) if i not in (first, second)][:3]


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_a_phone_and_in_the_dark(whole, browser, width, scheme):
    browser.resize(width, 900)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=media)
    browser.open(whole / "report.html")
    assert browser.run("document.documentElement.scrollWidth") <= width
    first = browser.run("document.querySelector('h2').innerText")
    assert first == "Fig. 3" and "ONLY A TEST" in browser.run("document.querySelector('.caution').innerText")
    colours = "[getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    for where in ("body", ".lrp-viewer", ".caution"):
        paper, ink = browser.run(
            f"(() => {{ const e = document.querySelector('{where}'); return {colours}; }})()"
        )
        assert (brightness(paper) < brightness(ink)) == (scheme == "dark"), where
        assert abs(brightness(paper) - brightness(ink)) > 110, where


def brightness(colour):
    """Of a colour as CSS has it, from 0 to 255."""
    return np.mean([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])


def test_again_it_does_nothing_and_without_a_figure_that_alone(whole, store, monkeypatch, capsys):
    tiny(monkeypatch)
    assert reproduced(store, whole) == 0
    printed = capsys.readouterr().err
    assert "32 of 32 steps are done already" in printed and "] train" not in printed
    before = (whole / "sheets" / "fig2.png").read_bytes()
    (whole / "sheets" / "fig2.png").unlink()
    assert reproduced(store, whole, "--only", "fig2") == 0
    done = re.findall(r"\] (.+?) +\d+\.\d s", capsys.readouterr().err)
    assert done == ["fig2"]
    assert (whole / "sheets" / "fig2.png").read_bytes() == before


def start_tiny(store, out):
    """The tiny reproduction in a process of its own."""
    code = "from rotinv.paper import scales; import test_reproduce as t; scales.SCALES['smoke'] = t.TINY;"
    code += f"import sys; sys.exit(t.reproduced({str(store)!r}, {str(out)!r}))"
    path = f"{ROOT}:{Path(__file__).parent}"
    return subprocess.Popen(
        [command("")[0], "-c", code],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.drill
def test_killed_at_random_it_ends_with_the_same_bits(whole, store, tmp_path, kills):
    """Weights, scores and tables are those of a run that nothing stopped."""
    rng, out, killed = random.Random(3), tmp_path / "killed", 0
    while killed < kills:
        process = start_tiny(store, out)
        until = time.monotonic() + rng.uniform(1, 5)  # the whole takes twelve, on two free cores
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
            killed += 1
        if process.wait() == 0:
            assert_same_reproduction(out, whole, store)
            shutil.rmtree(out)
        else:
            assert process.returncode == -signal.SIGKILL
    assert start_tiny(store, out).wait(1200) == 0
    assert_same_reproduction(out, whole, store)


def assert_same_reproduction(out, whole, store):
    for arch, trial in itertools.product(ARCHS, (1, 2, 3)):
        one, other = (Place(folder, store).scores(arch, trial) for folder in (whole, out))
        np.testing.assert_array_equal(scores.read(one).probability, scores.read(other).probability)
    for name in ("table2", "fig2", "ensembles", "table3", "fig3", "fig4"):
        assert (out / "sheets" / f"{name}.json").read_bytes() == (
            whole / "sheets" / f"{name}.json"
        ).read_bytes()
    assert not list(out.rglob(".*.part"))


@pytest.mark.slow
def test_smoke(tmp_path):
    """The smoke scale as a user runs it: a survey is simulated, two trials of each network are trained."""
    result = subprocess.run(
        command("reproduce", "--scale", "smoke", "--out", tmp_path / "out"),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert result.returncode == 0, result.stderr
    found = sheets.read(tmp_path / "out" / "sheets" / "table2.json").data["figures"]
    assert {arch: len(found[arch]["accuracy"]) for arch in found} == dict.fromkeys(ARCHS, 2)
    assert np.mean(found["cap"]["accuracy"]) > 60  # it learned something
    assert dataclasses.asdict(scales.SCALES["smoke"].schedule)["iterations"] == 80
    assert (tmp_path / "out" / "report.html").stat().st_size < 15e6
