"""A pipeline on a Dask cluster of two processes: as on this machine's, also when a worker is killed."""

import functools
import os
import signal

import pytest
from programs import assert_refused, call, toy_store
from test_pipeline import Watch, die, fail, refuse, slow_count, steps

from rotinv.system import dask_crew, pipeline
from rotinv.system.errors import UserError
from rotinv.system.pipeline import Step

pytest.importorskip("distributed")


def run(cluster, folder, of):
    watch = Watch()
    pipeline.run(folder, of, functools.partial(dask_crew.employ, cluster.scheduler_address), watch)
    return watch


def die_once(folder, progress):
    """Kill the worker half-way, the first time."""
    progress(0.5)
    if not (folder / "died").exists():
        (folder / "died").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "lived.txt").write_text(f"after {(folder / 'died').read_text() != str(os.getpid())}")


def test_steps_are_done_by_the_workers(cluster, tmp_path):
    watch = run(cluster, tmp_path, steps(tmp_path))
    assert sorted(watch.names) == ["one", "side", "three", "two"]
    assert (tmp_path / "three.txt").read_text() == "caba"
    assert watch.worked == pytest.approx(4)
    pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert pids <= {str(worker.pid) for worker in cluster.workers.values()}
    assert run(cluster, tmp_path, steps(tmp_path)).names == []


def test_the_share_that_is_done_is_told(cluster, tmp_path):
    shares = []

    class Shares(Watch):
        def moved(self, worked, busy):
            shares.append(worked)

    of = [Step("count", functools.partial(slow_count, tmp_path, "count", 40), {}, ("count",))]
    pipeline.run(tmp_path, of, functools.partial(dask_crew.employ, cluster.scheduler_address), Shares())
    assert sum(shares) == pytest.approx(1) and len(shares) > 5


def test_a_worker_that_is_killed_costs_its_step_only(cluster, tmp_path):
    of = [Step("dies", functools.partial(die_once, tmp_path), {}, ("lived.txt",)), *steps(tmp_path)]
    assert sorted(run(cluster, tmp_path, of).names) == ["dies", "one", "side", "three", "two"]
    assert (tmp_path / "lived.txt").read_text() == "after True"


@pytest.mark.parametrize(
    "task, error, words",
    [
        (refuse, UserError, "the sky fell"),
        (fail, RuntimeError, "a bug"),
        (die, UserError, "bad: its worker died again and again"),
    ],
)
def test_what_a_step_raises_is_raised(cluster, tmp_path, task, error, words):
    with pytest.raises(error, match=words):
        run(cluster, tmp_path, [Step("bad", task, {}, ("bad.txt",))])


def test_a_wrong_address_is_told(tmp_path):
    arguments = "reproduce", "--scale", "smoke", "--out", tmp_path / "out", "--dask"
    assert_refused(call(*arguments, "local:none"), "local:none", "local:2")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_trials_are_the_same_bits_on_a_cluster(cluster, tmp_path, monkeypatch):
    """Scores and Table II of trials on the cluster are those of this machine's processes."""
    from test_reproduce import TINY

    from rotinv.paper import scales

    store = toy_store(tmp_path)
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)
    arguments = "--scale", "smoke", "--data", store, "--trials", 1, "--only", "table2", "--out"
    here, there = tmp_path / "here", tmp_path / "there"
    assert call("reproduce", *arguments, here).returncode == 0
    assert call("reproduce", *arguments, there, "--dask", cluster.scheduler_address).returncode == 0
    names = sorted(path.relative_to(here) for path in here.glob("scores/*.h5"))
    assert len(names) == 3
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert (here / "sheets/table2.txt").read_bytes() == (there / "sheets/table2.txt").read_bytes()
