"""Running the programs as a user does, and small data to run them on."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from rotinv.runs.folder import Config
from rotinv.runs.model import write_weights
from rotinv.stamps.classes import TWO
from rotinv.system.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PATHS = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}


def run(*arguments, **options):
    """A finished `python -m rotinv.…`, its output as text."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, **options)


def command(program, *arguments):
    return [sys.executable, "-m", f"rotinv.{program}", *map(str, arguments)]


def call(program, *arguments):
    """Run a program in this process, which is quicker: its status, and what it printed."""
    main = importlib.import_module(f"rotinv.{program}").main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except UserError as error:
            print(f"rotinv {program}: {error}", file=sys.stderr)
            status = 2
        except SystemExit as error:
            status = error.code
    return subprocess.CompletedProcess([program, *arguments], status, out.getvalue(), err.getvalue())


def assert_refused(result, *words):
    """The program ended with status 2 and one line on standard error that has all these words."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def toy_arrays(n=300, side=13, channels=1, seed=0):
    """Stamps of noise, half of them with a star in the middle."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    reach = side // 2
    y, x = np.mgrid[-reach : side - reach, -reach : side - reach]
    star = 6 * np.exp(-(y**2 + x**2) / 4)[:, :, None]
    stamps = rng.normal(size=(n, side, side, channels)) + label[:, None, None, None] * star
    return {
        "stamps": stamps.astype(np.float32),
        "label": label,
        "snr": rng.uniform(5, 50, n).astype(np.float32),
    }


def toy_store(folder, n=300):
    """A stamp store of toy_arrays, folder/toy.h5."""
    np.savez(folder / "toy.npz", **toy_arrays(n))
    done = call("pack", folder / "toy.npz", "--out", folder / "toy.h5", "--channels", "difference")
    assert done.returncode == 0, done.stderr
    return folder / "toy.h5"


def make_run(
    folder,
    arch="cap",
    seed=0,
    size=13,
    channels=("difference",),
    value=None,
    crop=None,
    change=None,
    classes=TWO,
):
    """The folder of a run of random weights, or of weights that are all `value`.

    `change` is a function of the network's arrays that changes them in place.
    """
    config = Config(arch=arch, size=size, channels=list(channels), crop=crop, classes=classes)
    network = config.network()
    params = network.initial("he", seed) if value is None else np.full(network.size, value)
    if change:
        change(network.views(params))
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, config, params)
    return folder
