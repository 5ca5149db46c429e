"""Programs that write refuse what is there already, and replace it with --overwrite."""

import numpy as np
import pytest
from programs import assert_refused, call, toy_arrays

from rotinv.runs.folder import Config
from rotinv.runs.model import write_weights


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overwrite")
    config = Config(arch="cap-mini", size=13, channels=["difference"])
    write_weights(folder / "run", config, config.network().initial("he", 0))
    np.savez(folder / "stamps.npz", **toy_arrays(n=30))
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
