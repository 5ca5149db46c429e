"""What does a user gain by labelling more? The test error against the number of stamps to train with.

    rotinv reproduce --scale tenth --out tenth
    python docs/pictures/what_data_buys.py tenth OUT

The networks of the reproduction are the last points: its survey has 100,000 stamps to train with. CAP and
Deep-HiTS are trained in the same way on the first 3,000, 10,000 and 30,000 of these, and tested on the same
stamps as those networks. OUT keeps what is done: the same command goes on. It ends with what_data_buys.png,
beside this file. Needs the extra `plot`.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rotinv import train
from rotinv.runs.folder import METRICS_FILE
from rotinv.stamps.splits import BLOCK
from rotinv.stamps.store import StampStore, create_store

FOLDER = Path(__file__).resolve().parent
# Error in percent by stamps: a random forest on 56 features of the real survey's stamps.
FOREST = {100: 5.5, 1_000: 2.9, 10_000: 1.8, 31_623: 1.5, 1_220_000: 1.02}
NAMES = {"cap": "CAP, simulated", "deephits": "Deep-HiTS, simulated"}


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "found.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    survey = options.reproduction / "survey.h5"
    for size in options.sizes:
        data = options.out / f"first-{size}.h5"
        if not data.exists():
            first_stamps(survey, data, size)
        for arch, seed in itertools.product(NAMES, range(1, options.seeds + 1)):
            name = f"{arch} {size} {seed}"
            if name not in found:
                run = options.out / name.replace(" ", "-")
                train_one(options.reproduction, data, arch, seed, run)
                found[name] = error(run)
                record.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: {found[name]:.2f}%", flush=True)
    draw(found | whole(options.reproduction, survey))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reproduction", type=Path, help="the folder of `rotinv reproduce --scale tenth`")
    parser.add_argument("out", type=Path, help="a folder for stores and runs")
    sizes = [3_000, 10_000, 30_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="stamps to train with")
    parser.add_argument("--seeds", type=int, default=1, help="networks of each kind and size")
    return parser.parse_args()


def first_stamps(survey, path, size):
    """A store with the first `size` stamps to train with, and all others."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with StampStore(survey) as whole:
        splits = {name: whole.split(name) for name in ("train", "validate", "test")}
        with create_store(part, channels=whole.channels, size=whole.size) as store:
            for name, split in splits.items():
                end = min(size, len(split)) if name == "train" else len(split)
                for start in range(0, end, BLOCK):
                    stop = min(start + BLOCK, end)
                    store.append(name, split.raw(start, stop), split.label[start:stop])
    part.rename(path)


def train_one(reproduction, data, arch, seed, run):
    """Train a network as the reproduction did, or go on with one."""
    if (run / "config.json").exists():
        arguments = ["--resume", run]
    else:
        schedule = json.loads((reproduction / "reproduction.json").read_text())["schedule"]
        arguments = ["--arch", arch, "--data", data, "--out", run, "--seed", seed]
        for name in ("iterations", "halve_every", "validate_every", "extend_by"):
            arguments += ["--" + name.replace("_", "-"), schedule[name]]
    train.main([str(one) for one in ("--quiet", *arguments)])


def error(run):
    """The share of the test stamps, in percent, that a network gets wrong."""
    return 100 * (1 - json.loads((run / METRICS_FILE).read_text())["accuracy"])


def whole(reproduction, survey):
    """The errors of the reproduction's own networks, which had the whole survey."""
    with StampStore(survey) as stamps:
        size = stamps.sizes["train"]
    runs = ((arch, run) for arch in NAMES for run in sorted((reproduction / "trials").glob(f"{arch}-[0-9]*")))
    return {f"{arch} {size} {run.name}": error(run) for arch, run in runs if (run / METRICS_FILE).exists()}


def draw(found):
    """All networks as points, their means as lines, on logarithmic axes."""
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        *zip(*FOREST.items(), strict=True), "s--", color="0.4", ms=4, label="random forest, real stamps"
    )
    for (arch, name), colour, marker in zip(NAMES.items(), ("C0", "C1"), "ov", strict=True):
        each = {}
        for key, value in found.items():
            if key.startswith(f"{arch} "):
                each.setdefault(int(key.split()[1]), []).append(value)
        for size, values in each.items():
            axes.plot([size] * len(values), values, marker, color=colour, ms=4, alpha=0.5)
        axes.plot(sorted(each), [np.mean(each[size]) for size in sorted(each)], color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="stamps to train with", ylabel="test error, %")
    axes.set_yticks([0.5, 0.6, 0.8, 1, 2, 3, 4, 6], minor=False)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(which="both", color="0.9")
    axes.legend(frameon=False)
    figure.savefig(FOLDER / "what_data_buys.png", dpi=175)


if __name__ == "__main__":
    main()
