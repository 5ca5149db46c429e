"""A disk that fills up, or cannot be written: one line, status 2, nothing half-written, older files intact.

The disk is a small tmpfs in a mount namespace that ends with the programs. Where a process may not mount one,
these tests are skipped: root may write anywhere, so permissions would prove nothing.
"""

import functools
import shutil
import subprocess

import numpy as np
import pytest
from alert_packets import ZTF, sky, write_avro, ztf
from launcher import NAMESPACE, Launcher
from programs import call, make_run, toy_arrays
from test_import_hits import columns, put
from test_survey import SMALL
from test_train import assert_same_run

from rotinv.metrics import scores

DEVICE = ("--device", "reference")
SHORT = ("--iterations", 4, "--validate-every", 2, "--batch", 5, "--extend-by", 0, *DEVICE)
PAGE = 4096  # bytes that a tmpfs gives at a time
SIZE = "8m"
SURVEY = "import functools; from rotinv import survey;"
SURVEY += f"survey.make_survey = functools.partial(survey.make_survey, **{SMALL!r})"
QUICK = ("pack", "import_alerts", "import_hits", "import_weights", "score", "train", "evaluate")
SLOW = ("simulate", "explain", "view", "audit", "invariance", "perturb", "reproduce", "survey.check")


@functools.lru_cache
def why_not():
    """Why there is no disk to fill here; empty where there is."""
    mount = "mount -t tmpfs -o size=1m none /mnt"
    try:
        done = subprocess.run([*NAMESPACE, "sh", "-c", mount], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return f"no tmpfs may be mounted here ({done.stderr.strip()})" if done.returncode else ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


class Disk:
    """A launcher and a folder that, to its programs, is a small disk."""

    def __init__(self, launcher, folder):
        self._launcher, self.path = launcher, folder / "disk"
        self.path.mkdir()
        self.seen = launcher.place(self.path)  # as this process sees it
        self._told = folder / "told"
        assert launcher.shell("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", self.path) == 0

    def run(self, program, *arguments):
        """The status, and what the program told."""
        prepare = SURVEY if program == "simulate" else ""
        status = self._launcher.run(program, *arguments, told=self._told, prepare=prepare)
        return status, self._told.read_text()

    def files(self):
        """What there is, with its bytes; the lock of a run says who had it last."""
        found = {path.relative_to(self.seen): path for path in self.seen.rglob("*") if path.is_file()}
        return {str(name): path.read_bytes() for name, path in found.items() if name.name != "lock"}

    def fill(self, room):
        """Leave so many bytes."""
        filler = self.seen / "filler"
        free = shutil.disk_usage(self.seen).free
        filler.write_bytes(bytes(max(0, free - room)))
        return filler

    def read_only(self, yes):
        assert self._launcher.shell("mount", "-o", f"remount,bind,{'ro' if yes else 'rw'}", self.path) == 0


def disk_of(programs, tmp_path_factory, request):
    launcher = Launcher([*(["-matplotlib"] if programs is QUICK else []), *programs], disk=True)
    request.addfinalizer(lambda: launcher.__exit__())
    return Disk(launcher, tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory, request):
    return disk_of(QUICK, tmp_path_factory, request)


@pytest.fixture(scope="module")
def slow(tmp_path_factory, request):
    return disk_of(SLOW, tmp_path_factory, request)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Inputs of all programs, on another disk."""
    folder = tmp_path_factory.mktemp("inputs")
    np.savez(folder / "stamps.npz", **toy_arrays(n=300))
    done = call("pack", folder / "stamps.npz", "--out", folder / "store.h5", "--channels", "difference")
    assert done.returncode == 0
    write_avro(folder / "a.avro", ZTF, [ztf(f"Z{i}", i, sky(63, i)) for i in range(3)])
    put(folder / "hits", columns(30))
    make_run(folder / "run", "cap-mini")
    scores.write(folder / "scores.h5", scores.Scores(np.arange(300) % 2, np.linspace(0, 1, 300)))
    return folder


def command(kind, made, out):
    """The program and its arguments; `out` is a path without a suffix."""
    run, store, network = made / "run", made / "store.h5", ("--arch", "cap-mini")
    one, names = ("--index", 3, *DEVICE), ("--channels", "difference")
    weights = ("import_weights", run / "best.h5", "--size", 13, *network, *names, "--out", out)
    survey = ("--train", 12, "--validate", 4, "--test", 4, "--band", "u", "--workers", 1)
    few = ("--count", 6, *DEVICE)
    paths = {suffix: f"{out}.{suffix}" for suffix in ("h5", "csv", "parquet", "fits", "png", "html", "json")}
    found = {
        "pack": ("pack", made / "stamps.npz", *names, "--out", paths["h5"]),
        "import_alerts": ("import_alerts", made / "a.avro", "--out", paths["h5"]),
        "import_hits": ("import_hits", made / "hits", "--split", "test", "--out", paths["h5"]),
        "import_weights": weights,
        "train": ("train", *network, "--data", store, *SHORT, "--out", out),
        "simulate": ("simulate", *survey, "--out", paths["h5"]),
        "explain": ("explain", run, store, *one, "--out", paths["png"], "--maps", paths["h5"]),
        "view": ("view", run, store, *one, "--out", paths["html"]),
        "audit": ("audit", run, store, *one, "--out", paths["png"]),
        "invariance": ("invariance", run, store, *few, "--csv", paths["csv"], "--out", paths["png"]),
        "perturb": ("perturb", run, store, *few, "--steps", 2, "--csv", paths["csv"], "--out", paths["png"]),
        "evaluate": ("evaluate", made / "scores.h5", "--out", paths["png"]),
        "reproduce": ("reproduce", "--scale", "smoke", "--data", store, "--only", "fig1", "--out", out),
    }
    for suffix in ("csv", "parquet", "fits", "h5"):
        out = ("--out", paths[suffix])
        found[f"score {suffix}"] = ("score", run, store, *DEVICE, "--explain", "top", 2, *out)
    return found[kind]


def refused(told, program):
    """One line with the program's name, which says what the disk does."""
    line = told.strip().splitlines()[-1] if told.strip() else ""
    assert "Traceback" not in told, told
    assert line.startswith(f"rotinv {program}: "), told
    return line


ROOMS = (0, 0.7)  # of what the program writes


def drill(disk, made, kind, rooms=ROOMS):
    """The program on a read-only disk, and on one with little room: gives the status and what is there."""
    program, *arguments = command(kind, made, disk.path / "out")
    before, times = disk.files(), 0
    disk.read_only(True)
    status, told = disk.run(program, *arguments)
    disk.read_only(False)
    assert status == 2 and "Read-only" in refused(told, program)
    assert disk.files() == before
    status, told = disk.run(program, *arguments)
    assert status == 0, told
    whole = disk.files().keys() - before.keys()
    size = sum(-(-(disk.seen / one).stat().st_size // PAGE) * PAGE for one in whole)
    clear(disk, before)
    for share in rooms:
        filler = disk.fill(int(share * size))
        status, told = disk.run(program, *arguments)
        filler.unlink()
        if status != 0:
            assert status == 2 and "No space left" in refused(told, program), told
            times += 1
        left = disk.files().keys() - before.keys()
        assert not [one for one in left if one.endswith(".part")]
        assert status == 0 or left < whole or "simulate" in program
        yield status, left
        clear(disk, before)
    assert times
    assert disk.files() == before


def clear(disk, before):
    for path in disk.seen.iterdir():
        if path.name not in {name.split("/")[0] for name in before}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_files(disk, made, kind, rooms=ROOMS):
    """What was there is intact; where there is no room for the second file, the first is whole."""
    (disk.seen / "older.h5").write_bytes(b"mine")
    for status, left in drill(disk, made, kind, rooms):
        assert status == 0 or not [one for one in left if "maps" in one]
    (disk.seen / "older.h5").unlink()


@pytest.mark.parametrize("kind", ["pack", "import_alerts", "score csv"])
def test_files(quick, made, kind):
    check_files(quick, made, kind)


@pytest.mark.drill
@pytest.mark.parametrize(
    "kind",
    ["pack", "import_alerts", "import_hits", *(f"score {s}" for s in ("csv", "parquet", "fits", "h5"))],
)
def test_files_with_all_sorts_of_room(quick, made, kind):
    check_files(quick, made, kind, (0.05, 0.3, 0.5, 0.95))


def test_weights(quick, made):
    for status, left in drill(quick, made, "import_weights"):
        assert status == 0 or not left


def test_a_training_goes_on_when_there_is_room(quick, made, tmp_path):
    """Refused at its start or in its middle, it is resumed and ends with the same bits."""
    assert call(*command("train", made, tmp_path / "whole")).returncode == 0
    for status, left in drill(quick, made, "train"):
        if status == 2:
            again = ("train", "--resume", quick.path / "out", *DEVICE)
            if "out/config.json" not in left:
                again = command("train", made, quick.path / "out")
            status, told = quick.run(*again)
            assert status == 0, told
            assert_same_run(quick.seen / "out", tmp_path / "whole")


def test_what_is_there_stays(quick, made):
    """Programs that write into a run: its files are as they were where there is no room for others."""
    run, store = quick.path / "run", made / "store.h5"
    assert quick.run("train", "--arch", "cap-mini", "--data", store, *SHORT, "--out", run)[0] == 0
    assert quick.run("evaluate", run, store, *DEVICE)[0] == 0
    before = quick.files()
    for program, arguments in (("evaluate", (run, store)), ("train", ("--resume", run))):
        filler = quick.fill(0)
        status, told = quick.run(program, *arguments, *DEVICE)
        filler.unlink()
        assert status == 2 and "No space left" in refused(told, program)
        assert quick.files() == before
        quick.read_only(True)
        status, told = quick.run(program, *arguments, *DEVICE)
        quick.read_only(False)
        assert status == 2 and "Read-only" in refused(told, program)
        assert quick.files() == before
    shutil.rmtree(quick.seen / "run")


@pytest.mark.drill
@pytest.mark.parametrize(
    "kind", ["simulate", "explain", "view", "audit", "invariance", "perturb", "reproduce"]
)
def test_more_files(slow, made, kind):
    pytest.importorskip("matplotlib")
    for status, left in drill(slow, made, kind):
        if kind == "simulate" and status == 2:
            assert all(".part/" in one for one in left)
            status, told = slow.run(*command(kind, made, slow.path / "out"))
            assert status == 0, told
