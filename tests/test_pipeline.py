"""Pipelines of resumable steps: order, hashes, failures, kills."""

import functools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import ENVIRONMENT
from tqdm import tqdm

from rotinv.system import locks, pipeline
from rotinv.system.errors import UserError
from rotinv.system.pipeline import Book, Step
from rotinv.system.workers import employ

HERE = Path(__file__).resolve().parent


def join(folder, output, inputs, text, progress):
    """Write `text` and what the inputs hold."""
    progress(0.5)
    whole = text + "".join((folder / name).read_text() for name in inputs)
    (folder / output).write_text(whole)
    with (folder / "log").open("a") as log:
        log.write(f"{output} {os.getpid()}\n")


def slow_count(folder, output, last, progress):
    """Count to `last`, a number at a time, from where it was."""
    path = folder / output
    at = int(path.read_text()) if path.exists() else 0
    while at < last:
        time.sleep(0.005)
        at += 1
        with (folder / f"{output}.log").open("a") as log:
            log.write(f"{at}\n")
        part = folder / f".{output}.x.part"
        part.write_text(str(at))
        part.replace(path)
        progress(at / last)


def refuse(progress):
    raise UserError("the sky fell")


def fail(progress):
    raise ZeroDivisionError("a bug")


def die(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def add(folder, name, text, *needs, files=(), **more):
    task = functools.partial(join, folder, f"{name}.txt", [f"{need}.txt" for need in needs], text)
    return Step(name, task, {"text": text}, (f"{name}.txt",), needs, files, **more)


def steps(folder, middle="b"):
    return [
        add(folder, "one", "a"),
        add(folder, "two", middle, "one"),
        add(folder, "side", "s"),
        add(folder, "three", "c", "one", "two"),
    ]


class Watch:
    def __init__(self):
        self.names, self.worked = [], 0.0

    def moved(self, worked, busy):
        self.worked += worked

    def ended(self, step, seconds, done):
        self.names.append(step.name)


def run(folder, of, workers=1):
    watch = Watch()
    pipeline.run(folder, of, functools.partial(employ, workers, 1), watch)
    return watch


def test_each_step_is_done_once_after_what_it_needs(tmp_path):
    watch = run(tmp_path, steps(tmp_path), workers=2)
    assert sorted(watch.names) == ["one", "side", "three", "two"]
    assert (tmp_path / "three.txt").read_text() == "caba"
    assert watch.worked == pytest.approx(4)
    assert str(os.getpid()) not in (tmp_path / "log").read_text()
    again = run(tmp_path, steps(tmp_path))
    assert (again.names, again.worked) == ([], 0)


def test_what_changed_is_done_again_with_all_that_needs_it(tmp_path):
    run(tmp_path, steps(tmp_path))
    assert sorted(run(tmp_path, steps(tmp_path, middle="B")).names) == ["three", "two"]
    assert (tmp_path / "three.txt").read_text() == "caBa"
    (tmp_path / "two.txt").write_text("spoiled")
    assert run(tmp_path, steps(tmp_path, middle="B")).names == ["two"]  # three's inputs are as they were
    (tmp_path / "side.txt").unlink()
    assert run(tmp_path, steps(tmp_path, middle="B")).names == ["side"]
    copy = tmp_path.parent / "copy"
    subprocess.run(["cp", "-r", tmp_path, copy], check=True)
    assert run(copy, steps(copy, middle="B")).names == []


def test_a_file_that_is_read_is_an_input(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "out"
    data.write_text("x")
    of = [add(folder, "one", "a", files=(data,))]
    folder.mkdir()
    assert run(folder, of).names == ["one"]
    os.utime(data)
    assert run(folder, of).names == []
    data.write_text("y")
    assert run(folder, of).names == ["one"]


def test_wanted_is_closed_under_needs(tmp_path):
    names = [step.name for step in pipeline.wanted(steps(tmp_path), ["two"])]
    assert names == ["one", "two"]


def test_a_record_cut_short_is_none(tmp_path):
    run(tmp_path, steps(tmp_path))
    record = tmp_path / "steps" / "side.json"
    record.write_text(record.read_text()[:20])
    assert run(tmp_path, steps(tmp_path)).names == ["side"]
    (tmp_path / "steps" / "files.json").write_text("{")
    assert run(tmp_path, steps(tmp_path)).names == []


@pytest.mark.parametrize(
    "task, error, words",
    [
        (refuse, UserError, "bad: the sky fell"),
        (fail, RuntimeError, "ZeroDivisionError: a bug"),
        (die, UserError, "bad: its process ended with status -9"),
    ],
)
def test_a_step_that_fails_ends_the_run_and_keeps_the_others(tmp_path, task, error, words):
    of = [*steps(tmp_path), Step("bad", task, {}, ("bad.txt",), needs=("three",))]
    with pytest.raises(error, match=words):
        run(tmp_path, of)
    assert pipeline.finished(Book(tmp_path), of) == {"one", "two", "side", "three"}
    assert not multiprocessing.active_children()


def counting(folder, last=150):
    def share():
        path = folder / "count"
        return int(path.read_text()) / last if path.exists() else 0.0

    task = functools.partial(slow_count, folder, "count", last)
    return [Step("count", task, {"last": last}, ("count",), begun=share, work=10.0)]


def test_a_step_that_goes_on_is_not_begun_anew_with_other_inputs(tmp_path):
    (tmp_path / "count").write_text("140")
    watch = run(tmp_path, counting(tmp_path))
    assert watch.worked == pytest.approx(10 * 10 / 150)
    assert (tmp_path / "count.log").read_text().split() == [str(n) for n in range(141, 151)]
    with pytest.raises(UserError, match=r"changed since 'count' was begun; choose another --out"):
        run(tmp_path, counting(tmp_path, last=160))


def test_outputs_that_were_spoiled_after_the_end_are_told(tmp_path):
    """A step that goes on would find nothing to do, and what it left would pass for its output."""
    run(tmp_path, counting(tmp_path))
    (tmp_path / "count").write_text("149")
    with pytest.raises(UserError, match=r"count: is not as 'count' left it; remove .*count to have it made"):
        run(tmp_path, counting(tmp_path))
    (tmp_path / "count").unlink()
    assert run(tmp_path, counting(tmp_path)).names == ["count"]
    assert (tmp_path / "count").read_text() == "150"


def test_a_step_that_starts_processes_itself_is_done_here(tmp_path):
    of = [add(tmp_path, "one", "a", alone=True), add(tmp_path, "two", "b", "one")]
    run(tmp_path, of)
    pids = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert pids[0] == str(os.getpid()) != pids[1]


def test_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_PATIENCE", 0.2)
    (tmp_path / "steps").mkdir()
    with locks.held(tmp_path / "steps"):
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* is at work in it"):
            run(tmp_path, steps(tmp_path))
    run(tmp_path, steps(tmp_path))


def other_process(folder, last=150):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_pipeline as t; from pathlib import Path;"
    code += "folder = Path(sys.argv[2]);"
    code += "t.run(folder, t.counting(folder, int(sys.argv[3])) + t.steps(folder), 2)"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(HERE), str(folder), str(last)],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )


def counted_to(folder):
    return int((folder / "count").read_text()) if (folder / "count").exists() else 0


@pytest.mark.drill
def test_killed_at_random_it_goes_on(tmp_path, kills):
    """Every number is counted once and in order, however often the run is killed."""
    rng, killed, last = random.Random(7), 0, 40 * kills
    for _ in range(kills):
        process = other_process(tmp_path, last)
        until = counted_to(tmp_path) + rng.randrange(40)
        while process.poll() is None and counted_to(tmp_path) < until:
            time.sleep(0.001)
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert other_process(tmp_path, last).wait(600) == 0
    counted = [int(line) for line in (tmp_path / "count.log").read_text().split()]
    assert killed == kills
    assert set(counted) == set(range(1, last + 1))
    assert counted == sorted(counted)  # a number may come twice: logged, and not yet counted
    assert len(counted) <= last + kills
    assert (tmp_path / "three.txt").read_text() == "caba"
    assert not list(tmp_path.rglob("*.part"))


def make_a_lock(folder, progress):
    """As tqdm does when it is first used."""
    global _lock
    _lock = multiprocessing.get_context("spawn").RLock()
    (folder / "lock.txt").write_text("made")


def test_workers_leave_no_semaphore_behind(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_pipeline as t; from pathlib import Path;"
    code += "import functools; f = Path(sys.argv[2]); task = functools.partial(t.make_a_lock, f);"
    code += "t.run(f, [t.Step('lock', task, {}, ('lock.txt',))])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(HERE), str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_workers_of_a_killed_run_end_too(tmp_path):
    process = other_process(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "count").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(0.5)
    seen = (tmp_path / "count").read_text()
    time.sleep(0.3)
    assert (tmp_path / "count").read_text() == seen


BUSY = """
import functools, sys
sys.path.insert(0, {here!r})
from rotinv.system.workers import employ
from test_pipeline import draw_a_bar

if __name__ == "__main__":
    with employ(1, 1, functools.partial(int)) as crew:
        crew.start("bar", draw_a_bar)
        list(crew.wait(60))
"""


def draw_a_bar(progress):
    """A task that is killed while it has a progress bar."""
    with tqdm(total=2, disable=True):
        progress(0.5)
        time.sleep(600)


def test_a_worker_that_is_killed_leaves_no_semaphore_to_be_complained_of(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY.format(here=str(HERE)))
    result = subprocess.run(
        [sys.executable, str(tmp_path / "busy.py")], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
