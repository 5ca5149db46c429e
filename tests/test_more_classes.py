"""Networks of more than two classes: training, scores, catalogues, evaluation and explanations by name."""

import csv
import hashlib
import json

import h5py
import numpy as np
import pytest
from conftest import assert_close
from programs import assert_refused, call, make_run, toy_arrays

import rotinv
from rotinv.metrics.one_against_rest import against_rest, auc
from rotinv.metrics.scores import ClassScores
from rotinv.nn import architectures
from rotinv.nn.layers import Train
from rotinv.runs.batches import Batches
from rotinv.runs.folder import Config, read_config, write_config
from rotinv.runs.model import load_model
from rotinv.runs.protocol import Schedule
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.opening import open_stamps
from rotinv.stamps.store import StampStore
from rotinv.system.errors import UserError
from rotinv.system.version import __version__

NAMES = ("bogus", "SN", "asteroid")
CLASSES = Classes.of(NAMES, "SN")
FEW = Schedule(batch=30, iterations=400, extend_by=0, validate_every=100)


def three(n=300, seed=0):
    """Noise, stars in the middle, and streaks through it; each class has its own share."""
    arrays = toy_arrays(n, seed=seed)
    rng = np.random.default_rng(seed)
    label = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    y, x = np.mgrid[-6:7, -6:7]
    shapes = [0 * x, 6 * np.exp(-(y**2 + x**2) / 4), 5.0 * (np.abs(x - y) < 2)]
    pixels = rng.normal(size=(n, 13, 13)) + np.stack(shapes)[label]
    return {"stamps": np.float32(pixels[..., None]), "label": label, "snr": arrays["snr"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    arrays = three(600)
    np.savez(folder / "three.npz", **{**arrays, "label": np.array(NAMES)[arrays["label"]]})
    done = call("pack", folder / "three.npz", "--out", folder / "three.h5", "--channels", "difference",
                "--classes", ",".join(NAMES), "--candidate", "SN")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "SN, " in done.stdout and "candidate" not in done.stdout
    return folder / "three.h5"


@pytest.fixture(scope="module")
def run(store):
    folder = store.parent / "run"
    rotinv.fit(store, arch="cap-mini", out=folder, schedule=FEW, balance="batches", threads=1)
    return folder


def test_a_store_keeps_its_classes(store):
    with StampStore(store) as found:
        assert found.classes == CLASSES
        label = found.split("train").label
        assert set(label) == {0, 1, 2}
        counts = [np.bincount(found.split(name).label, minlength=3) for name in found.sizes]
        shares = [count / count.sum() for count in counts]
    np.testing.assert_allclose(shares, np.tile(shares[0], (3, 1)), atol=0.03)  # each split has its share


def test_the_network_learns_all_three(run, store):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["by_class"]["accuracy"] > 0.8
    assert metrics["by_class"]["classes"] == list(NAMES)
    assert np.sum(metrics["by_class"]["confusion_matrix"]) == metrics["stamps"]
    model = load_model(run)
    assert model.config.classes == CLASSES and model.network.out_shapes[-1] == (3,)
    clf = rotinv.load(run)
    with StampStore(store) as found:
        split = found.split("test")
        p = clf.predict_proba(split)
        assert p.shape == (len(split), 3)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(clf.predict(split), p.argmax(axis=1))
        assert np.mean(clf.predict(split) == split.label) == metrics["by_class"]["accuracy"]


def test_the_catalogue_has_a_column_for_each_class(run, store, tmp_path):
    done = call("score", run, store, "--out", tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    assert "SN by the most probable class" in done.stderr
    rows = list(csv.DictReader(open(tmp_path / "scores.csv")))
    p = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
    truth = open_stamps(store).label
    np.testing.assert_array_equal([int(row["class"]) for row in rows], p.argmax(axis=1))
    np.testing.assert_array_equal([float(row["probability"]) for row in rows], p[:, 1])
    np.testing.assert_array_equal([int(row["label_class"]) for row in rows], truth)
    np.testing.assert_array_equal([int(row["label"]) for row in rows], truth == 1)
    about = json.loads((tmp_path / "scores.csv-metadata.json").read_text())
    assert (about["classes"], about["candidate"], about["threshold"]) == (",".join(NAMES), "SN", "none")


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".parquet", ".fits", ".h5"])
def test_a_table_tells_each_class_against_the_rest(run, store, tmp_path, suffix):
    for library in {".parquet": ["pyarrow"], ".fits": ["astropy"], ".ecsv": ["astropy"]}.get(suffix, []):
        pytest.importorskip(library)
    path = tmp_path / f"scores{suffix}"
    assert call("score", run, store, "--out", path).returncode == 0
    found = json.loads(call("evaluate", path, "--json").stdout)["by_class"]
    wanted = json.loads(call("evaluate", run, store, "--no-keep", "--json").stdout)["by_class"]
    assert found == wanted


def test_a_table_without_its_metadata_says_so(run, store, tmp_path):
    assert call("score", run, store, "--out", tmp_path / "s.csv").returncode == 0
    (tmp_path / "s.csv-metadata.json").unlink()
    done = call("evaluate", tmp_path / "s.csv")
    assert done.returncode == 0 and "against the rest" not in done.stdout
    assert "s.csv: has lost its metadata" in done.stderr


def test_a_threshold_is_of_the_candidate(run, store, tmp_path):
    clf = rotinv.load(run)
    done = call("score", run, store, "--at-fpr", "0.01", "--out", tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "scores.csv")))
    split = open_stamps(store)
    given = clf.predict(split, at_fpr=0.01)
    np.testing.assert_array_equal([int(row["class"]) for row in rows], given)
    threshold = json.loads((tmp_path / "scores.csv-metadata.json").read_text())["threshold"]
    p = clf.predict_proba(split)
    np.testing.assert_array_equal(given == 1, p[:, 1] >= threshold)
    others = given != 1
    np.testing.assert_array_equal(given[others], np.where(p[:, 0] >= p[:, 2], 0, 2)[others])


def test_an_evaluation_tells_each_class_against_the_rest(run, store):
    done = call("evaluate", run, store, "--no-keep")
    assert done.returncode == 0, done.stderr
    assert "each class against the rest" in done.stdout
    for name in NAMES:
        assert f"\n  {name} " in done.stdout
    found = json.loads(call("evaluate", run, store, "--no-keep", "--json").stdout)
    matrix = np.array(found["by_class"]["confusion_matrix"])
    assert [row["stamps"] for row in found["by_class"]["each"]] == matrix.sum(axis=1).tolist()


def test_figures_of_a_class_worked_by_hand():
    label = np.array([0, 0, 1, 1, 2])
    p = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]])
    found = against_rest(ClassScores(CLASSES, label, p))
    assert found["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 1]]
    assert found["accuracy"] == 0.8
    assert (found["each"][1]["precision"], found["each"][1]["recall"]) == (2 / 3, 1)
    assert found["each"][1]["auc"] == 5 / 6  # of the six pairs, 0.5 is below 0.6
    assert auc([1, 0], [0.5, 0.5]) == 0.5 and auc([1, 1], [0.1, 0.2]) is None


def test_a_class_is_explained_by_its_name(run, store, tmp_path):
    by_name = call("explain", run, store, "--index", 0, "--target", "asteroid", "--maps", tmp_path / "a.h5")
    by_number = call("explain", run, store, "--index", 0, "--target", 2, "--maps", tmp_path / "b.h5")
    assert by_name.returncode == 0 and by_number.returncode == 0, by_name.stderr
    assert "p(SN)" in by_name.stdout and "the logit of class asteroid" in by_name.stdout
    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "b.h5") as other:
        for what in ("maps", "explained"):
            np.testing.assert_array_equal(one[f"models/run/{what}"], other[f"models/run/{what}"])
        assert list(one["models/run"].attrs["classes"]) == list(NAMES)
        assert one["models/run/explained"][0] == 2
    assert_refused(call("explain", run, store, "--index", 0, "--target", "asteriod"), "asteriod")
    audit = call("audit", run, store, "--index", 0, "--target", "asteroid")
    assert audit.returncode == 0 and "p(SN)" in audit.stdout, audit.stderr
    view = call("view", run, store, "--index", 0, "--out", tmp_path / "page.html")
    assert view.returncode == 0 and "asteroid" in (tmp_path / "page.html").read_text()
    pdf = call("score", run, store, "--out", tmp_path / "s.csv", "--explain", "top", 2)
    assert pdf.returncode == 0 and "p(SN)" in pdf.stderr, pdf.stderr


@pytest.mark.parametrize("program", ["invariance", "perturb"])
def test_other_programs_take_three_classes(run, store, program):
    done = call(program, run, store, "--count", 12)
    assert done.returncode == 0, done.stderr


def test_pick_ranks_stamps_of_three_classes(run, store, tmp_path):
    done = call("pick", run, store, "--out", tmp_path / "next", "--count", 5)
    assert done.returncode == 0, done.stderr


def test_the_vote_of_networks_is_their_median(run, store, tmp_path):
    other = make_run(tmp_path / "other", "cap-mini", classes=CLASSES)
    both = rotinv.load([run, other])
    split = open_stamps(store)
    each = [both[name].predict_proba(split) for name in both.names]
    np.testing.assert_array_equal(both.predict_proba(split), np.median(each, axis=0))
    assert call("score", run, other, store, "--out", tmp_path / "s.csv").returncode == 0
    two = make_run(tmp_path / "two", "cap-mini")
    assert_refused(call("score", run, two, store, "--out", tmp_path / "t.csv"), "two", "classes")


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_loss_and_gradient_of_five_classes(k, rng, arch, reference):
    """A step on every device agrees with the float64 reference."""
    network = architectures.build(arch, 13, 1, classes=5)
    params, stamps = network.initial("he", 0), rng.uniform(size=(6, 13, 13, 1))
    label = np.array([0, 1, 2, 3, 4, 1])
    found = []
    for device in (k, reference):
        p, g = device.asarray(params), device.zeros((network.size,))
        logits, tape = network.record(device, p, device.asarray(stamps), Train(1, 2))
        weight = device.asarray([1.0, 2.0, 0.5, 1.0, 3.0])
        loss, dz = device.softmax.cross_entropy(logits, device.asindex(label), weight)
        network.backward(device, p, g, tape, dz)
        found.append([device.to_host(one) for one in (loss, dz, g)])
    for ours, exact in zip(*found, strict=True):
        assert_close(ours, exact)


def test_balanced_epochs_have_as_many_of_each(store):
    with StampStore(store) as found:
        split = found.split("train")
        most = int(np.bincount(split.label).max())
        with Batches(split, batch=3 * most, balanced=True) as batches:
            _, label = next(batches)
    assert np.bincount(label).tolist() == [most] * 3


def test_arrays_are_trained_on_by_names(tmp_path):
    arrays = three(120, seed=3)
    words = np.array(NAMES)[arrays["label"]]
    few = Schedule(batch=20, iterations=20, extend_by=0, validate_every=10)
    clf = rotinv.fit(arrays["stamps"], words, arch="cap-mini", out=tmp_path / "run", schedule=few,
                     classes=NAMES, candidate="SN", balance="weights")  # fmt: skip
    assert clf.classes == CLASSES and clf.classes_.tolist() == [0, 1, 2]
    weights = read_config(tmp_path / "run").class_weights
    assert len(weights) == 3 and min(weights) == weights[0]
    assert clf.evaluate(arrays["stamps"], words)["by_class"]["classes"] == list(NAMES)


@pytest.mark.parametrize(
    "names, candidate, word",
    [
        (["one"], None, "2 to"),
        (["a", "a"], None, "each"),
        (["a", "b,c"], None, "b,c"),
        (["a", "b", "c"], None, "--candidate"),
        (["a", "b", "c"], "d", "'d'"),
        (["a", "b"], "a", "second"),
    ],
)
def test_classes_that_cannot_be(names, candidate, word):
    with pytest.raises(UserError, match=word):
        Classes.of(names, candidate)


def test_labels_of_other_classes_are_not_evaluated(run, tmp_path):
    """A store of artifacts and candidates says nothing of three classes, though its stamps can be scored."""
    np.savez(tmp_path / "toy.npz", **toy_arrays(60))
    assert call("pack", tmp_path / "toy.npz", "--out", tmp_path / "toy.h5", "--channels", "difference",
                ).returncode == 0  # fmt: skip
    assert_refused(call("evaluate", run, tmp_path / "toy.h5"), "no labels", "bogus, SN, asteroid")
    assert call("score", run, tmp_path / "toy.h5", "--out", tmp_path / "s.csv").returncode == 0
    assert "label" not in next(csv.reader(open(tmp_path / "s.csv")))
    assert_refused(call("train", "--data", tmp_path / "toy.h5", "--init-from", run, "--out", tmp_path / "r"),
                   "dense3/w" if read_config(run).arch == "cap" else "dense2/w")  # fmt: skip


def test_wrong_labels_are_named(tmp_path):
    arrays = three(30)
    for label, word in ((arrays["label"] + 1, "from 0 to 2"), (np.array(["SN", "star"] * 15), "'star'")):
        np.savez(tmp_path / "bad.npz", **{**arrays, "label": label})
        done = call("pack", tmp_path / "bad.npz", "--out", tmp_path / "bad.h5", "--classes", ",".join(NAMES),
                    "--candidate", "SN")  # fmt: skip
        assert_refused(done, word)


# --- two classes stay as they were --------------------------------------------------------------------------

# Digests of what was written before networks had more classes.
BEFORE = {
    "config.json": "b518677af0df44dd",
    "s.csv": "f553374073f595cc",
    "s.csv-metadata.json": "a026b4d4dc393005",
    "weights": "61751a3e0d43cad1",
}


def test_files_of_two_classes_are_as_before_there_were_more(tmp_path):
    """All logits are equal, so that no machine rounds anything: p is 0.5, and rotations do not differ."""

    def flat(views):
        for layer in views:
            for name, array in layer.items():
                array[:] = 0.25 if name == "b" else 0

    run = make_run(tmp_path / "flat", "cap-mini", change=flat)
    np.savez(tmp_path / "stamps.npz", **toy_arrays(20))
    assert call("score", run, tmp_path / "stamps.npz", "--out", tmp_path / "s.csv").returncode == 0
    texts = {path.name: path.read_text() for path in (run / "config.json", *tmp_path.glob("s.csv*"))}
    with h5py.File(run / "best.h5") as file:
        texts["weights"] = file.attrs["sha256"] + " ".join(sorted(file["params"])) + " ".join(file.attrs)
    found = {
        name: hashlib.sha256(text.replace(__version__, "VERSION").encode()).hexdigest()[:16]
        for name, text in texts.items()
    }
    assert found == BEFORE


def test_a_configuration_of_two_classes_names_none(tmp_path):
    write_config(tmp_path, Config("cap-mini", 13, ["difference"]))
    assert not {"classes", "candidate"} & json.loads((tmp_path / "config.json").read_text()).keys()
    assert read_config(tmp_path).classes == TWO
    write_config(tmp_path, Config("cap-mini", 13, ["difference"], classes=CLASSES))
    assert read_config(tmp_path).classes == CLASSES
