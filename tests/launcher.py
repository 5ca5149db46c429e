"""A process that has the programs loaded, and forks a process for each command: a start takes milliseconds.

The fork runs what `python -m rotinv.PROGRAM` runs. It can be told to kill itself at its n-th change of the
file system: at these moments a kill matters most, and a kill by the clock seldom meets them. With `disk`, the
process has a mount namespace of its own, in which a folder can be a small or a read-only disk.

It can also run a program itself, thousands of times, until one crashes it or does not end.
"""

import atexit
import contextlib
import faulthandler
import importlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from programs import ENVIRONMENT, call

PATIENCE = 600  # seconds of a busy machine
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")  # audit events of Python
NAMESPACE = (
    ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
)


class Launcher:
    """The parent's end; a context manager. A program's name with - before it is a package to be absent."""

    def __init__(self, programs, disk=False, stderr=None, cwd=None):
        self._process = subprocess.Popen(
            [*(NAMESPACE if disk else []), sys.executable, __file__, *programs],
            env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
        )
        assert self._answer(PATIENCE) == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, program, *arguments, told, **more):
        """Start a program whose output goes to the file `told`; see `_run` for what else it can be told."""
        self._tell(program=program, arguments=[str(one) for one in arguments], told=str(told), **more)
        return Started(self, int(self._answer(PATIENCE)))

    def run(self, program, *arguments, told, **more):
        """Run a program to its end; returns its status."""
        return self.start(program, *arguments, told=told, **more).wait(PATIENCE)

    def shell(self, *command):
        """Run a command where the programs run; gives its status."""
        self._tell(shell=[str(one) for one in command])
        return int(self._answer(PATIENCE))

    def call(self, program, *arguments, seconds):
        """Run a program in the launcher itself, for at most so many seconds of a processor.

        Gives its status and what it told, or (None, "crashed")
        or (None, "hung"): the launcher is no more then, and where it was is on its standard error."""
        self._tell(call=program, arguments=[str(one) for one in arguments])
        until = processor_seconds(self._process.pid) + seconds
        deadline = time.monotonic() + 30 * seconds  # it may wait for something, on a busy machine
        while (found := self._answer(0.5)) is None:
            if processor_seconds(self._process.pid) > until or time.monotonic() > deadline:
                self._process.send_signal(signal.SIGABRT)
                break
        if found:
            return tuple(json.loads(found))
        self._process.wait()
        return None, "hung" if found is None else "crashed"

    def place(self, path):
        """A path as the programs have it, for this process to look at."""
        return Path(f"/proc/{self._process.pid}/root{Path(path).resolve()}")

    def _tell(self, **what):
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, seconds):
        """The next line, or None."""
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        return self._process.stdout.readline().decode().strip()


class Started:
    """A program under way."""

    def __init__(self, launcher, pid):
        self._launcher, self._pid = launcher, pid

    def wait(self, seconds):
        """The status when it ends (-N: killed by signal N), or None after so many seconds."""
        found = self._launcher._answer(seconds)
        return None if found is None else int(found)

    def kill_after(self, seconds):
        """Kill it when it has used so many seconds of a processor; gives the status."""
        while processor_seconds(self._pid) < seconds:
            if (status := self.wait(0.001)) is not None:
                return status
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        return self.wait(PATIENCE)


def processor_seconds(pid):
    """What a process has used of the processors; infinite where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _serve():
    """The launcher's whole life: a command a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    print("ready", file=answers)
    for line in sys.stdin:
        what = json.loads(line)
        if "shell" in what:
            print(subprocess.run(what["shell"], stdout=subprocess.DEVNULL).returncode, file=answers)
        elif "call" in what:
            done = call(what["call"], *what["arguments"])
            print(json.dumps([done.returncode, done.stderr]), file=answers)
        else:
            pid = os.fork()
            if not pid:
                _run(**what)
            print(pid, file=answers)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers)


def _run(program, arguments, told, prepare="", point=None, folder=""):
    """In a fork: run a program and end.

    `prepare` is run first; `point` is the change below `folder` to die at, or -1 to count them.
    """
    from rotinv import cli

    os.setsid()
    output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    exec(prepare)
    if point is not None:
        _die_at(point, folder)
    cli.run(program, lambda: importlib.import_module(f"rotinv.{program}").main(arguments))


def _die_at(point, folder):
    changes, began = 0, time.process_time()

    def changed(event, arguments):
        nonlocal changes
        if event not in CHANGES or not str(arguments[0]).startswith(folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if changes == point:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1

    def tell():
        print(json.dumps({"changes": changes, "seconds": time.process_time() - began}), flush=True)

    sys.addaudithook(changed)
    if point < 0:
        atexit.register(tell)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if name.startswith("-"):
            sys.modules[name[1:]] = None  # as if it were not installed
        else:
            importlib.import_module(f"rotinv.{name}")
    _serve()
