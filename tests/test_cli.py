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
from rotinv.files import written_whole

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
