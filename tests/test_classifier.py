"""The Python interface: the notebook session, arrays as they come, votes, refusals, every public example."""

import copy
import csv
import doctest
import io
import logging
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

import rotinv
from rotinv.lrp import map_files
from rotinv.runs.protocol import Schedule
from rotinv.stamps.splits import Split
from rotinv.stamps.store import StampStore, create_store
from rotinv.system.errors import UserError

SIDE = 21  # of the stamps; the networks read their centre
SHORT = Schedule(batch=20, iterations=60, extend_by=0, validate_every=30, dropout=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as the examples find it: runs of random weights, and a stamp store."""
    here = tmp_path_factory.mktemp("notebook")
    for seed in range(1, 4):
        make_run(here / "runs" / f"cap-{seed}", "cap", seed, crop=13)
    with create_store(here / "survey.h5", channels=["difference"], size=SIDE) as writer:
        for name, count in (("train", 160), ("validate", 20), ("test", 20)):
            arrays = toy_arrays(count, SIDE, seed=count)
            writer.append(name, arrays["stamps"], arrays["label"], arrays["snr"])
    return here


@pytest.fixture
def notebook(monkeypatch):
    """Nobody listens to the log, as in a notebook: programs run in this process have set up their own."""
    monkeypatch.setattr(logging.getLogger("rotinv"), "handlers", [])


@pytest.fixture
def stamps():
    return 1000 + 50 * toy_arrays(12, SIDE)["stamps"]  # raw: far from 0 to 1


@pytest.fixture
def label():
    return np.arange(12) % 2


@pytest.fixture
def clf(folder):
    return rotinv.load(folder / "runs" / "cap-1")


PUBLIC = [name for name in rotinv.__all__ if name != "__version__"]


def examples():
    """The examples of everything that `import rotinv` gives, and of Classifier's methods."""
    found = []
    for name in PUBLIC:
        one = getattr(rotinv, name)
        module = sys.modules[one.__module__]
        found += doctest.DocTestFinder(recurse=True).find(one, name, module=module)
    return found


@pytest.mark.parametrize("example", [one for one in examples() if one.examples], ids=lambda one: one.name)
def test_examples_do_what_they_say(example, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cap-1").symlink_to(folder / "runs" / "cap-1")
    (tmp_path / "survey.h5").symlink_to(folder / "survey.h5")
    (tmp_path / "lenet.onnx").symlink_to(Path(__file__).parent / "networks" / "lenet.onnx")
    told = []
    failed, tried = doctest.DocTestRunner().run(example, out=told.append)
    assert tried and not failed, "".join(told)


def test_all_that_is_public_has_an_example():
    methods = [f"Classifier.{name}" for name in vars(rotinv.Classifier) if not name.startswith("_")]
    have = {one.name for one in examples() if one.examples}
    assert {*PUBLIC, *methods} <= have


def test_the_notebook_session(notebook, tmp_path, monkeypatch, capsys):
    """Issue and README: train on arrays, load, score, look, account, evaluate. Nothing is printed."""
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    arrays = toy_arrays(300, 13, channels=2)
    stamps, label = arrays["stamps"], arrays["label"]
    clf = rotinv.fit(stamps, label, arch="cap", out="runs/mine", schedule=SHORT)
    assert clf.predict_proba(stamps).shape == (300, 2)
    clf = rotinv.load("runs/mine")
    p = clf.predict_proba(stamps)
    np.testing.assert_array_equal(clf.predict(stamps, at_fpr=0.01) == 1, p[:, 1] >= _kept(tmp_path, 0.01))
    found = clf.explain(stamps[:3], rule="alpha2beta1", target="predicted", layer=None)
    assert found.maps.shape == (3, 4, 13, 13, 2) and found.average.shape == (3, 13, 13, 2)
    np.testing.assert_array_equal(found.probability, p[:3, 1])
    ax = found.plot(0)
    assert ax.get_title() and found.plot(1, ax=ax) is ax
    found.save("maps.h5")
    assert map_files.read(tmp_path / "maps.h5")[1][0].maps.tobytes() == found.maps.tobytes()
    audit = clf.audit(stamps[0])
    assert str(audit).startswith("the stamp: predicted ") and repr(audit) == str(audit)
    assert audit.plot().get_xlabel() and not list(audit.not_closed())
    assert clf.sigma_bar(stamps[:3]).shape == (3, 2)
    evaluation = clf.evaluate(stamps, label)
    assert evaluation["accuracy"] > 0.8 and "accuracy" in str(evaluation)
    assert evaluation.plot().get_xlabel() == "false positive rate"
    plt.close("all")
    assert capsys.readouterr() == ("", "")


def _kept(folder, fpr):
    from rotinv.runs import thresholds

    path = folder / "runs" / "mine"
    return thresholds.find([path], [rotinv.load_model(path)], fpr)


def test_scores_are_the_programs(clf, folder, stamps, label, tmp_path):
    """Whatever form the arrays have: one stamp, channels first or last, any real type, scaled already."""
    np.savez(tmp_path / "stamps.npz", stamps=stamps, label=label)
    out = tmp_path / "scores.csv"
    assert call("score", folder / "runs" / "cap-1", tmp_path / "stamps.npz", "--out", out).returncode == 0
    program = np.genfromtxt(out, delimiter=",", names=True)["probability"].astype(np.float32)
    p = clf.predict_proba(stamps)
    np.testing.assert_array_equal(p[:, 1], program)
    np.testing.assert_array_equal(p[:, 0], 1 - program)
    np.testing.assert_array_equal(clf.predict_proba(np.moveaxis(stamps, 3, 1)), p)
    np.testing.assert_array_equal(clf.predict_proba(stamps.astype(">f8")), p)
    np.testing.assert_array_equal(clf.predict_proba(stamps[5]), p[5:6])
    np.testing.assert_array_equal(clf.predict_proba(rotinv.open_stamps(tmp_path / "stamps.npz")), p)
    low = stamps.min(axis=(1, 2), keepdims=True)
    scaled = ((stamps - low) / np.ptp(stamps, axis=(1, 2), keepdims=True)).astype(np.float32)
    assert not np.array_equal(clf.predict_proba(scaled, normalised=True), p)  # of the cut's own extremes
    np.testing.assert_allclose(clf.predict_proba(scaled), p, atol=1e-5)
    np.testing.assert_array_equal(clf.predict(stamps), (program >= 0.5).astype(int))
    assert list(clf.classes_) == [0, 1]


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_it_is_copied_and_pickled(folder, stamps, device):
    clf = rotinv.load([folder / "runs" / f"cap-{seed}" for seed in (1, 2)], device=device)
    p = clf.predict_proba(stamps)
    again = pickle.dumps(clf)
    for one in (copy.deepcopy(clf), copy.copy(clf), pickle.loads(again)):
        assert repr(one) == repr(clf)
        np.testing.assert_array_equal(one.predict_proba(stamps), p)
    assert again.count(b"_get_again") == 1  # a name in place of functions, which are each machine's own


def test_other_processes_score_the_same_bits(clf, stamps):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(
            pool.submit(clf.predict_proba, stamps).result(), clf.predict_proba(stamps)
        )


def test_a_pickle_asks_for_no_more_threads_than_there_are(folder, stamps, monkeypatch):
    import numba

    clf = rotinv.load(folder / "runs" / "cap-1", threads=numba.config.NUMBA_NUM_THREADS)
    sent = pickle.dumps(clf)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)  # as joblib sets it in its workers
    assert pickle.loads(sent).predict_proba(stamps).shape == (12, 2)


def test_several_runs_vote(folder, stamps, label):
    vote = rotinv.load([folder / "runs" / f"cap-{i}" for i in (1, 2, 3)])
    each = np.array([vote[name].predict_proba(stamps)[:, 1] for name in vote.names])
    np.testing.assert_array_equal(vote.predict_proba(stamps)[:, 1], np.median(each, axis=0))
    assert vote.explain(stamps[:2]).maps.shape == (3, 2, 4, 13, 13, 1)
    assert vote.sigma_bar(stamps[:2]).shape == (3, 2, 1)
    assert list(vote.evaluate(stamps, label)["models"]) == [*vote.names, "majority of 3"]
    with pytest.raises(ValueError, match=r"clf\['cap-1'\]\.audit"):
        vote.audit(stamps[0])
    assert vote["cap-2"].audit(stamps[0]).model == "cap-2"
    assert "vote of cap-1, cap-2, cap-3" in repr(vote)
    assert "<table>" in vote._repr_html_() and "cap-3" in vote._repr_html_()


@pytest.mark.parametrize("dtype, offset", [(np.float64, 1e9), (np.int64, 10**9), (np.uint32, 4 * 10**9)])
def test_a_large_background_costs_no_digits(clf, stamps, dtype, offset):
    """Pixels wider than float32 are scaled by their differences; float32 has seven digits."""
    counts = np.round(1000 * np.float64(stamps))
    lifted = (counts + offset).astype(dtype)
    np.testing.assert_allclose(clf.predict_proba(lifted), clf.predict_proba(counts), atol=1e-5)
    lifted[0, ..., 0] = offset  # a constant channel stays one
    flat = counts.copy()
    flat[0, ..., 0] = 0
    np.testing.assert_allclose(clf.predict_proba(lifted), clf.predict_proba(flat), atol=1e-5)


def test_pixels_that_are_no_numbers(clf, stamps):
    stamps[3, 0, 0, 0] = np.inf
    stamps[7] = np.nan
    stamps[3, 10, 10, 0] = np.nan
    with pytest.raises(UserError, match=r"2 of 12 stamps have NaN or infinite pixels \(index 3, 7\)"):
        clf.predict_proba(stamps)
    p = clf.predict_proba(stamps, on_bad="flag")
    assert np.isnan(p[[3, 7]]).all() and np.isfinite(np.delete(p, [3, 7], axis=0)).all()
    assert list(clf.predict(stamps, on_bad="flag")[[3, 7]]) == [-1, -1]
    assert clf.evaluate(stamps, np.arange(12) % 2, on_bad="drop")["stamps"] == 10
    masked = np.ma.masked_invalid(stamps)
    np.testing.assert_array_equal(clf.predict_proba(masked, on_bad="flag"), p)


def test_words_as_pandas_holds_them(clf, stamps):
    words = np.array(["real", "bogus"] * 6, dtype=object)
    assert clf.evaluate(stamps, words)["candidates"] == 6
    words[3] = None
    with pytest.raises(UserError, match="label holds object, not numbers or words"):
        clf.evaluate(stamps, words)


def test_pixels_that_the_network_does_not_read_may_be_bad(clf, folder, stamps, label, tmp_path):
    """The same stamps are scored, explained, evaluated and trained on by programs and in Python."""
    good = clf.predict_proba(stamps)
    stamps[1, 0, 0, 0], stamps[4, :4] = np.nan, np.inf  # the network reads rows and columns 4 to 16
    np.testing.assert_array_equal(clf.predict_proba(stamps), good)
    assert len(clf.explain(stamps[[1, 4]]).maps) == 2 and clf.evaluate(stamps, label)["stamps"] == 12
    stamps[7, 4, 16, 0] = np.nan
    np.savez(tmp_path / "s.npz", stamps=stamps, label=label)
    run, told = folder / "runs" / "cap-1", ("1 of 12 stamps", "index 7")
    assert_refused(call("score", run, tmp_path / "s.npz"), *told)
    done = call("score", run, tmp_path / "s.npz", "--on-bad", "flag")
    scores = [row["probability"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert [row in ("", "nan") for row in scores] == [i == 7 for i in range(12)]
    assert "11 stamps" in call("evaluate", run, tmp_path / "s.npz", "--on-bad", "drop", "--no-keep").stdout
    with pytest.raises(UserError, match=r"1 of 12 stamps .* \(index 7\)"):
        rotinv.fit(stamps, label, out=tmp_path / "run", crop=13, schedule=SHORT)
    short = replace(SHORT, iterations=2, validate_every=1, batch=4)
    again = np.concatenate([stamps] * 4), np.concatenate([label] * 4)
    rotinv.fit(*again, out=tmp_path / "run", crop=13, schedule=short, arch="cap-mini", on_bad="drop")
    with StampStore(tmp_path / "run" / "stamps.h5") as store:
        assert sum(store.sizes.values()) == 44


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_pixels_that_float32_cannot_hold(clf, folder, stamps, tmp_path, dtype):
    stamps = stamps.astype(dtype)
    stamps[5, 10, 10, 0] = -1e300
    told = r"1 of 12 stamps have pixels too large for float32, the first -1e\+300 \(index 5\)"
    with pytest.raises(UserError, match=told):
        clf.predict_proba(stamps)
    assert np.isnan(clf.predict_proba(stamps, on_bad="flag")[:, 0]).nonzero()[0].tolist() == [5]
    if dtype is np.float64:
        np.save(tmp_path / "large.npy", stamps)
        done = call("score", folder / "runs" / "cap-1", tmp_path / "large.npy")
        assert_refused(done, "large.npy", "too large for float32, the first -1e+300", "--on-bad drop")
        done = call("explain", folder / "runs" / "cap-1", tmp_path / "large.npy", "--index", 5)
        assert_refused(done, "stamp 5", "too large for float32, the first -1e+300")


def test_stamps_of_one_channel_need_no_axis_for_it(clf, stamps):
    flat = stamps[..., 0]
    np.testing.assert_array_equal(clf.predict_proba(flat), clf.predict_proba(stamps))
    np.testing.assert_array_equal(clf.predict_proba(flat[:1]), clf.predict_proba(stamps[0]))


REFUSED = {
    "channels": (lambda clf, x: clf.predict_proba(np.repeat(x, 3, axis=3)), "wanted is"),
    "not square": (lambda clf, x: clf.predict_proba(x[:, :-1]), "wanted is"),
    "two axes": (lambda clf, x: clf.predict_proba(x[0, ..., 0]), "wanted is"),
    "no centre": (lambda clf, x: clf.predict_proba(x[:, :-1, :-1]), "crop 13"),
    "not scaled": (lambda clf, x: clf.predict_proba(x, normalised=True), "are not scaled"),
    "text": (lambda clf, x: clf.predict_proba(x.astype(str)), "not numbers"),
    "a file's name": (lambda clf, x: clf.predict_proba("survey.h5"), "rotinv.open_stamps"),
    "none": (lambda clf, x: clf.predict_proba(x[:0]), "no stamps"),
    "thresholds": (lambda clf, x: clf.predict(x, at_fpr=0.01), "rotinv evaluate"),
    "rule": (lambda clf, x: clf.explain(x, rule="alpha3"), "alpha3"),
    "method": (lambda clf, x: clf.explain(x, method="shap"), "shap"),
    "target": (lambda clf, x: clf.explain(x, target=2), "target 2"),
    "layer": (lambda clf, x: clf.explain(x, layer="attention"), "^layer 'attention': .*convolution 1"),
    "a target that is True": (lambda clf, x: clf.explain(x, target=True), "target True"),
    "an FPR in words": (lambda clf, x: clf.predict(x, at_fpr="1%"), "FPR '1%': give a number"),
    "an FPR above 1": (lambda clf, x: clf.predict(x, at_fpr=2), "FPR 2: give a number"),
    "an FPR that is no number": (lambda clf, x: clf.predict(x, at_fpr=np.nan), "FPR nan: give a number"),
    "no target": (lambda clf, x: clf.explain(x, target=None), "target None is not known; choose"),
    "no rule": (lambda clf, x: clf.explain(x, rule=None), "rule None is not known; choose"),
    "drop a score": (lambda clf, x: clf.predict_proba(x, on_bad="drop"), "choose one of error, flag"),
    "drop a class": (lambda clf, x: clf.predict(x, on_bad="drop"), "choose one of error, flag"),
    "flag a label": (lambda clf, x: clf.evaluate(x, np.arange(12) % 2, on_bad="flag"), "error, drop"),
    "plot of no stamp": (lambda clf, x: clf.explain(x[:2]).plot(2), "no stamp 2: there are 2"),
    "plot of no number": (lambda clf, x: clf.explain(x[:2]).plot("first"), "no stamp 'first'"),
    "plot of no network": (lambda clf, x: clf.explain(x[:2]).plot(0, of=1), "no network 1"),
    "page of no stamp": (lambda clf, x: clf.explain(x[:2]).page(2), "no stamp 2: there are 2"),
    "many": (lambda clf, x: clf.audit(x), "one stamp"),
    "labels": (lambda clf, x: clf.evaluate(x, np.full(12, 2)), "not 0 or 1"),
    "labels' number": (lambda clf, x: clf.evaluate(x, [0, 1]), "one for each stamp"),
    "no labels": (lambda clf, x: clf.evaluate(x), "labels"),
    "one class": (lambda clf, x: clf.evaluate(x, np.ones(12), keep=True), "one class only"),
    "channel": (lambda clf, x: clf.explain(x[:1]).plot(0, channel="template"), "difference"),
    "network": (lambda clf, x: clf["cap-9"], "cap-1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(clf, stamps, case):
    ask, word = REFUSED[case]
    with pytest.raises(ValueError, match=word) as refused:
        ask(clf, stamps)
    assert refused.type is UserError and len(str(refused.value).splitlines()) == 1


LOADS = {
    "a number": (dict(runs=3), "3 names no run"),
    "nothing": (dict(runs=None), "None names no run"),
    "numbers": (dict(runs=[1, 2]), "names no run"),
    "threads below 1": (dict(threads=-1), "threads -1: .* from 1 to"),
    "no threads": (dict(threads=0), "threads 0: .* from 1 to"),
    "threads in words": (dict(threads="all"), "threads 'all': .* from 1 to"),
    "precision": (dict(precision="fp8"), "precision 'fp8' is not known.*tf32, fp32, fp16"),
    "precision of cuda": (dict(precision="fp16"), "device cpu computes in fp32 only"),
}


@pytest.mark.parametrize("case", LOADS)
def test_a_load_that_cannot_be_is_refused_in_one_line(folder, case):
    given, word = LOADS[case]
    with pytest.raises(UserError, match=word) as refused:
        rotinv.load(**{"runs": folder / "runs" / "cap-1", **given})
    assert len(str(refused.value).splitlines()) == 1


def test_a_target_may_be_a_label_of_an_array(clf, stamps, label):
    """NumPy's integers are classes, too: label[0] is one."""
    found = clf.explain(stamps[:2], target=label[1])
    np.testing.assert_array_equal(found.maps, clf.explain(stamps[:2], target=1).maps)
    assert str(clf.audit(stamps[0], target=label[1])) == str(clf.audit(stamps[0], target=1))


def test_a_network_of_whole_stamps_takes_no_others(tmp_path, stamps):
    clf = rotinv.load(make_run(tmp_path / "whole"))
    with pytest.raises(UserError, match=r"\(N, 13, 13, 1\)"):
        clf.predict_proba(stamps)
    assert clf.predict_proba(stamps[:, 4:-4, 4:-4]).shape == (12, 2)


def test_opened_stamps_give_their_channels_by_name(tmp_path, folder, clf):
    other = tmp_path / "two.h5"
    arrays = toy_arrays(20, SIDE, seed=20)
    with create_store(other, channels=["science", "difference"], size=SIDE) as writer:
        writer.append("test", np.concatenate([-arrays["stamps"], arrays["stamps"]], axis=3), arrays["label"])
    one = clf.predict_proba(rotinv.open_stamps(folder / "survey.h5"))
    np.testing.assert_array_equal(clf.predict_proba(rotinv.open_stamps(other)), one)
    assert isinstance(rotinv.open_stamps(other), Split)
    with pytest.raises(UserError, match="its own labels"):
        clf.evaluate(rotinv.open_stamps(other), arrays["label"])


def test_a_store_is_trained_on_and_progress_goes_to_the_log(notebook, folder, tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="rotinv"):
        clf = rotinv.fit(folder / "survey.h5", out=tmp_path / "run", crop=13, schedule=SHORT, arch="cap-mini")
    assert "iteration 60 of 60, validation error" in caplog.text
    assert capsys.readouterr() == ("", "")
    assert clf.size == 13 and (tmp_path / "run" / "thresholds.json").exists()
    with pytest.raises(UserError, match="holds a run"):
        rotinv.fit(folder / "survey.h5", out=tmp_path / "run")


FIT = {
    "halves": (dict(precision="fp16"), "fp16: is for scoring"),
    "no labels": (dict(), "labels"),
    "architecture": (dict(label=np.arange(12) % 2, arch="resnet"), "resnet"),
    "schedule": (dict(label=np.arange(12) % 2, schedule="slow"), "quick, paper"),
    "one class": (dict(label=np.ones(12)), "one class only to train with; a network needs stamps of each"),
    "crop": (dict(label=np.arange(12) % 2, crop=14), "no centre"),
    "small": (dict(label=np.arange(12) % 2, crop=11), "too small"),
    "channels": (dict(label=np.arange(12) % 2, channels=["a", "b"]), "wanted is"),
    "no architecture": (dict(label=np.arange(12) % 2, arch=3), "architecture 3 is not known"),
    "seed": (dict(label=np.arange(12) % 2, seed=-1), "seed -1: give a whole number"),
    "seed in words": (dict(label=np.arange(12) % 2, seed="one"), "seed 'one': give a whole number"),
    "channels that are text": (dict(label=np.arange(12) % 2, channels="a"), "a name of its own"),
    "labels": (dict(label=np.full(12, 2)), "not 0 or 1"),
    "not scaled": (dict(label=np.arange(12) % 2, normalised=True), "are not scaled"),
    "one image": (dict(label=np.arange(12) % 2, image=np.zeros(12, int)), "too few"),
    "on_bad": (dict(label=np.arange(12) % 2, on_bad="flag"), "choose one of error, drop"),
    "a run by number": (dict(label=np.arange(12) % 2, init_from=3), "init_from 3: give the path"),
    "crop in words": (dict(label=np.arange(12) % 2, crop="13"), "crop '13': give a whole number"),
    "half a layer": (dict(label=np.arange(12) % 2, freeze=1.5), "freeze 1.5: give a whole number"),
    "a number of channels": (dict(label=np.arange(12) % 2, channels=1), "channels 1: give a list"),
    "channels by number": (dict(label=np.arange(12) % 2, channels=[1]), r"channels \[1\]: give a list"),
    "augment by a word": (dict(label=np.arange(12) % 2, augment="flips"), "augment 'flips': give a list"),
    "augment by a number": (dict(label=np.arange(12) % 2, augment=1), "augment 1: give a list"),
}


@pytest.mark.parametrize("case", FIT)
def test_a_training_that_cannot_be_leaves_nothing(stamps, tmp_path, case):
    given, word = FIT[case]
    with pytest.raises(UserError, match=word):
        rotinv.fit(stamps, out=tmp_path / "run", **given)
    assert not list(tmp_path.iterdir())


def test_a_training_refused_for_its_pixels_leaves_what_was_there(stamps, tmp_path):
    stamps[3, 10, 10, 0] = np.nan
    store = tmp_path / "stamps.h5"
    with create_store(store, channels=["difference"], size=SIDE) as writer:
        for name in ("train", "validate", "test"):
            writer.append(name, stamps, np.arange(12) % 2)
    (tmp_path / "mine").mkdir()  # made by the user: it stays
    for given in ((stamps, np.arange(12) % 2), (store,)):
        for name in ("new", "mine"):
            with pytest.raises(UserError, match="NaN or infinite"):
                rotinv.fit(*given, out=tmp_path / name, schedule=SHORT)
    assert {one.name for one in tmp_path.iterdir()} == {"stamps.h5", "mine"}
    assert not list((tmp_path / "mine").iterdir())


def test_a_folder_has_a_path(stamps):
    with pytest.raises(UserError, match="out 3: give the path of a folder"):
        rotinv.fit(stamps, np.arange(12) % 2, out=3)


def test_channels_need_names_of_their_own(stamps, tmp_path):
    with pytest.raises(UserError, match="a name of its own"):
        rotinv.fit(np.repeat(stamps, 2, 3), np.arange(12) % 2, channels=["a", "a"], out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_tables_are_astropys(clf, stamps):
    table = pytest.importorskip("astropy.table")
    audit = clf.audit(stamps[0])
    found = audit.to_table()
    assert isinstance(found, table.Table) and found.meta["model"] == "cap-1"
    assert list(found["layer"]) == [row["layer"] for row in audit.amounts()]
    np.testing.assert_allclose(found["received"][0], 1)
    assert "<table>" in audit._repr_html_()


def test_figures_and_sigma_bars_become_tables(clf, folder, stamps, label):
    table = pytest.importorskip("astropy.table")
    found = clf.evaluate(stamps, label)
    figures = found.to_table()
    assert isinstance(figures, table.Table) and figures.meta == {"scored": found["scored"], "level": 0.95}
    assert list(figures["figure"][:4]) == ["accuracy", "precision", "recall", "f1"]
    assert figures["value"][0] == found["accuracy"]
    assert (figures["low"][0], figures["high"][0]) == tuple(found["intervals"]["accuracy"])
    assert len(figures) == 4 + len(found["fnr_at_fpr"])
    one_class = clf.evaluate(stamps[:4], np.zeros(4)).to_table()
    assert np.isnan(one_class["value"][list(one_class["figure"]).index("recall")])
    both = rotinv.load([folder / "runs" / "cap-1", folder / "runs" / "cap-2"])
    values = both.sigma_bar(stamps[:3])
    rows = values.to_table()
    assert rows.colnames == ["network", "stamp", "difference"] and values.shape == (2, 3, 1)
    assert list(rows["network"]) == ["cap-1"] * 3 + ["cap-2"] * 3 and list(rows["stamp"]) == [0, 1, 2] * 2
    np.testing.assert_array_equal(rows["difference"], np.asarray(values).ravel())
    np.testing.assert_array_equal(clf.sigma_bar(stamps[:3]).to_table()["difference"], values[0, :, 0])
    with pytest.raises(UserError, match="not on a part"):
        values[0].to_table()


def test_what_a_plot_shows(clf, stamps):
    figure = pytest.importorskip("matplotlib.figure")
    found = clf.explain(stamps[:2], target=0)
    axes = found.plot(1, figure.Figure().subplots())
    np.testing.assert_array_equal(axes.images[0].get_array(), found.average[1].sum(axis=-1))
    assert "stamp 1" in axes.get_title() and "cap-1" in axes.get_title()
    one = found.plot(1, figure.Figure().subplots(), channel="difference")
    np.testing.assert_array_equal(one.images[0].get_array(), found.average[1][..., 0])
    units = clf.explain(stamps[:2], layer="dense 1").plot(0, figure.Figure().subplots())
    assert units.get_xlabel() == "unit of dense 1"
    assert len(found.page(1).axes) > 5
    assert "2 stamps by cap-1" in repr(found)
