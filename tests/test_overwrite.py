"""Programs that write refuse what is there already, and replace it with --overwrite."""

import h5py
import numpy as np
import pytest
from alert_packets import ZTF, sky, write_avro, ztf
from programs import assert_refused, call, make_run, toy_arrays
from test_import_hits import columns, put

from rotinv.__main__ import PROGRAMS
from rotinv.runs.model import load_model


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overwrite")
    make_run(folder / "run", "cap-mini")
    np.savez(folder / "stamps.npz", **toy_arrays(n=30))
    write_avro(folder / "a.avro", ZTF, [ztf(f"Z{i}", i, sky(63, i)) for i in range(20)])
    (folder / "labels.csv").write_text("id,label\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    put(folder / "hits", columns(30))
    return folder


WRITTEN = {
    "a catalogue": ("score", "s.csv", ["--out"]),
    "a catalogue in HDF5": ("score", "s.h5", ["--out"]),
    "maps": ("explain", "m.h5", ["--index", 0, "--maps"]),
    "a page": ("explain", "p.png", ["--index", 0, "--out"]),
    "pages": ("explain", "p.pdf", ["--index", 0, 1, "--out"]),
    "a waterfall": ("audit", "w.png", ["--index", 0, "--out"]),
    "curves": ("evaluate", "c.png", ["--no-keep", "--out"]),
    "a viewer": ("view", "v.html", ["--index", 0, "--out"]),
    "histograms": ("invariance", "h.png", ["--out"]),
    "Table III": ("invariance", "t.csv", ["--csv"]),
    "falls": ("perturb", "f.png", ["--count", 5, "--steps", 2, "--methods", "lrp", "--out"]),
    "AOPC": ("perturb", "a.csv", ["--count", 5, "--steps", 2, "--methods", "lrp", "--csv"]),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_there_is_replaced_when_told_to(here, tmp_path, what):
    program, name, options = WRITTEN[what]
    if name.endswith((".png", ".pdf")):
        pytest.importorskip("matplotlib")
    out = tmp_path / name
    out.write_text("mine")
    arguments = (program, here / "run", here / "stamps.npz", *options, out)
    assert_refused(call(*arguments), name, "exists already")
    assert out.read_text() == "mine"
    done = call(*arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() != b"mine" and len(out.read_bytes()) > 50
    assert len(list(tmp_path.iterdir())) == 1 + (name == "s.csv")  # with its metadata


STORES = {
    "pack": ("stamps.npz", "--channels", "difference"),
    "import_alerts": ("a.avro",),
    "import_alerts of labels": ("a.avro", "--labels", "{}/labels.csv"),
    "import_hits": ("hits", "--split", "test"),
    "simulate": (None, "--train", 12, "--validate", 4, "--test", 4, "--band", "u", "--workers", 1),
}


@pytest.mark.parametrize("what", STORES)
def test_a_store_that_is_there_is_replaced_when_told_to(here, tmp_path, what):
    if "alerts" in what:
        pytest.importorskip("fastavro")
    source, *options = STORES[what]
    out = tmp_path / "store.h5"
    out.write_text("mine")
    given = [str(one).format(here) for one in options]
    arguments = (what.split()[0], *([here / source] if source else []), *given, "--out", out)
    assert_refused(call(*arguments), "store.h5", "exists already")
    assert out.read_text() == "mine"
    done = call(*arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    with h5py.File(out) as file:
        assert sum(len(file[name]["stamps"]) for name in ("train", "validate", "test")) >= 20
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("score run stamps.npz --overwrite --out stamps.npz", "stamps.npz: is read, too"),
        ("pack stamps.npz --overwrite --out run/../stamps.npz", "run/../stamps.npz: is read, too"),
        ("import_alerts a.avro --overwrite --out a.avro", "a.avro: is read, too"),
        ("import_alerts a.avro --labels labels.csv --overwrite --out labels.csv", "labels.csv: is read, too"),
        ("card run stamps.npz --overwrite --out card.md stamps.npz", "stamps.npz: is read, too"),
        ("card run --out card.md card.md", "card.md: is written twice"),
        ("invariance run stamps.npz --csv both.csv --out both.csv", "both.csv: is written twice"),
        ("score run stamps.npz --out s.csv --log s.csv", "s.csv: is written twice"),
    ],
)
def test_no_file_that_is_read_or_written_otherwise_is_replaced(here, monkeypatch, arguments, words):
    def contents():
        return {path: path.read_bytes() for path in here.iterdir() if path.is_file()}

    monkeypatch.chdir(here)
    before = contents()
    assert_refused(call(*arguments.split()), words)
    assert contents() == before


def test_imported_weights_are_replaced_and_a_training_is_not(here, tmp_path):
    import_to = ("import_weights", here / "run" / "best.h5", "--size", 13, "--arch", "cap-mini")
    import_to += ("--channels", "difference", "--out")
    make_run(tmp_path / "other", "cap-mini", 1)
    (tmp_path / "other" / "thresholds.json").write_text("{}")
    assert_refused(call(*import_to, tmp_path / "other"), "other", "holds a run")
    assert call(*import_to, tmp_path / "other", "--overwrite").returncode == 0
    ours = load_model(here / "run").params
    np.testing.assert_array_equal(load_model(tmp_path / "other").params, ours)
    make_run(tmp_path / "trained", "cap-mini", 1)
    (tmp_path / "trained" / "last.h5").write_text("hours of work")
    assert_refused(call(*import_to, tmp_path / "trained", "--overwrite"), "trained", "last.h5")
    assert not np.array_equal(load_model(tmp_path / "trained").params, ours)


def test_every_program_that_writes_a_file_can_be_told_to():
    """All but train, whose folder goes on with --resume."""
    for program in set(PROGRAMS) - {"train"}:
        told = call(program, "--help").stdout
        writes = any(f"--{name} " in told for name in ("out", "csv", "maps", "preview"))
        assert ("--overwrite" in told) == writes, program
