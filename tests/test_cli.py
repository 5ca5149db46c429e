"""What every program does when it is told to stop."""

import signal
import subprocess
import sys
import time

import pytest
from programs import ENVIRONMENT

PROGRAM = """
import sys, time
from rotinv import cli
from rotinv.system.files import written_whole

def main():
    with written_whole("out.txt") as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
    return 0

cli.run("sleep", main)
"""


@pytest.mark.parametrize(
    "number, status, word", [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_nothing_is_left_half_written(tmp_path, number, status, word):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == "writing\n"
    begin = time.perf_counter()
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (status, f"rotinv sleep: {word}\n")
    assert not list(tmp_path.iterdir())
    assert time.perf_counter() - begin < 20


IN_HDF5 = """
import signal
import numpy as np
from rotinv import cli
from rotinv.stamps.store import create_store
from rotinv.system import hdf5

write, sent = hdf5._Sink.write, []

def write_and_signal(self, data):
    if not sent:
        sent.append(signal.raise_signal(NUMBER))
    return write(self, data)

hdf5._Sink.write = write_and_signal

def main():
    block, label = np.ones((1024, 21, 21, 4), np.float32), np.ones(1024, int)
    with create_store("out.h5", channels="abcd", size=21) as writer:
        for _ in range(300):
            writer.append("train", block, label)
    return 0

cli.run("write", main)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_hdf5_writes_is_not_lost(tmp_path, number, status):
    """An exception raised in a call from HDF5 would be swallowed, and the store be finished."""
    program = IN_HDF5.replace("NUMBER", str(int(number)))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == status and len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())
