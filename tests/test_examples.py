"""The notebooks of examples/: each runs as it stands, tells what it promises, and draws its pictures."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT

image = pytest.importorskip("matplotlib.image")
NOTEBOOKS = sorted((ROOT / "examples").glob("*.py"))
PICTURES = {
    "train_and_score": ("stamps.png", "det.png", "cap/learning_curve.png"),
    "audit_lrp": ("map.png", "waterfall.png", "rules.png"),
    "tune_to_a_survey": ("best.png", "tuned/learning_curve.png"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One folder for all: the others take the survey, and the network, that the first has made."""
    return tmp_path_factory.mktemp("examples")


def run(name, out):
    """What a notebook prints, run as a script in an empty folder, which it must leave empty."""
    (elsewhere := out / "elsewhere").mkdir(exist_ok=True)
    # With -W error pyparsing also turns on diagnostics of its own, which Matplotlib 3.8's grammar fails.
    warnings = ["-W", "error", "-W", "ignore:::pyparsing"]
    command = [sys.executable, *warnings, str(ROOT / "examples" / f"{name}.py")]
    env = {**ENVIRONMENT, "ROTINV_OUT": str(out)}
    done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(elsewhere) == []
    for picture in PICTURES[name]:
        assert np.ptp(image.imread(out / picture)) > 0.5  # neither blank nor absent
    return done.stdout


def test_train_and_score(out):
    printed = run("train_and_score", out)
    assert printed.count("equal bits: True") == 4
    changes = re.search(r"by turning: CAP (\S+), Deep-HiTS (\S+)", printed)
    assert float(changes[1]) == 0 and float(changes[2]) > 1e-3
    assert float(re.search(r"accuracy +([\d.]+)%", printed)[1]) > 75
    assert len((out / "scores.csv").read_text().splitlines()) == 401


def test_audit_lrp(out):
    printed = run("audit_lrp", out)
    assert "bit for bit: True" in printed
    assert abs(float(re.search(r"not accounted for: (\S+)", printed)[1])) < 1e-9
    assert "stamp + all lines == output: True" in printed
    assert float(re.search(r"accuracy on the test stamps: ([\d.]+)%", printed)[1]) > 60


def test_tune_to_a_survey(out):
    pytest.importorskip("fastavro")
    printed = run("tune_to_a_survey", out)
    before, after = (float(share) for share in re.findall(r"(?:cap|tuned) +accuracy ([\d.]+)%", printed))
    assert after > 85 and after >= before
    assert "train: 125 stamps" in printed and "a night of 1,000 alerts, 0.05 of them real" in printed
    assert printed.count("tonight-maps.pdf, page ") == 20
    assert len((out / "tonight.csv").read_text().splitlines()) == 151


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_and_code_are_in_their_cells(path):
    """Percent format: what is said is in markdown cells, all comment; no cell is empty."""
    first, *cells = re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert first == "" and len(cells) > 10
    for cell in cells:
        kind, _, body = cell.partition("\n")
        assert kind in (" [markdown]", "", ' tags=["remove-output"]') and body.strip()
        if "markdown" in kind:
            assert all(line.startswith("#") for line in body.strip().splitlines())
            assert body.count("$$") % 2 == 0 and body.replace("$$", "").count("$") % 2 == 0
