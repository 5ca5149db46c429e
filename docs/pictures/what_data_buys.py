"""What does a user gain by labelling more? The test error against the number of stamps to train with.

    rotinv simulate --out survey.h5 --train 400000 --validate 4000 --test 30000
    python docs/pictures/what_data_buys.py survey.h5 OUT

CAP and Deep-HiTS are trained on the first stamps of the split train, so many iterations for every number of
stamps, and tested on the whole split test. OUT keeps what is done: the same command goes on. It ends with
what_data_buys.png, beside this file. Needs the extra `plot`.
"""

import argparse
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
    for size in options.sizes:
        data = options.out / f"first-{size}.h5"
        if not data.exists():
            first_stamps(options.survey, data, size)
        for arch in NAMES:
            for seed in range(options.seeds):
                name = f"{arch} {size} {seed}"
                if name not in found:
                    found[name] = error(options, data, arch, seed, options.out / name.replace(" ", "-"))
                    record.write_text(json.dumps(found, indent=1) + "\n")
                print(f"{name}: {found[name]:.2f}%", flush=True)
    draw(found)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("survey", type=Path)
    parser.add_argument("out", type=Path, help="a folder for stores and runs")
    sizes = [3_000, 10_000, 30_000, 100_000, 400_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="stamps to train with")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each kind and size")
    parser.add_argument("--iterations", type=int, default=10_000, help="the rate is halved four times")
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


def error(options, data, arch, seed, run):
    """The share of the test stamps, in percent, that a network gets wrong."""
    if (run / "config.json").exists():
        arguments = ["--resume", run]
    else:
        every = options.iterations // 5
        arguments = ["--arch", arch, "--data", data, "--out", run, "--seed", seed, "--extend-by", 0]
        arguments += ["--iterations", options.iterations, "--halve-every", every, "--validate-every", every]
    train.main([str(one) for one in ("--quiet", *arguments)])
    return 100 * (1 - json.loads((run / METRICS_FILE).read_text())["accuracy"])


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
    axes.grid(which="both", color="0.9")
    axes.legend(frameon=False)
    figure.savefig(FOLDER / "what_data_buys.png", dpi=175)


if __name__ == "__main__":
    main()
