# %% [markdown]
# # Train a classifier and score with it
#
# A survey finds bright spots by subtracting an old image of the sky from a new one. Most spots are artifacts;
# a few are supernovae. The network of this notebook, CAP (Reyes et al. 2018, arXiv 1808.03626), tells them
# apart, and gives a stamp and its three quarter turns the same score, **to the last bit**.
#
# We simulate a tiny survey, train on it for less than half a minute, see how good the result is, write a
# catalogue, and look at why the turns cannot matter. It is a lesson, not a good classifier: the paper trains
# on 1,220,000 stamps, we on 1,200.
#
# Run it as a script, or cell by cell in an editor that knows `# %%`. It needs `pip install 'rotinv[plot]'`.
# The files go to the folder that the environment variable `ROTINV_OUT` names, or to a temporary one.

# %%
import csv
import os
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import rotinv
from rotinv.catalogue import formats, sources
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.metrics import classification_report, curves, rates
from rotinv.metrics.scores import Scores
from rotinv.nn import architectures
from rotinv.runs import training, trials
from rotinv.runs.folder import METRICS_FILE, Config, create_run_folder
from rotinv.runs.model import channel_title, score_stamps, score_with_rotation_std
from rotinv.runs.protocol import Schedule

out = Path(os.environ.get("ROTINV_OUT") or tempfile.mkdtemp(prefix="rotinv-")).resolve()
out.mkdir(parents=True, exist_ok=True)
print(f"all files go to {out}")

# %% [markdown]
# ## The data
#
# `make_survey` simulates whole image pairs, subtracts them, detects what differs, and cuts a stamp of 21 x 21
# pixels about each detection. A stamp has four channels: the *template* (the old image), the *science* image
# (the new one), their *difference*, and the difference in units of its noise. Half of the stamps are
# candidates (label 1), half artifacts (label 0), and no image gives stamps to two splits.

# %%
store_path = out / "survey.h5"
if not store_path.exists():
    counts = {"train": 1200, "validate": 200, "test": 400}
    rotinv.make_survey(store_path, counts, seed=1, workers=1, size=512, pilot_images=4)
with rotinv.StampStore(store_path) as store:
    print(store.sizes, store.size, store.channels)
    test = store.split("test")
    chosen = np.concatenate([np.flatnonzero(test.label == label)[:4] for label in (1, 0)])
    examples, labels = test.raw(chosen), test.label[chosen]

# %% [markdown]
# Four candidates, then four artifacts, a row each, each channel from its least pixel to its largest. All have
# something that the template lacks. A candidate's has the shape of a star; an artifact's may be the track of
# a cosmic ray, a bad pixel, or what is left of a star that was subtracted badly.

# %%
names = ("artifact", "candidate")
figure = Figure(figsize=(5, 9.6), layout="constrained")
for row, (stamp, label) in enumerate(zip(examples, labels, strict=True)):
    for c, channel in enumerate(store.channels):
        axes = figure.add_subplot(len(examples), len(store.channels), 4 * row + c + 1, xticks=[], yticks=[])
        axes.imshow(stamp[..., c], cmap="gray")
        axes.set_title(channel_title(channel) if row == 0 else "", size=9)
        axes.set_ylabel(names[label] if c == 0 else "", size=9)
figure.savefig(out / "stamps.png", dpi=100)

# %% [markdown]
# ## The network
#
# CAP is five convolutions and three dense layers, as in Table I of the paper. What makes it invariant are two
# layers more. With $r$ a quarter turn, the *cyclic slice* after the padding hands on all four orientations of
# a stamp $x$,
#
# $$S(x) = [x,\; r x,\; r^2 x,\; r^3 x],$$
#
# each of them passes through the same convolutions and dense layers, and the *cyclic average pooling* before
# the last layer takes the mean of the four vectors that come out, $(x_0 + x_1 + x_2 + x_3) / 4$. Turn the
# stamp, and the four are the same four in another order.

# %%
network = rotinv.build("cap")
for name, parameters, shape in architectures.table(network):
    print(f"{name:<24}{parameters:>9,}   {' x '.join(map(str, shape))}")
print(f"{network.size:,} parameters in all")

# %% [markdown]
# ## Training
#
# Stochastic gradient descent on the cross-entropy, batches of 50, as in Sec. IV of the paper; only much
# shorter. The weights with the lowest validation error are kept. A run is a function of its configuration,
# its seed and its data: run this twice, and the weights are the same, bit for bit.


# %%
class Lines:
    """Who watches the run: prints each validation."""

    def stepped(self, row, limit):
        pass

    def validated(self, row, progress):
        print(
            f"iteration {row.iteration:4}: loss {row.loss:.3f}, validation error {row.validation_error:.1%}"
        )


k = rotinv.get_kernels("cpu")
schedule = Schedule(iterations=100, halve_every=50, extend_by=0, validate_every=25)
folder = out / "cap"
if not (folder / METRICS_FILE).exists():
    with rotinv.StampStore(store_path) as store:
        config = Config("cap", store.size, store.channels, data=str(store_path), schedule=schedule)
        data = trials.check(store, config)
        run = training.begin(k, config, create_run_folder(folder, "cap"))
        trials.train_to_end(run, data, config, Lines())
        trials.test(k, folder, data)
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# The command line does the same, with a progress bar:
#
#     rotinv train --arch cap --data survey.h5 --out cap --iterations 100 --halve-every 50 --validate-every 25
#
# ## A catalogue
#
# A `Source` reads stamps (or alerts) ahead of the network; a `Scorer` makes the catalogue's rows of them. The
# command line: `rotinv score cap survey.h5 --out scores.csv`. The column `rotation_std` tells by how much the
# four orientations of a stamp disagreed *before* they were averaged.

# %%
model = rotinv.load_model(folder)
catalogue = out / "scores.csv"
source = sources.open_source(model, [store_path], "test")
scorer = Scorer(k, [model], Threshold(0.5))
if not catalogue.exists():
    columns, facts = scorer.columns(source.known), scorer.facts(source.normalisation)
    with formats.create(catalogue, columns, facts) as write:
        for block in source.blocks(0, len(source)):
            write(scorer.rows(block))
print("".join(catalogue.read_text().splitlines(keepends=True)[:4]))

# %% [markdown]
# ## How good is it?
#
# A *false positive* is an artifact that is accepted, a *false negative* a candidate that is lost. The
# threshold trades one for the other: the DET curve shows the FNR for every FPR. With 400 stamps all figures
# are rough, and the intervals (95%) say how rough.

# %%
with catalogue.open() as file:
    rows = list(csv.DictReader(file))
label = np.array([int(row["label"]) for row in rows])
p = np.array([float(row["probability"]) for row in rows])
found = classification_report.evaluate(Scores(label, p))
for figure_name in ("accuracy", "precision", "recall"):
    low, high = found["intervals"][figure_name]
    print(f"{figure_name:<10}{found[figure_name]:7.1%}   ({low:.1%} to {high:.1%})")
print(found["confusion"])
point = {model.name: curves.working_point(found["confusion"])}
curves.det_picture(out / "det.png", {model.name: rates.det_curve(label, p)}, point)

# %% [markdown]
# ## Turn the stamps
#
# Now each stamp is turned by 0, 90, 180 and 270 degrees and scored. In exact arithmetic the four scores must
# be equal; on a computer they need not be, for a sum of floating-point numbers depends on its order. rotinv
# takes the mean as
#
# $$\frac{(x_0 + x_2) + (x_1 + x_3)}{4}.$$
#
# A quarter turn makes of it $((x_1 + x_3) + (x_2 + x_0)) / 4$: the two sums are swapped, and the terms of
# one. Both are allowed, since $a + b = b + a$ holds for floating-point numbers too. And each $x_i$ is
# computed alike wherever it stands in a batch. So the test below asks for the same *bits*.

# %%
stamps = next(source.blocks(0, 200)).stamps  # as the network reads them: each channel scaled to 0-1
params = k.asarray(model.params)
turned = [np.ascontiguousarray(np.rot90(stamps, turn, axes=(1, 2))) for turn in range(4)]
scores = [score_stamps(k, model.network, params, one) for one in turned]
for turn, score in enumerate(scores):
    print(f"{90 * turn:3} degrees: {score[:4]}  equal bits: {score.tobytes() == scores[0].tobytes()}")
assert all(score.tobytes() == scores[0].tobytes() for score in scores)

# %% [markdown]
# Is that worth anything? Deep-HiTS, the network that CAP improves on, sees the four orientations too, but
# puts the four vectors side by side (*concatenation*) and lets the next layer sort them out. Its weights
# treat the four differently, so its score changes with the turn. Here is one with fresh weights:

# %%
other = rotinv.build("deephits")
fresh = k.asarray(other.initial("he", seed=0))
theirs = np.array([score_stamps(k, other, fresh, one) for one in turned])
ours = np.array(scores)
print(f"largest change of a score by turning: CAP {np.ptp(ours, axis=0).max():.3g}, ", end="")
print(f"Deep-HiTS {np.ptp(theirs, axis=0).max():.3g}")
_, disagreement = score_with_rotation_std(k, model.network, params, stamps)
print(f"CAP's four orientations before their mean: margins with a std of {disagreement.mean():.2g}")

# %% [markdown]
# The second notebook, `audit_lrp.py`, asks what such a decision rests on.
