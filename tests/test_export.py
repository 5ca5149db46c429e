"""Exports run elsewhere as they do here, and come back with the same bits."""

import importlib.util
import json

import numpy as np
import pytest
from programs import assert_refused, call, make_run

import rotinv
from rotinv.deploy import safetensors_files, torch_files, torch_module
from rotinv.nn import architectures
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model, weights_digest
from rotinv.stamps.classes import Classes

CHANNELS = ("template", "science", "difference")
CLASSES = Classes.of(("bogus", "SN", "asteroid"), "SN")
WORST = 1e-5  # of a probability, by the issue; float32 sums in another order differ by some 1e-7


def raw_stamps(n, side=21, channels=3, seed=1):
    """Raw pixels with a background, a few of them odd: constant channels, NaN, infinity, a wide range."""
    rng = np.random.default_rng(seed)
    stamps = rng.normal(100, 5, (n, side, side, channels)).astype(np.float32)
    stamps[::3] += 300 * np.exp(-((np.mgrid[:side, :side] - side // 2) ** 2).sum(axis=0) / 6)[..., None]
    stamps[1, :, :, 0] = 7  # constant
    middle = side // 2
    stamps[2, middle, middle + 1, -1] = np.nan
    stamps[3, middle - 1, middle, -1] = np.inf
    stamps[4, :, :, 0], stamps[4, middle, middle, 0] = -np.inf, 1
    stamps[5] *= 1e30
    stamps[6, :, :, -1] = np.nan
    return stamps.astype(np.float32)


def session(path):
    """ONNX Runtime on one thread, its messages silent: some of these graphs are meant to be refused."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnx(path, stamps):
    """The outputs by name, of stamps (n, S, S, C)."""
    found = session(path)
    values = found.run(None, {"stamps": np.ascontiguousarray(np.moveaxis(stamps, 3, 1))})
    return dict(zip([one.name for one in found.get_outputs()], values, strict=True))


def exported(runs, path, *options):
    pytest.importorskip("onnx") if path.suffix == ".onnx" else None
    kind = {".onnx": "onnx", ".safetensors": "safetensors", ".pt": "torch"}[path.suffix]
    done = call("export", *runs, "--format", kind, "--out", path, *options)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
@pytest.mark.parametrize("classes", [Classes(), CLASSES], ids=str)
def test_a_graph_gives_the_same_probabilities(tmp_path, arch, classes):
    run = make_run(tmp_path / "run", arch, size=21, channels=CHANNELS, classes=classes)
    stamps = raw_stamps(60)
    ours = rotinv.load(run).predict_proba(stamps, on_bad="flag")
    found = run_onnx(exported([run], tmp_path / "run.onnx"), stamps)
    bad = np.isnan(ours[:, 0])
    assert bad.sum() == 4 and not bad[[0, 1, 5]].any()
    np.testing.assert_array_equal(np.isnan(found["probabilities"]), np.isnan(ours))
    np.testing.assert_allclose(found["probabilities"][~bad], ours[~bad], rtol=0, atol=WORST)
    np.testing.assert_array_equal(found["probability"], found["probabilities"][:, classes.candidate])


def test_a_thousand_stamps_through_onnx_runtime(tmp_path):
    run = make_run(tmp_path / "run", "cap", size=21, channels=CHANNELS)
    stamps = np.concatenate([raw_stamps(1001 - 7)[7:], raw_stamps(20, seed=2)[7:]])
    ours = rotinv.load(run).predict_proba(stamps)
    found = run_onnx(exported([run], tmp_path / "run.onnx"), stamps)
    worst = float(np.abs(found["probabilities"] - ours).max())
    print(f"{len(stamps):,} stamps through ONNX Runtime: largest |dp| {worst:.2g}")
    assert len(stamps) == 1000 and worst <= WORST
    np.testing.assert_array_equal(found["probability"] >= 0.5, ours[:, 1] >= 0.5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_of_any_size(tmp_path, batch):
    run = make_run(tmp_path / "run", "cap-mini")
    path, stamps = exported([run], tmp_path / "run.onnx"), raw_stamps(16, 13, 1)[7:]
    whole = run_onnx(path, stamps)["probability"]
    np.testing.assert_allclose(run_onnx(path, stamps[:batch])["probability"], whole[:batch], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_several_networks_are_one_graph(tmp_path, count):
    runs = [
        make_run(tmp_path / f"n{i}", a, seed=i) for i, a in enumerate(["cap", "cap-mini", "deephits"][:count])
    ]
    path, stamps = exported(runs, tmp_path / "cape.onnx"), raw_stamps(30, 13, 1)
    clf, found = rotinv.load(runs), run_onnx(path, stamps)
    ours = clf.predict_proba(stamps, on_bad="flag")
    np.testing.assert_allclose(found["probability"], ours[:, 1], rtol=0, atol=WORST)
    assert np.isnan(found["probability"]).sum() == 4
    for i in range(count):
        alone = clf[f"n{i}"].predict_proba(stamps, on_bad="flag")[:, 1]
        np.testing.assert_allclose(found[f"probability_n{i}"], alone, rtol=0, atol=WORST)


def test_larger_stamps_are_cut_where_the_network_cuts(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini", crop=13)
    path = exported([run], tmp_path / "run.onnx")
    for side in (13, 15, 21, 63):
        stamps = raw_stamps(12, side, 1)
        ours = rotinv.load(run).predict_proba(stamps, on_bad="flag")[:, 1]
        np.testing.assert_allclose(run_onnx(path, stamps)["probability"], ours, rtol=0, atol=WORST)


@pytest.mark.parametrize("shape", [(14, 14), (11, 11), (12, 12), (15, 13), (13, 15), (15, 17), (63, 61)])
def test_stamps_that_cannot_be_cut_are_refused(tmp_path, shape):
    run = make_run(tmp_path / "run", "cap-mini", crop=13)
    with pytest.raises(Exception, match=r"(?i)reshape"):
        run_onnx(exported([run], tmp_path / "run.onnx"), np.ones((2, *shape, 1), np.float32))


def test_other_sizes_and_channels_are_refused(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini")
    path = exported([run], tmp_path / "run.onnx")
    for shape in ((2, 15, 15, 1), (2, 13, 13, 2)):
        with pytest.raises(Exception, match=r"(?i)invalid dimensions"):
            run_onnx(path, np.ones(shape, np.float32))


def test_the_metadata_say_what_a_broker_must_know(tmp_path, store):
    run = make_run(tmp_path / "run", "cap-mini")
    assert call("evaluate", run, store, "--fpr", 0.1, "--keep").returncode == 0
    path = exported([run], tmp_path / "run.onnx", "--licence", "CC-BY-4.0")
    found = session(path).get_modelmeta().custom_metadata_map
    assert (found["channels"], found["classes"], found["candidate"]) == (
        "difference",
        "artifact,candidate",
        "candidate",
    )
    assert (found["sha256"], found["licence"]) == (weights_digest(load_model(run)), "CC-BY-4.0")
    assert found["version"] == rotinv.__version__ and found["size"] == "13" and found["calibrator"] == ""
    kept = json.loads((run / "thresholds.json").read_text())["entries"][0]["thresholds"]
    assert json.loads(found["thresholds"]) == kept and "0.1" in kept


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt"])
@pytest.mark.parametrize("arch", ["cap", "deephits", "cap-mini"])
def test_round_trip_with_the_same_bits(tmp_path, suffix, arch):
    run = make_run(tmp_path / "run", arch, channels=("science", "difference"), change=as_float32)
    path = exported([run], tmp_path / f"x{suffix}")
    how = ("--arch", arch, "--size", 13, "--channels", "science,difference") if suffix == ".pt" else ()
    done = call("import_weights", path, "--out", tmp_path / "back", *how)
    assert done.returncode == 0, done.stderr
    one, other = load_model(run), load_model(tmp_path / "back")
    np.testing.assert_array_equal(one.params, other.params)
    assert one.config.channels == other.config.channels and other.config.arch == arch
    assert "conv1    <- " in done.stdout


def as_float32(views):
    """Weights that a training in float32 could have given."""
    for layer in views:
        for array in layer.values():
            array[:] = np.float32(array)


def test_the_classes_and_the_cut_come_back(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini", crop=13, classes=CLASSES)
    for suffix in (".onnx", ".safetensors"):
        path = exported([run], tmp_path / f"x{suffix}")
        assert call("import_weights", path, "--out", tmp_path / suffix[1:]).returncode == 0
        config = read_config(tmp_path / suffix[1:])
        assert (config.classes, config.crop, config.size) == (CLASSES, 13, 13)


def test_one_of_several_networks_is_taken_by_its_name(tmp_path):
    runs = [make_run(tmp_path / f"n{i}", "cap-mini", seed=i) for i in range(2)]
    path = exported(runs, tmp_path / "cape.onnx")
    assert_refused(call("import_weights", path, "--out", tmp_path / "no"), "n0, n1", "--model")
    assert call("import_weights", path, "--out", tmp_path / "back", "--model", "n1").returncode == 0
    assert weights_digest(load_model(tmp_path / "back")) == weights_digest(load_model(runs[1]))


def test_float64_weights_keep_their_bits_in_safetensors(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini")
    path = exported([run], tmp_path / "x.safetensors")
    assert call("import_weights", path, "--out", tmp_path / "back").returncode == 0
    np.testing.assert_array_equal(load_model(run).params, load_model(tmp_path / "back").params)


def test_the_library_reads_our_safetensors(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.ones(3)}
    safetensors_files.write(tmp_path / "x.safetensors", arrays, {"what": "ours"})
    found = numpy_files.load_file(tmp_path / "x.safetensors")
    assert {name: array.tolist() for name, array in found.items()} == {
        k: v.tolist() for k, v in arrays.items()
    }
    numpy_files.save_file(arrays, tmp_path / "theirs.safetensors", {"what": "theirs"})
    back, about = safetensors_files.read(tmp_path / "theirs.safetensors")
    assert about == {"what": "theirs"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_the_module_is_a_page_and_reads_the_weights(tmp_path, arch):
    """Without PyTorch its text and the state dict are checked; with it, what it gives."""
    run = make_run(tmp_path / "run", arch, crop=13, classes=CLASSES)
    exported([run], tmp_path / "net.pt")
    text = (tmp_path / "net.py").read_text()
    compile(text, "net.py", "exec")
    assert len(text.splitlines()) < 90
    state = torch_files.read(tmp_path / "net.pt")
    model = load_model(run)
    assert list(state) == list(torch_module.state_dict(model.network, model.params))
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network, stamps = module.load(), raw_stamps(30, 15, 1)
    with torch.no_grad():
        p = network(torch.from_numpy(np.ascontiguousarray(np.moveaxis(stamps, 3, 1)))).numpy()
    np.testing.assert_allclose(p, rotinv.load(run).predict_proba(stamps, on_bad="flag"), rtol=0, atol=WORST)
    with pytest.raises(ValueError, match="no centre"):
        network(torch.ones(1, 1, 14, 14))


def test_what_is_refused(tmp_path):
    one, two = (make_run(tmp_path / name, "cap-mini") for name in ("one", "two"))
    out = ("--out", tmp_path / "x.pt")
    assert_refused(call("export", one, "--format", "safetensors", *out), "x.pt", ".safetensors")
    assert_refused(call("export", one, two, "--format", "torch", *out), "one network")
    (tmp_path / "x.py").write_text("mine")
    assert_refused(call("export", one, "--format", "torch", *out), "x.py", "exists")
    assert not (tmp_path / "x.pt").exists() and (tmp_path / "x.py").read_text() == "mine"
    other = make_run(tmp_path / "other", "cap-mini", channels=("science",))
    assert_refused(call("export", one, other, "--format", "onnx", "--out", tmp_path / "x.onnx"), "channels")


def test_the_same_weights_give_the_same_file(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini")
    for suffix in (".pt", ".safetensors", ".onnx"):
        first, second = (exported([run], tmp_path / f"{n}{suffix}").read_bytes() for n in "ab")
        assert first == second
