"""SIGKILL at random moments: outputs are whole or absent, the same command goes on, the bits are the same.

Half of the kills come by the clock, the others at a change of the file system: as a file is opened, renamed
or removed. test_reproduce.py and test_pipeline.py have the kills of reproduce.
"""

import json
import random
import shutil
import signal

import h5py
import numpy as np
import pytest
from alert_packets import ZTF, sky, write_avro, ztf
from launcher import PATIENCE, Launcher
from programs import make_run, toy_arrays, toy_store
from test_catalogues import read as read_catalogue
from test_import_hits import columns, put
from test_survey import SMALL
from test_train import assert_same_run

from rotinv.runs import history
from rotinv.runs.folder import CONFIG_FILE, HISTORY_FILE, METRICS_FILE
from rotinv.stamps.store import StampStore

pytestmark = pytest.mark.drill
PROGRAMS = ("train", "simulate", "import_alerts", "import_hits", "score")
DEVICE = ("--device", "reference")


@pytest.fixture(scope="module")
def launcher():
    with Launcher(["-matplotlib", *PROGRAMS]) as launcher:
        yield launcher


def contents(path):
    """All arrays and attributes of an HDF5 file, by name."""
    found = {}
    with h5py.File(path) as file:
        found |= {f"@{name}": str(value) for name, value in file.attrs.items()}
        file.visititems(
            lambda name, one: found.update({name: one[()]} if isinstance(one, h5py.Dataset) else {})
        )
    return found


def assert_same_file(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


class Drill:
    """Kills of one program in a folder of its own.

    `command()` is what a user gives when it was killed, for the folder as it is; `check()` looks at what is
    there, and `finish()` at what a run that ended has made, which it removes.
    """

    def __init__(self, launcher, folder, program, prepare=""):
        self._launcher, self._program, self._prepare = launcher, program, prepare
        self.folder, self._told = folder / "killed", folder / "told"
        self.folder.mkdir()

    def run(self, *arguments, **more):
        """To its end; gives the status."""
        started = self._start(arguments, **more)
        return started.wait(PATIENCE)

    def told(self):
        return self._told.read_text()

    def measure(self, *arguments):
        """Run to the end, and keep how long it took and how many changes of the file system it was."""
        assert self.run(*arguments, point=-1, folder=str(self.folder.parent)) == 0, self.told()
        measured = json.loads(self.told().splitlines()[-1])
        self._seconds, self._changes = measured["seconds"], measured["changes"]

    def kill(self, kills, command, check, finish, last=1):
        """Kill so many times, and let the last run, or several, end."""
        rng, done, whole = random.Random(20181101), 0, 0
        while done < kills:
            if done % 2:
                point = rng.randrange(self._changes)
                status = self._start(command(), point=point, folder=str(self.folder)).wait(PATIENCE)
            else:
                status = self._start(command()).kill_after(rng.uniform(0, self._seconds))
            check()
            if status == 0:
                finish()
                whole += 1
            else:
                assert status == -signal.SIGKILL, self.told()
                done += 1
        for _ in range(last):
            assert self.run(*command()) == 0, self.told()
            finish()
        assert not list(self.folder.iterdir())
        print(f"{self._program}: {done} kills, {whole + last} runs that ended")

    def _start(self, arguments, **more):
        return self._launcher.start(self._program, *arguments, told=self._told, prepare=self._prepare, **more)


def test_train(launcher, kills, tmp_path):
    """Resumed, or begun again where not even its configuration was there, it ends with the same bits."""
    store, whole = toy_store(tmp_path), tmp_path / "whole"
    short = ("--iterations", 40, "--validate-every", 10, "--batch", 10, "--extend-by", 0)
    begin = ("--arch", "cap-mini", "--data", store, *short, *DEVICE, "--out")
    drill = Drill(launcher, tmp_path, "train")
    drill.measure(*begin, whole)
    run = drill.folder / "run"

    def command():
        return ("--resume", run, *DEVICE) if (run / CONFIG_FILE).exists() else (*begin, run)

    def check():
        found = {path.name for path in run.glob("[!.]*")}
        documents = {"config.json", "metrics.json", "thresholds.json"}
        assert found <= documents | {"history.csv", "best.h5", "last.h5", "lock"}
        for name in found & documents:
            json.loads((run / name).read_text())
        for name in found & {"best.h5", "last.h5"}:
            assert contents(run / name)["@format"]
        if HISTORY_FILE in found:
            history.read(run / HISTORY_FILE)

    def finish():
        assert_same_run(run, whole)
        assert (run / METRICS_FILE).read_bytes() == (whole / METRICS_FILE).read_bytes()
        assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
        shutil.rmtree(run)

    drill.kill(kills, command, check, finish)


def test_simulate(launcher, kills, tmp_path):
    """The same command goes on; a run that ended leaves nothing but the survey."""
    prepare = "import functools; from rotinv import survey; from rotinv.survey import build; build.BLOCK = 8;"
    prepare += f"survey.make_survey = functools.partial(survey.make_survey, **{SMALL!r})"
    counts = ("--train", 40, "--validate", 10, "--test", 10, "--band", "u", "--workers", 1, "--out")
    drill, whole = Drill(launcher, tmp_path, "simulate", prepare), tmp_path / "whole.h5"
    drill.measure(*counts, whole)
    path = drill.folder / "survey.h5"

    def command():
        if path.exists():  # it was killed at its very end
            assert drill.run(*counts, path) == 2 and "exists already" in drill.told()
            finish()
        return (*counts, path)

    def check():
        if path.exists():
            assert_same_file(path, whole)
        for block in drill.folder.glob("survey.h5.part/[!.]*.npz"):
            np.load(block)["stamps"]

    def finish():
        assert_same_file(path, whole)
        assert list(drill.folder.iterdir()) == [path]
        path.unlink()

    drill.kill(kills, command, check, finish)


def make_files(kills, drill, outputs, arguments, same):
    """A program that makes files: they are there, whole, or not; `outputs` gives each start its path."""
    started = [0]

    def path():
        return outputs[started[0] % len(outputs)]

    def command():
        if path().exists():  # it was killed at its very end, or a part of it was
            check()
            remove()
        started[0] += 1
        return (*arguments, path())

    def check():
        if path().exists():
            same(path())

    def remove():
        for found in [one for one in drill.folder.iterdir() if one.name.startswith(path().stem)]:
            found.unlink()

    def finish():
        assert path().exists()
        check()
        assert not [one for one in drill.folder.iterdir() if one.name.startswith(f".{path().name}")]
        remove()

    drill.kill(kills, command, check, finish, last=len(outputs))


def test_import_alerts(launcher, kills, tmp_path):
    alerts = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, sky(63, i)) for i in range(60)])
    drill, whole = Drill(launcher, tmp_path, "import_alerts"), tmp_path / "whole.h5"
    drill.measure(alerts, "--out", whole)
    same = lambda path: assert_same_file(path, whole)  # noqa: E731
    make_files(kills, drill, [drill.folder / "alerts.h5"], (alerts, "--out"), same)


def test_import_hits(launcher, kills, tmp_path):
    source = put(tmp_path / "flat", columns(3000)).parent
    drill, whole = Drill(launcher, tmp_path, "import_hits"), tmp_path / "whole.h5"
    drill.measure(source, "--split", "test", "--out", whole)
    same = lambda path: assert_same_file(path, whole)  # noqa: E731
    make_files(kills, drill, [drill.folder / "hits.h5"], (source, "--split", "test", "--out"), same)
    with StampStore(whole) as store:
        assert store.sizes["test"] == 3000


def test_score(launcher, kills, tmp_path):
    """Catalogues of every format, with maps beside them."""
    np.savez(tmp_path / "stamps.npz", **toy_arrays(n=120))
    arguments = (make_run(tmp_path / "run", "cap-mini"), tmp_path / "stamps.npz", *DEVICE)
    arguments = (*arguments, "--explain", "top", 3, "--out")
    drill, whole = Drill(launcher, tmp_path, "score"), tmp_path / "whole.csv"
    drill.measure(*arguments, whole)
    wanted = read_catalogue(whole)[0]["probability"]

    def same(path):
        found = read_catalogue(path)[0]["probability"]
        np.testing.assert_array_equal(np.float32(found), np.float32(wanted))
        maps = path.with_name(f"{path.stem}-maps.h5")
        if maps.exists():
            assert_same_file(maps, tmp_path / "whole-maps.h5")

    outputs = [drill.folder / f"scores.{suffix}" for suffix in ("csv", "parquet", "fits", "h5")]
    make_files(kills, drill, outputs, arguments, same)
