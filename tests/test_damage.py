"""Files cut off, with flipped bits and overwritten bytes: each is read, or refused in one line.

Every mutation goes through the program that reads such a file, in a process that may crash or hang. HDF5
itself does so for a few: those are counted, and held to what is in the library and not in rotinv.
"""

import re
import shutil
from collections import Counter

import numpy as np
import pytest
import python2_pickles as p2
from alert_packets import (
    RUBIN,
    ZTF,
    rubin,
    sky,
    write_avro,
    write_fits_images,
    write_fits_table,
    write_parquet,
    ztf,
)
from launcher import Launcher
from programs import call, make_run, toy_arrays
from test_import_hits import HOSTILE, columns

from rotinv.metrics import scores

SECONDS = 20  # after which a program that takes a fraction of one hangs
DEVICE = ("--device", "reference")
WEIGHTS = ("--out", "{out}", "--arch", "cap-mini", "--size", 13, "--channels", "difference")
SEED = 20181101


class Whole:
    """A folder of whole files, and how each is read: `{}` stands for the damaged one, or for its run."""

    def __init__(self, folder):
        self.folder = folder
        run, trained, store = folder / "run", folder / "trained", folder / "store.h5"
        short = ("--iterations", 4, "--validate-every", 2, "--batch", 5, *DEVICE)
        self._make_runs(run, trained, store, short)
        self._make_alerts()
        scores.write(folder / "scores.h5", scores.Scores(np.arange(30) % 2, np.linspace(0, 1, 30)))
        table = ("--out", "{out}.csv", *DEVICE)
        alert = ("import_alerts", "{}", "--out", "{out}.h5")
        hits = ("import_hits", "{}", "--out", "{out}.h5", "--split", "test")
        again = ("train", "--resume", "{}", *DEVICE)
        self.read = {
            "store: score": (store, ("score", run, "{}", *table)),
            "store: train": (
                store,
                ("train", "--arch", "cap-mini", "--data", "{}", "--out", "{out}", *short),
            ),
            "store of alerts": (folder / "alerts.h5", ("score", folder / "four", "{}", *table)),
            "best.h5": (run / "best.h5", ("score", "{}", store, *table)),
            "foreign weights": (folder / "weights.h5", ("import_weights", "{}", *WEIGHTS)),
            "last.h5": (trained / "last.h5", again),
            "history.csv": (trained / "history.csv", again),
            "config.json: score": (run / "config.json", ("score", "{}", store, *table)),
            "config.json: train": (trained / "config.json", again),
            "thresholds.json": (
                trained / "thresholds.json",
                ("score", "{}", store, "--at-fpr", 0.5, *table),
            ),
            "scores": (folder / "scores.h5", ("evaluate", "{}")),
            "npz": (folder / "stamps.npz", ("pack", "{}", "--out", "{out}.h5", "--channels", "difference")),
            "pickle": (folder / "chunk.pkl", hits),
            "hostile pickle": (folder / "hostile.pkl", hits),
            "avro": (folder / "a.avro", alert),
            "deflated avro": (folder / "deflated.avro", alert),
            "FITS images": (folder / "images.fits", alert),
            "FITS table": (folder / "table.fits", alert),
            "parquet": (folder / "table.parquet", alert),
        }

    def _make_runs(self, run, trained, store, short):
        make_run(run, "cap-mini")
        shutil.copy(run / "best.h5", self.folder / "weights.h5")
        np.savez(self.folder / "stamps.npz", **toy_arrays(n=300))
        self._do("pack", self.folder / "stamps.npz", "--out", store, "--channels", "difference")
        self._do("train", "--arch", "cap-mini", "--data", store, "--out", trained, *short)
        self._do("evaluate", trained, store, "--split", "train", "--fpr", 0.5, *DEVICE)

    def _make_alerts(self):
        folder, four = self.folder, ["template", "science", "difference", "snr_difference"]
        make_run(folder / "four", "cap-mini", channels=four)
        records = [ztf(f"Z{i}", i, sky(63, i)) for i in range(3)]
        self._do("import_alerts", write_avro(folder / "a.avro", ZTF, records),
                 "--out", folder / "alerts.h5", "--size", 13)  # fmt: skip
        packets = [rubin(i, sky(30, i), np.ones((30, 30))) for i in range(3)]
        write_avro(folder / "deflated.avro", RUBIN, packets, "deflate", 20_000)
        cutouts, variance = np.stack([sky(21, i) for i in range(3)]), np.ones((3, 21, 21))
        write_fits_images(folder / "images.fits", sky(30), np.ones((30, 30)))
        write_fits_table(folder / "table.fits", cutouts, variance, range(3))
        write_parquet(folder / "table.parquet", cutouts, variance, range(3))
        (folder / "chunk.pkl").write_bytes(p2.chunk(columns(6)))
        (folder / "hostile.pkl").write_bytes(p2.pickled(HOSTILE["os.system"][0]))

    def _do(self, *arguments):
        done = call(*arguments)
        assert done.returncode == 0, done.stderr

    def case(self, kind, here):
        """The command that reads a file of this kind in the folder `here`, and the file to damage there."""
        file, command = self.read[kind]
        if file.parent == self.folder:
            copy = named = here / file.name
        else:  # a run's: the run is copied with it
            named = here / file.parent.name
            shutil.copytree(file.parent, named)
            copy = named / file.name
        return [
            str(one).replace("{}", str(named)).replace("{out}", str(here / "out")) for one in command
        ], copy


def mutated(rng, data):
    """Cut off, bits flipped, bytes overwritten or zeroed, or a piece repeated; half of it in the headers."""
    data = bytearray(data)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 4096)
    at, length = int(rng.integers(reach)), int(rng.integers(1, 64))
    kind = rng.integers(5)
    if kind == 0:
        del data[int(rng.integers(len(data))) :]
    elif kind == 1:
        for place in rng.integers(reach, size=2 ** rng.integers(5)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        for place in rng.integers(reach, size=rng.integers(1, 6)):
            data[place] = rng.integers(256)
    elif kind == 3:
        data[at : at + length] = bytes(len(data[at : at + length]))
    else:
        data[at:at] = data[at : at + length]
    return bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Whole(tmp_path_factory.mktemp("whole"))


class Reader:
    """A launcher that is replaced when a file has brought it down."""

    def __init__(self, programs, folder):
        self._programs, self.folder, self._launcher = programs, folder, None

    def call(self, *command):
        """The outcome: read, refused, or what went wrong and where; and what was told."""
        path = self.folder / "stderr.txt"
        if self._launcher is None:
            with path.open("w") as file:
                self._launcher = Launcher(["-matplotlib", *self._programs], stderr=file, cwd=self.folder)
        status, told = self._launcher.call(*command, seconds=SECONDS)
        if status is None:
            self.close()
            told, status = path.read_text(), told
            what = "raised" if "Traceback" in told else "hung" if status == "hung" else "crashed"
            return f"{what} in {'HDF5' if in_hdf5(told) else 'rotinv'}", told
        if status == 0 and "Traceback" not in told:
            return "read", told
        one_line = told.count("\n") == 1 and told.startswith(f"rotinv {command[0]}: ")
        return "refused" if status == 2 and one_line else f"status {status}", told

    def close(self):
        if self._launcher is not None:
            self._launcher.__exit__()
        self._launcher = None


def in_hdf5(told):
    """Whether the innermost frame of what faulthandler told is h5py's."""
    frames = re.findall(r'^  File "(.+?)", line \d+ in ', told.rpartition("Current thread")[2], re.MULTILINE)
    return bool(frames) and "/h5py/" in frames[0]


@pytest.fixture(scope="module")
def reader(whole, tmp_path_factory):
    reader = Reader(
        sorted({command[0] for _, command in whole.read.values()}), tmp_path_factory.mktemp("read")
    )
    yield reader
    reader.close()


def drill(whole, reader, kind, count, folder):
    """Damage a file `count` times; gives how often what came of it. Files that came off badly are kept."""
    rng, found = np.random.default_rng([SEED, *kind.encode()]), Counter()
    original, here = whole.read[kind][0].read_bytes(), folder / "here"
    for number in range(count + 1):
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        command, file = whole.case(kind, here)
        file.write_bytes(mutated(rng, original) if number else original)
        outcome, told = reader.call(*command)
        if not number:  # the whole file is what the rest are held to
            assert outcome == ("refused" if "hostile" in kind else "read"), told
            continue
        found[outcome] += 1
        if outcome not in ("read", "refused"):
            shutil.copy(file, folder / f"{number}{file.suffix}")
            (folder / f"{number}.txt").write_text(f"{outcome}\n{told}")
        assert not (reader.folder / "hacked").exists()
    return found


def assert_harmless(found, kind, count):
    """Every file was read or refused. HDF5 2.0 itself hangs on one in some hundred: no Python can stop it."""
    ours = {outcome: n for outcome, n in found.items() if not outcome.endswith("in HDF5")}
    print(f"{kind}: {dict(found)}")
    assert set(ours) <= {"read", "refused"}, ours
    assert sum(ours.values()) >= 0.95 * count
    assert found["refused"]


KINDS = (
    "store: score, store: train, store of alerts, best.h5, foreign weights, last.h5, history.csv, "
    "config.json: score, config.json: train, thresholds.json, scores, npz, pickle, hostile pickle, avro, "
    "deflated avro, FITS images, FITS table, parquet"
).split(", ")


@pytest.mark.parametrize("kind", ["store: score", "best.h5", "config.json: score", "hostile pickle", "avro"])
def test_a_few_damaged_files(whole, reader, tmp_path, kind):
    assert_harmless(drill(whole, reader, kind, 40, tmp_path), kind, 40)


@pytest.mark.drill
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(whole, reader, tmp_path, kind, request):
    count = request.config.getoption("--mutations")
    assert_harmless(drill(whole, reader, kind, count, tmp_path), kind, count)


def test_every_kind_is_drilled(whole):
    assert set(KINDS) == set(whole.read)
