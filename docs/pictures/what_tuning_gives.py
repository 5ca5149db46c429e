"""Is it worth tuning? A network of one survey on another: as it is, tuned, and beside one from scratch.

    python docs/pictures/what_tuning_gives.py RUN OUT

RUN is a network that was trained on the survey of `rotinv simulate`, band g. The other survey has a darker
sky (band u), worse seeing (4.6 pixels in place of 3.15), a noisier camera (20 electrons in place of 7) and
stamps of 63 x 63 pixels, of which `--crop 21` cuts the middle. Each of three seeds simulates it anew: 2,000
stamps to train with, 500 to validate with and 4,000 to test on.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

from rotinv import train
from rotinv.metrics import rates
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import load_model
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps.opening import open_stamps
from rotinv.stamps.store import CHANNELS, create_store
from rotinv.survey import camera, detection, differencing, kinds, pair, psf, selection

FPR, SEEDS, SIDE, CROP = 0.01, 3, 63, 21
COUNTS = {"train": 2000, "validate": 500, "test": 4000}
SEEING, READ_NOISE = (4.6, 0.3), 20.0  # pixels: mean and spread; electrons


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"as it is": [], "from scratch": [], "tuned": []}
    for seed in range(SEEDS):
        store = options.out / f"other-{seed}.h5"
        if not store.exists():
            simulate(store, seed)
        ways = {
            "from scratch": ["--arch", "cap", "--schedule", "quick"],
            "tuned": ["--init-from", options.run],
        }
        found["as it is"].append(fnr(load_model(options.run), store))
        for name, more in ways.items():
            run = options.out / f"{name.replace(' ', '-')}-{seed}"
            arguments = ["--data", store, "--crop", CROP, "--out", run, "--seed", seed, "--quiet", *more]
            train.main([str(one) for one in arguments])
            found[name].append(fnr(load_model(run), store))
        print(seed, {name: f"{100 * values[-1]:.2f}%" for name, values in found.items()}, flush=True)
    for name, values in found.items():
        mean, spread = 100 * np.mean(values), 100 * np.std(values, ddof=1)
        print(f"{name:<14}FNR at FPR {FPR:.0%}: {mean:.2f} ± {spread:.2f}%")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, help="a folder for stores and runs")
    return parser.parse_args()


def simulate(path, seed):
    """The other survey: the simulated one with another recipe, and with stamps of SIDE x SIDE pixels."""
    recipe = [
        (psf, "SCIENCE_FWHM", SEEING),
        (camera, "READ_NOISE", READ_NOISE),
        (differencing, "READ_NOISE", READ_NOISE),
        (detection, "detect", detect_inside(detection.detect)),
        (detection, "cut", cut),
    ]
    with ExitStack() as stack:
        for module, name, value in recipe:
            stack.enter_context(mock.patch.object(module, name, value))
        writer = stack.enter_context(create_store(path, channels=CHANNELS, size=SIDE, kinds=kinds.KINDS))
        for number, (split, count) in enumerate(COUNTS.items()):
            for image, (stamps, snr, kind) in enumerate(images(count, (1000 + seed, number))):
                label, owner = kind == kinds.CANDIDATE, np.full(len(kind), image)
                writer.append(split, stamps, label, snr=snr, kind=kind, image=owner)


def images(count, key):
    """What is chosen of the stamps of one image after another, until there are `count`."""
    pilot = bins_of(pair.simulate((*key, 10**6 * pair.INJECTED), "u"))
    chosen = selection.Selection(count, np.bincount(pilot[pilot >= 0], minlength=3 * selection.BINS), 1)
    while chosen.left:
        image = chosen.used
        found = pair.simulate((*key, image), "u")
        kept = chosen.take(bins_of(found), np.random.default_rng((*key, image, 1)))
        yield tuple(column[kept] for column in found)


def bins_of(found):
    """The bin of SNR of each stamp, as survey/selection.py has them."""
    return selection.bin_of(found.snr, found.kind == kinds.CANDIDATE)


def detect_inside(detect):
    """`detect` for stamps of SIDE pixels: their edges are farther from the middle."""

    def inside(snr_map):
        found, margin, (height, width) = detect(snr_map), SIDE // 2, snr_map.shape
        keep = (found.row >= margin) & (found.row < height - margin)
        keep &= (found.column >= margin) & (found.column < width - margin)
        return detection.Detections(*(values[keep] for values in found))

    return inside


def cut(found, detections):
    """Stamps (N, SIDE, SIDE, 4) float32: template, science, difference, SNR difference."""
    around = np.arange(SIDE) - SIDE // 2
    at = detections.row[:, None, None] + around[:, None], detections.column[:, None, None] + around
    template, science, variance = (image[at] for image in found)
    difference = science - template
    return np.stack([template, science, difference, difference / np.sqrt(variance)], axis=-1)


def fnr(model, path):
    """The share of candidates of the split test that is missed where the FPR is 1%."""
    split = open_stamps(path, "test")
    (scores,) = labelled_scores(get_kernels("cpu"), [model], split, np.arange(len(split))).values()
    return rates.fnr_at_fpr(scores.label, scores.probability, FPR)


if __name__ == "__main__":
    main()
