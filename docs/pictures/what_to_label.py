"""Is it worth choosing what to label? Labels chosen by rotinv.pick against labels at random.

    rotinv simulate --out other.h5 --band u --seed 77 --train 8000 --validate 500 --test 8000
    python docs/pictures/what_to_label.py RUN other.h5 OUT

RUN is a network that was trained on another survey. The stamps of other.h5 are blurred, as by worse seeing,
and of the candidates to choose from nine in ten are left out, others for each seed: one stamp in eleven is
real. RUN is tuned with so many labels of each kind of choice, a fifth of which validate, and tested on the
blurred split test.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from rotinv import train
from rotinv.catalogue import picking, sources
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.metrics import rates
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import load_model, open_stamps_for
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.opening import open_stamps
from rotinv.stamps.store import CHANNELS, create_store

FPR = 0.01
VALIDATE = 0.2  # of the labels


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    model = load_model(options.run)
    test = blurred(options, "test")
    found = {"untuned": [], "pick": [], "random": []}
    for seed in range(options.seeds):
        pool = make_pool(options, seed, options.out / f"pool-{seed}.h5")
        by_kind = {"pick": picked(model, pool, options.count, seed), "random": None}
        for kind, indices in by_kind.items():
            store = options.out / f"{kind}-{seed}.h5"
            share = make_store(pool, store, indices, options.count, seed, test)
            run = options.out / f"run-{kind}-{seed}"
            arguments = ["--data", store, "--out", run, "--init-from", options.run, "--seed", seed, "--quiet"]
            train.main([str(one) for one in arguments])
            found[kind].append({"fnr": fnr(load_model(run), store), "real": share})
            print(seed, kind, found[kind][-1], flush=True)
    found["untuned"].append({"fnr": fnr(model, store)})
    (options.out / "found.json").write_text(json.dumps(found, indent=1))
    for kind, rows in found.items():
        values = [100 * row["fnr"] for row in rows]
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        print(f"{kind:<10}FNR at FPR {FPR:.0%}: {np.mean(values):.2f}{spread}%")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("survey", type=Path)
    parser.add_argument("out", type=Path, help="a folder for stores and runs")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=float, default=0.1, help="the share of them in the pool")
    parser.add_argument("--blur", type=float, default=0.7, help="standard deviation in pixels")
    return parser.parse_args()


def blurred(options, split, indices=None):
    """Stamps and labels of a split, or of its stamps at `indices`."""
    found = open_stamps(options.survey, split)
    indices = np.arange(len(found)) if indices is None else indices
    sigma = (0, options.blur, options.blur, 0)
    return ndimage.gaussian_filter(found.raw(indices), sigma), found.label[indices]


def make_pool(options, seed, path):
    """A store whose split test are the stamps to choose from."""
    label, rng = open_stamps(options.survey, "train").label, np.random.default_rng(seed)
    drawn = rng.uniform(size=len(label)) < np.where(label == 1, options.candidates, 1)
    write(path, {"test": blurred(options, "train", np.flatnonzero(drawn))})
    return path


def picked(model, pool, count, seed):
    source = sources.open_source(model, [pool])
    scorer = Scorer(get_kernels("cpu"), [model], Threshold())
    return picking.pick(scorer, source, count, seed=seed).rows["index"]


def make_store(pool, path, indices, count, seed, test):
    """The labels in a store to train on; gives the share of them that is real."""
    everything, rng = open_stamps(pool, "test"), np.random.default_rng(seed)
    if indices is None:
        indices = rng.permutation(len(everything))[:count]
    indices = rng.permutation(indices)
    cut = int(VALIDATE * len(indices))
    parts = {"validate": indices[:cut], "train": indices[cut:]}
    write(
        path, {"test": test, **{name: (everything.raw(i), everything.label[i]) for name, i in parts.items()}}
    )
    return float(everything.label[indices].mean())


def write(path, splits):
    path.unlink(missing_ok=True)
    (size,) = {stamps.shape[1] for stamps, _ in splits.values()}
    with create_store(path, channels=CHANNELS, size=size) as store:
        for name, (stamps, label) in splits.items():
            store.append(name, stamps, label)


def fnr(model, store):
    split = open_stamps_for(model, store, "test")
    (found,) = labelled_scores(get_kernels("cpu"), [model], split, np.arange(len(split))).values()
    return rates.fnr_at_fpr(found.label, found.probability, FPR)


if __name__ == "__main__":
    main()
