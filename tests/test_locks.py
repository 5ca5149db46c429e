"""Two processes at one folder: the second is told who holds it, and a killed process blocks nobody."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from programs import ENVIRONMENT, toy_arrays

from rotinv import pack, train
from rotinv.runs import kept, thresholds
from rotinv.runs.folder import check_folder_free
from rotinv.runs.model import load_model
from rotinv.system import locks
from rotinv.system.errors import UserError

HOLD = "import sys, time; from pathlib import Path; from rotinv.system import locks\n"
HOLD += "with locks.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 20 iterations."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "toy.npz", **toy_arrays())
    made = [str(folder / "toy.npz"), "--out", str(folder / "toy.h5"), "--channels", "difference"]
    assert pack.main(made) == 0
    options = ["--data", str(folder / "toy.h5"), "--arch", "cap-mini", "--iterations", "20", "--batch", "10"]
    assert train.main([*options, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_refused_and_told_who_is_first(tmp_path, holder):
    with pytest.raises(UserError, match=f"^{tmp_path}: process {holder.pid} on .+ is at work in it"):
        with locks.held(tmp_path):
            pass


def test_a_killed_process_holds_nobody_up(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks.held(tmp_path):
        assert (tmp_path / locks.NAME).read_text().startswith(f"process {os.getpid()} on ")


def test_it_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), locks.held(tmp_path):
        raise KeyError
    with locks.held(tmp_path):
        pass


def test_patience(tmp_path, holder):
    started = time.monotonic()
    with pytest.raises(UserError, match="is at work"), locks.held(tmp_path, patience=0.5):
        pass
    assert time.monotonic() - started > 0.5


def test_what_joined_holds_on(tmp_path):
    """A worker that outlives the process that started it keeps others out."""
    join = "import os, sys, time; from pathlib import Path; from rotinv.system import locks\n"
    join += "locks.join(Path(sys.argv[1])); print('joined', flush=True); time.sleep(600)"
    with locks.held(tmp_path):
        worker = subprocess.Popen(
            [sys.executable, "-c", join, str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout.readline() == "joined\n"
    try:
        with pytest.raises(UserError, match="is at work"), locks.held(tmp_path):
            pass
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    with locks.held(tmp_path):
        pass


def test_a_run_is_resumed_by_one_process_at_a_time(tmp_path, holder, trained):
    """The run's files are left as they were."""
    for path in trained.iterdir():
        if path.name != locks.NAME:
            shutil.copy(path, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"{tmp_path}: process {holder.pid} on .+ is at work in it"):
        train.main(["--resume", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_thresholds_are_kept_by_one_process_at_a_time(tmp_path, holder, trained, monkeypatch):
    monkeypatch.setattr(kept, "_PATIENCE", 0.1)
    model = load_model(trained)
    with pytest.raises(UserError, match="is at work"):
        thresholds.store([tmp_path], [model], {0.01: 0.5}, {})
    assert not (tmp_path / thresholds.FILE).exists()


def test_a_folder_with_the_lock_alone_is_free_for_a_run(tmp_path):
    with locks.held(tmp_path):
        pass
    check_folder_free(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds files already"):
        check_folder_free(tmp_path)
