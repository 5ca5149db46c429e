"""Scoring on a Dask cluster: the bits of one process, also when a worker is killed in the middle."""

import contextlib
import os
import signal
import threading
import time
from types import SimpleNamespace

import h5py
import numba
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

from rotinv.catalogue import dask_worker
from rotinv.catalogue.scorer import Threshold
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import load_model

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A network, and 3,000 stamps of which one has no score."""
    folder = tmp_path_factory.mktemp("toy")
    arrays = toy_arrays(n=3000)
    arrays["stamps"][7, 2, 2] = np.nan
    np.savez(folder / "stamps.npz", **arrays)
    return make_run(folder / "run"), folder / "stamps.npz"


def score(toy, out, *options):
    result = call("score", *toy, "--out", out, "--on-bad", "flag", "--explain", "near-threshold", 5, *options)
    assert result.returncode == 0, result.stderr


def same(one, other):
    """The same catalogues, to the byte, and the same maps, to the bit."""
    assert one.read_bytes() == other.read_bytes()
    maps = [path.with_name(f"{path.stem}-maps.h5") for path in (one, other)]
    with h5py.File(maps[0]) as a, h5py.File(maps[1]) as b:
        for name in ("indices", "models/run/maps", "models/run/average", "models/run/logits"):
            np.testing.assert_array_equal(a[name], b[name])
    return True


def test_a_worker_that_is_killed_costs_nothing(toy, cluster, tmp_path):
    score(toy, tmp_path / "one.csv")
    first = {worker.pid for worker in cluster.workers.values()}
    killed = []

    def kill():
        """Once the first shards are there, a worker that is at work on the next."""
        while len(list(tmp_path.glob("two.csv.shards/*.h5"))) < 3:
            time.sleep(0.01)
        pid = next(iter(cluster.workers.values())).pid
        os.kill(pid, signal.SIGKILL)
        killed.append((pid, len(list(tmp_path.glob("two.csv.shards/*.h5")))))

    killer = threading.Thread(target=kill)
    killer.start()
    score(toy, tmp_path / "two.csv", "--dask", cluster.scheduler_address, "--shard", 50, "--threads", 1)
    killer.join()
    pid, shards = killed[0]
    assert pid in first and shards < 60
    assert same(tmp_path / "one.csv", tmp_path / "two.csv")
    assert not (tmp_path / "two.csv.shards").exists()


def test_a_run_that_is_cut_off_goes_on(toy, cluster, tmp_path):
    """Shards that are there already are not made again, unless they are of other stamps or networks."""
    score(toy, tmp_path / "one.csv")
    options = ("--dask", cluster.scheduler_address, "--shard", 1000, "--threads", 1)
    out = tmp_path / "two.csv"
    shards = tmp_path / "two.csv.shards"
    with contextlib.suppress(KeyboardInterrupt), interrupted_after(shards, 2):
        score(toy, out, *options)
    left = sorted(shards.glob("0*.h5"))
    assert len(left) >= 2 and not out.exists()
    with h5py.File(left[0], "r+") as file:
        file["rows/flags"][0] = 77  # a mark of the file
    with h5py.File(left[1], "r+") as file:
        file.attrs["about"] = "another run's"
        file["rows/flags"][0] = 77
    score(toy, out, *options)
    one, two = ((tmp_path / name).read_text().splitlines() for name in ("one.csv", "two.csv"))
    first = int(left[0].name[:12]) + 1  # below the header
    changed = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    assert changed == [first] and two[first] == one[first][:-1] + "77"


@contextlib.contextmanager
def interrupted_after(folder, count):
    """Ctrl-C once the folder has so many shards; again if Python had to swallow it (in a destructor)."""
    main, ended = threading.main_thread().ident, threading.Event()

    def interrupt():
        while len(list(folder.glob("0*.h5"))) < count:
            time.sleep(0.01)
        while not ended.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            ended.wait(0.05)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_local_processes_give_the_same(toy, tmp_path):
    score(toy, tmp_path / "one.csv")
    score(toy, tmp_path / "two.csv", "--dask", "local:2", "--shard", 1500, "--threads", 1)
    assert same(tmp_path / "one.csv", tmp_path / "two.csv")


def test_wrong_addresses_are_refused_in_one_line(toy, tmp_path):
    for address, word in (("local:0", "local:2"), ("local:x", "local:2")):
        result = call("score", *toy, "--out", tmp_path / "s.csv", "--on-bad", "flag", "--dask", address)
        assert_refused(result, address, word)
    assert_refused(call("score", *toy, "--on-bad", "flag", "--dask", "local:2"), "--out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("asked", "share", "taken"), [(None, 1, 1), (None, 999, None), (1, 2, 1)])
def test_a_worker_takes_its_share_of_the_cores(toy, asked, share, taken):
    """Workers of one machine must not each take all of its cores; a pool has no more than there are."""
    run, stamps = toy
    plugin = dask_worker.Plugin("cpu", asked, "fp32", [load_model(run)], Threshold(), None, [stamps], "test")
    plugin.setup(SimpleNamespace(state=SimpleNamespace(nthreads=share)))
    try:
        assert numba.get_num_threads() == (taken or numba.config.NUMBA_NUM_THREADS)
    finally:
        get_kernels("cpu")


def test_damaged_alerts_are_the_same_by_one_process_and_by_shards(cluster, tmp_path):
    """And those of a survey that the user describes: what is lost, and what is told of it."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from alert_packets import image_bytes, sky

    run = make_run(tmp_path / "run", size=21, channels=["template", "science", "difference"])
    ids = pa.array([b"%d" % i for i in range(29)] + ["\u00e9".encode("latin-1")], pa.binary()).buffers()
    columns = {name: [image_bytes(one)] * 30 for name, one in zip("tsd", sky(51), strict=True)}
    columns |= {
        "name": pa.StringArray.from_buffers(30, ids[1], ids[2]),
        "snr": ["7"] * 10 + ["?"] + ["8"] * 19,
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=8)
    profile = ["survey = 'x'", "template = 't'", "science = 's'", "difference = 'd'", "object_id = 'name'"]
    (tmp_path / "p.toml").write_text("\n".join([*profile, "snr = 'snr'", "side = 51"]))
    told = []
    for name, *options in (
        ("one",),
        ("two", "--dask", cluster.scheduler_address, "--shard", 7, "--threads", 1),
    ):
        out = ("--out", tmp_path / f"{name}.csv", "--profile", tmp_path / "p.toml")
        result = call("score", run, tmp_path / "a.parquet", *out, *options)
        assert result.returncode == 0, result.stderr
        told.append([line for line in result.stderr.splitlines() if "row " in line])
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert told[0] == told[1] and len(told[0]) == 2
    assert (tmp_path / "one.csv").read_text().count(",x,") == 30
