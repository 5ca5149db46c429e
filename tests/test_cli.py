"""What every program does: when it is told to stop, what it tells and where, names that are misspelt."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from programs import ENVIRONMENT, make_run, toy_arrays

from rotinv import __version__, cli, pack
from rotinv.__main__ import PROGRAMS

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


# What is told, and how.


def rotinv(*arguments, env=ENVIRONMENT):
    """The console script, finished."""
    command = [sys.executable, "-m", "rotinv", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_the_version():
    for arguments in (["--version"], ["score", "--version"]):
        done = rotinv(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"rotinv {__version__}\n", "")


@pytest.mark.parametrize("program", ["evaluate", "train", "score"])
def test_help_shows_no_empty_default(program):
    text = rotinv(program, "--help").stdout
    assert "(default: " in text and not re.search(r"\(default: (\[\]|\(\)|None)\)", text)


def test_a_hyphen_is_as_good_as_an_underscore(tmp_path):
    options = (tmp_path / "none.avro", "--out", tmp_path / "a.h5")
    hyphen, underscore = rotinv("import-alerts", *options), rotinv("import_alerts", *options)
    assert hyphen.returncode == underscore.returncode == 2
    assert hyphen.stderr == underscore.stderr and "none.avro" in hyphen.stderr


@pytest.mark.parametrize(
    "arguments, meant",
    [
        (["scroe"], "score"),
        (["import-alert"], "import_alerts"),
        (["score", "run", "stamps.npz", "--at-fprr", "0.1"], "--at-fpr"),
        (["train", "--archh=cap"], "--arch"),
        (["train", "--device", "cuba"], "cuda"),
        (["train", "--arch", "deephit", "--data", "none.h5"], "deephits"),
        (["explain", "run", "stamps.npz", "--method", "gradiant"], "gradient"),
    ],
)
def test_a_slip_of_the_pen(arguments, meant):
    done = rotinv(*arguments)
    assert done.returncode == 2 and f"(did you mean {meant}?)" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_and_options_in_the_wrong_place():
    assert rotinv("help").stdout == rotinv("--help").stdout != ""
    done = rotinv("--quiet", "score", "run", "stamps.npz")
    assert done.returncode == 2 and "--quiet: options come after the program's name" in done.stderr


def test_a_word_that_is_like_none_gets_no_suggestion():
    done = rotinv("zzz")
    assert done.returncode == 2 and "did you mean" not in done.stderr and "score" in done.stderr


TALKS = """
import logging, sys, warnings
from rotinv import cli
from rotinv.system import messages
from rotinv.system.errors import UserError

def main():
    options = cli.Parser("talk", "Talk.").parse_args()
    assert not vars(options), options
    cli.note("a note")
    cli.warn("a doubt")
    logging.getLogger("rotinv.some.module").debug("a detail")
    for _ in range(2):
        messages.once(logging.getLogger("rotinv.some.module"), "said once")
    warnings.warn("another library's")
    print("the result")
    raise UserError("stamps.h5: no such file")

cli.run("talk", main)
"""


@pytest.mark.parametrize(
    "options, shown",
    [
        ([], ["a note", "warning: a doubt", "warning: said once"]),
        (["--quiet"], ["warning: a doubt", "warning: said once"]),
        (
            ["--verbose"],
            [
                "a note",
                "warning: a doubt",
                "rotinv.some.module: a detail",
                "warning: said once",
                "another library's",
            ],
        ),
    ],
)
def test_how_much_is_told(tmp_path, options, shown):
    command = [sys.executable, "-c", TALKS, *options, "--log", "all.txt"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "the result\n")
    *told, last = done.stderr.splitlines()
    told = [line for line in told if not line.startswith(" ")]  # a warning's line of source
    assert len(told) == len(shown) and all(map(str.__contains__, told, shown)), told
    assert last == "rotinv talk: stamps.h5: no such file"
    log = (tmp_path / "all.txt").read_text(encoding="utf-8")
    assert f"rotinv talk {__version__}" in log.splitlines()[0]
    for word in ("a note", "a doubt", "a detail", "another library's", "no such file"):
        assert len(re.findall(rf"^20\d\d-.*{word}", log, re.MULTILINE)) == 1, word


def test_the_log_is_added_to_and_keeps_a_traceback(tmp_path):
    fails = TALKS.replace('raise UserError("stamps.h5: no such file")', "1 / 0")
    for _ in range(2):
        command = [sys.executable, "-c", fails, "--log", "all.txt"]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("ZeroDivisionError") == 1
    assert (tmp_path / "all.txt").read_text(encoding="utf-8").count("ZeroDivisionError: division") == 2


def test_a_log_that_cannot_be_written(tmp_path):
    done = rotinv("architectures", "cap", "--log", tmp_path / "none" / "all.txt")
    assert done.returncode == 2 and "all.txt: cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Streams.


HELP = """
import importlib, sys
from rotinv import cli

def main():
    for name in sys.argv[1:]:
        try:
            importlib.import_module(f"rotinv.{name}").main(["--help"])
        except SystemExit as end:
            assert end.code == 0
    return 0

cli.run("help", main)
"""


def test_help_in_an_encoding_without_greek():
    command = [sys.executable, "-c", HELP, *PROGRAMS]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("usage: ") == len(PROGRAMS), done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams(tmp_path, closed):
    np.savez(tmp_path / "toy.npz", **toy_arrays(20))
    run = make_run(tmp_path / "run", "cap-mini", channels=["difference"])
    command = f"'{sys.executable}' -m rotinv score '{run}' toy.npz --device reference --out s.csv {closed}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 21


def test_a_table_on_standard_output_is_utf_8_everywhere(tmp_path):
    run, alerts = (
        make_run(tmp_path / "run", "cap-mini", size=21, channels=["difference"]),
        tmp_path / "a.parquet",
    )
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    planes = np.random.default_rng(0).normal(size=(2, 21, 21)).tolist()
    columns = {name: planes for name in ("template", "science", "difference")}
    parquet.write_table(pa.table({**columns, "object_id": ["a", "λ Cep"]}), alerts)
    for encoding in ("latin-1", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-m", "rotinv.score", str(run), str(alerts), "--device", "reference"],
            env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
            capture_output=True,
        )
        assert done.returncode == 0 and "λ Cep" in done.stdout.decode("utf-8"), done.stderr


def test_a_notebooks_backend_that_is_not_here(tmp_path):
    pytest.importorskip("matplotlib")
    np.savez(tmp_path / "toy.npz", **toy_arrays(20))
    run = make_run(tmp_path / "run", "cap-mini", channels=["difference"])
    done = rotinv(
        *("explain", run, tmp_path / "toy.npz", "--index", 1, "--device", "reference"),
        *("--out", tmp_path / "fig.png"),
        env={**ENVIRONMENT, "MPLBACKEND": "module://not_here.backend"},
    )
    assert done.returncode == 0 and (tmp_path / "fig.png").exists(), done.stderr


# A signal that the shell ignores, as of a script's background job.


def test_an_ignored_sigint_stops_no_training(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    assert (
        pack.main([str(tmp_path / "toy.npz"), "--out", str(tmp_path / "toy.h5"), "--channels", "difference"])
        == 0
    )
    options = ("--data", tmp_path / "toy.h5", "--arch", "cap-mini", "--batch", 4, "--device", "reference")
    command = [sys.executable, "-m", "rotinv.train", *map(str, options)]
    command += ["--iterations", "200000", "--validate-every", "5", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        command,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        try:
            assert "iteration" in next(line for line in process.stderr if "validation error" in line)
            process.send_signal(signal.SIGINT)
            for _ in range(3):  # it goes on
                assert "iteration" in next(line for line in process.stderr if "validation error" in line)
            process.send_signal(signal.SIGTERM)
            left = process.stderr.read()
            assert process.wait(60) == 130 and "stopped at iteration" in left and "--resume" in left
        finally:
            process.kill()


def test_who_interrupts_what_can_be_repeated_is_told_so(tmp_path):
    repeats = "import time\nfrom rotinv import cli\n\ndef main():\n    with cli.goes_on_when_repeated():\n"
    repeats += "        print('begun', flush=True)\n        time.sleep(60)\n\ncli.run('simulate', main)\n"
    with subprocess.Popen(
        [sys.executable, "-c", repeats],
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (
        130,
        "rotinv simulate: interrupted; the same command goes on from here\n",
    )


def test_a_command_that_is_shown_can_be_pasted():
    assert cli.command("train", "--resume", "my run") == "rotinv train --resume 'my run'"


SWALLOWED = """
import signal, sys, threading, time
from rotinv import cli

start, sent = threading.Timer.start, []

def start_slowly(self):
    if not sent:  # on a busy machine the next signal comes before the thread has started
        sent.append(NUMBER)
        signal.raise_signal(NUMBER)
    start(self)

threading.Timer.start = start_slowly

class Dies:
    def __del__(self):
        signal.raise_signal(NUMBER)

def main():
    Dies()  # what is raised as it goes is swallowed
    time.sleep(10 * 60)
    return 0

cli.run("sleep", main)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_is_swallowed_comes_again(number, status):
    """And at once, although the program waits for something."""
    program = SWALLOWED.replace("NUMBER", str(int(number)))
    done = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status and len(done.stderr.splitlines()) == 1, done.stderr
