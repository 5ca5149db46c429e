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

# %% tags=["remove-output"]
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rotinv
from rotinv.nn import architectures
from rotinv.runs.model import channel_title
from rotinv.runs.protocol import Schedule

out = Path(os.environ.get("ROTINV_OUT") or tempfile.mkdtemp(prefix="rotinv-")).resolve()
out.mkdir(parents=True, exist_ok=True)
os.chdir(out)
print(f"all files go to {out}")

# %% [markdown]
# ## The data
#
# `make_survey` simulates whole image pairs, subtracts them, detects what differs, and cuts a stamp of 21 x 21
# pixels about each detection. A stamp has four channels: the *template* (the old image), the *science* image
# (the new one), their *difference*, and the difference in units of its noise. Half of the stamps are
# candidates (label 1), half artifacts (label 0), and no image gives stamps to two splits.

# %%
store = Path("survey.h5")
if not store.exists():
    counts = {"train": 1200, "validate": 200, "test": 400}
    rotinv.make_survey(store, counts, seed=1, workers=1, size=512, pilot_images=4)
with rotinv.StampStore(store) as opened:
    print(opened.sizes, opened.size, opened.channels)
test = rotinv.open_stamps(store, "test")
stamps, label = test.raw(np.arange(len(test))), test.label  # raw pixels (400, 21, 21, 4), and (400,)

# %% [markdown]
# Four candidates, then four artifacts, a row each, each channel from its least pixel to its largest. All have
# something that the template lacks. A candidate's has the shape of a star; an artifact's may be the track of
# a cosmic ray, a bad pixel, or what is left of a star that was subtracted badly.

# %%
examples = [*np.flatnonzero(label == 1)[:4], *np.flatnonzero(label == 0)[:4]]
figure, axes = plt.subplots(
    8, 4, figsize=(5, 9.6), layout="constrained", subplot_kw={"xticks": [], "yticks": []}
)
for row, i in zip(axes, examples, strict=True):
    row[0].set_ylabel(("artifact", "candidate")[label[i]], size=9)
    for c, channel in enumerate(row):
        channel.imshow(stamps[i, ..., c], cmap="gray")
for top, channel in zip(axes[0], test.channels, strict=True):
    top.set_title(channel_title(channel), size=9)
figure.savefig("stamps.png", dpi=100)

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
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
schedule = Schedule(iterations=100, halve_every=50, extend_by=0, validate_every=25)
if not Path("cap/metrics.json").exists():
    rotinv.fit(store, arch="cap", out="cap", schedule=schedule)
clf = rotinv.load("cap")
print(clf)

# %% [markdown]
# The command line does the same, with a progress bar:
#
#     rotinv train --arch cap --data survey.h5 --out cap --iterations 100 --halve-every 50 --validate-every 25
#
# ## Scores
#
# The network reads raw pixels: rotinv scales each channel of each stamp to 0-1 itself.

# %%
p = clf.predict_proba(stamps)[:, 1]
print("p(candidate) of the four candidates:", p[examples[:4]])
print("              of the four artifacts:", p[examples[4:]])

# %% [markdown]
# For files there is a program. The column `rotation_std` of its catalogue tells by how much the four
# orientations of a stamp disagreed *before* they were averaged.

# %%
if not Path("scores.csv").exists():
    command = "-m rotinv.score cap survey.h5 --out scores.csv --quiet"
    subprocess.run([sys.executable, *command.split()], check=True)
print("".join(Path("scores.csv").read_text().splitlines(keepends=True)[:4]))

# %% [markdown]
# ## How good is it?
#
# A *false positive* is an artifact that is accepted, a *false negative* a candidate that is lost. The
# threshold trades one for the other: the DET curve shows the FNR for every FPR. With 400 stamps all figures
# are rough, and the intervals (95%) say how rough.

# %%
found = clf.evaluate(stamps, label)
for name in ("accuracy", "precision", "recall"):
    low, high = found["intervals"][name]
    print(f"{name:<10}{found[name]:7.1%}   ({low:.1%} to {high:.1%})")
print(found["confusion"])
axes = found.plot()
axes.figure.savefig("det.png")

# %% [markdown]
# ## What does a decision rest on?
#
# `explain` shares the network's answer out over the pixels: red ones speak for it, blue ones against it. Here
# is the stamp that is most surely a candidate, and the map, summed over the channels. The other notebook
# tells how such maps are made, and checks that nothing of the answer is lost.

# %%
best = np.argmax(p)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
left.imshow(stamps[best, ..., test.channels.index("science")], cmap="gray")
left.set(xticks=[], yticks=[], title="science image")
clf.explain(stamps[best]).plot(0, right)

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
turned = [np.rot90(stamps, turn, axes=(1, 2)) for turn in range(4)]
scores = [clf.predict_proba(one)[:, 1] for one in turned]
for turn, one in enumerate(scores):
    print(f"{90 * turn:3} degrees: {one[:4]}  equal bits: {one.tobytes() == scores[0].tobytes()}")
assert all(one.tobytes() == scores[0].tobytes() for one in scores)

# %% [markdown]
# Is that worth anything? Deep-HiTS, the network that CAP improves on, sees the four orientations too, but
# puts the four vectors side by side (*concatenation*) and lets the next layer sort them out. Its weights
# treat the four differently, so its score changes with the turn. Here is one after a few steps of training:

# %%
few = Schedule(iterations=25, extend_by=0, validate_every=25)
if not Path("deephits/metrics.json").exists():
    rotinv.fit(store, arch="deephits", out="deephits", schedule=few)
deephits = rotinv.load("deephits")
theirs = [deephits.predict_proba(one)[:, 1] for one in turned]
print(f"largest change of a score by turning: CAP {np.ptp(scores, axis=0).max():.3g}, ", end="")
print(f"Deep-HiTS {np.ptp(theirs, axis=0).max():.3g}")

# %% [markdown]
# The second notebook, `audit_lrp.py`, asks what such a decision rests on.
