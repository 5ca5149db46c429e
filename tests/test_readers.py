"""Processes that read alerts ahead: the same blocks in order, the same words, and none that is left."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from alert_packets import ZTF, sky, write_avro, ztf
from programs import ENVIRONMENT, call, command, make_run

from rotinv.alerts.avro import AvroFile
from rotinv.alerts.files import Alerts, raw_blocks
from rotinv.catalogue import readers
from rotinv.catalogue.readers import default_readers, read_ahead
from rotinv.system.errors import UserError


class Deadly(AvroFile):
    """A file at whose alerts the process dies, as one does that has taken too much memory."""

    def packets(self, start, stop):
        os.kill(os.getpid(), signal.SIGKILL)


def night(folder, count=40):
    """Three files of alerts, of which the second has a damaged alert in its middle."""
    for part in range(3):
        records = [
            ztf(f"ZTF26aaaaa{chr(97 + i % 26)}", 1000 * part + i + 1, sky(63, i)) for i in range(count)
        ]
        write_avro(folder / f"{part}.avro", ZTF, records, sync_interval=1)
    data = bytearray((folder / "1.avro").read_bytes())
    middle = data.index(b"\x1f\x8b", len(data) // 2)
    data[middle + 300 : middle + 310] = bytes(10)
    (folder / "1.avro").write_bytes(data)
    return [folder / f"{part}.avro" for part in range(3)]


def joined(blocks):
    """All blocks as one: first number, stamps, flags, ids."""
    first, stamps, flags, known = zip(*blocks, strict=True)
    ids = np.concatenate([one["candidate_id"] for one in known])
    return first[0], np.concatenate(stamps), np.concatenate(flags), ids.tolist()


@pytest.mark.parametrize("count", [1, 3])
def test_processes_read_what_a_thread_reads_in_order(tmp_path, monkeypatch, count):
    paths = night(tmp_path)
    here, there = Alerts(paths), Alerts(paths)
    wanted = joined(raw_blocks(here, 5, 117, 21))
    monkeypatch.setattr(readers, "BLOCK", 7)
    found = list(read_ahead(there, 5, 117, 21, count))
    assert [block[0] for block in found] == list(range(5, 117, 7))
    for one, other in zip(joined(found), wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (
        there.problems == here.problems and len(here.problems) == 1 and "1.avro: alert 2" in here.problems[0]
    )
    assert not multiprocessing.active_children()


def test_reading_that_is_given_up_leaves_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 4)
    blocks = read_ahead(Alerts(night(tmp_path)), 0, 120, 21, 2)
    assert next(blocks)[0] == 0 and multiprocessing.active_children()
    blocks.close()
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 10)
    files = Alerts(night(tmp_path))
    files.files[2].__class__ = Deadly
    blocks = read_ahead(files, 0, 120, 21, 1)
    with pytest.raises(UserError, match=r"0\.avro: a process that read alerts has died .*--readers"):
        list(blocks)
    assert not multiprocessing.active_children()


def test_few_alerts_and_few_cores_have_no_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(9), raising=False)
    assert (default_readers(100_000), default_readers(19_999)) == (2, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3), raising=False)
    assert default_readers(100_000) == 0


def test_a_catalogue_by_processes_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 50)
    run, paths = make_run(tmp_path / "run", "cap-mini"), night(tmp_path)
    for count in (0, 2):
        options = ["--readers", count, "--out", tmp_path / f"{count}.csv"]
        done = call("score", run, *paths, *options)
        assert done.returncode == 0 and "1.avro: alert 2" in done.stderr
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


@pytest.mark.drill
def test_ctrl_c_while_processes_read_leaves_nothing(tmp_path):
    run = make_run(tmp_path / "run", "cap-mini")
    records = [ztf(f"ZTF26aaaaa{chr(97 + i % 26)}", i + 1, sky(63, i)) for i in range(40)] * 100
    write_avro(tmp_path / "night.avro", ZTF, records)
    before = set(tmp_path.iterdir())
    arguments = command("score", run, tmp_path / "night.avro", "--readers", 2, "--out", tmp_path / "o.csv")
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin += f"import runpy, sys; sys.argv[:] = {['score', *arguments[3:]]!r}; "
    begin += "runpy.run_module('rotinv.score', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", begin], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    while len(children(process.pid)) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = children(process.pid)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert set(tmp_path.iterdir()) == before
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def children(pid):
    """The processes that a process has started, by Linux's account."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs Linux's /proc")
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            found += [int(path.parent.name)] if int(parent) == pid and state != "Z" else []
    return found


def alive(pid):
    return Path(f"/proc/{pid}").exists()
