"""Whole programs: how long until they start to work, how long in all, and how much memory they take."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rotinv.stamps.store import CHANNELS, create_store

ROOT = Path(__file__).resolve().parents[1]


def make_store(path: Path, train: int, test: int) -> Path:
    """A store of noise stamps of 21x21, every second one with a star."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-10:11, -10:11]
    star = np.float32(6 * np.exp(-(y**2 + x**2) / 4))[:, :, None]
    with create_store(path, channels=CHANNELS, size=21, kinds=[], normalisation="minmax") as writer:
        for name, count in (("train", train), ("validate", 100), ("test", test)):
            for start in range(0, count, 1000):
                n = min(1000, count - start)
                label = np.arange(n) % 2
                stamps = rng.normal(size=(n, 21, 21, 4)).astype(np.float32)
                writer.append(name, stamps + label[:, None, None, None] * star, label=label)
    return path


def run(arguments: list[str], cache: Path | None = None, until: str = "") -> dict:
    """Run `python -m rotinv.ARGUMENTS`: seconds in all, seconds to the line with `until`, and most memory in
    MB.

    `cache` is the folder of compiled kernels; by default it is the machine's own, which is filled after a
    first run.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        measured = [sys.executable, str(Path(__file__).with_name("measured.py")), str(peak), *arguments]
        started, reached, said = time.perf_counter(), None, []
        process = subprocess.Popen(
            measured, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for line in process.stdout:
            said.append(line)
            if reached is None and until and until in line:
                reached = time.perf_counter() - started
        if process.wait():
            raise RuntimeError(f"{arguments} ended with status {process.returncode}: {''.join(said[-5:])}")
        return {
            "operation": " ".join(Path(word).name if os.sep in word else word for word in arguments),
            "seconds": time.perf_counter() - started,
            "to_first_step": reached,
            "memory_mb": float(peak.read_text(encoding="utf-8")),
        }
