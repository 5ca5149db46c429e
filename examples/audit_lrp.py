# %% [markdown]
# # Audit a decision
#
# A network says "candidate". Why? Layer-wise relevance propagation (LRP) shares the answer out over the
# pixels, layer by layer from the top. This notebook trains a very small network, draws such maps, and then
# does what maps alone do not allow: it follows the relevance down and **accounts for all of it**, in the end
# in fractions, without any rounding.
#
# The equations are those of Reyes et al. 2018 (arXiv 1808.03626); `docs/lrp.md` works them by hand. It needs
# `pip install 'rotinv[plot]'`. The files go to the folder that the environment variable `ROTINV_OUT` names,
# or to a temporary one; what is there already is used again.

# %% tags=["remove-output"]
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rotinv
from rotinv.lrp import composites, heatmaps, rules
from rotinv.lrp.ledger import LINES, audit_exactly, ledger
from rotinv.lrp.relevance import relevance
from rotinv.runs.model import channel_title, open_stamps_for, stamps_as_read
from rotinv.runs.protocol import Schedule

out = Path(os.environ.get("ROTINV_OUT") or tempfile.mkdtemp(prefix="rotinv-")).resolve()
out.mkdir(parents=True, exist_ok=True)
os.chdir(out)
print(f"all files go to {out}")

# %% [markdown]
# ## A network small enough to follow
#
# `cap-mini` has two filters and three units, but all of CAP's kinds of layers. It reads the central 13 x 13
# pixels of simulated stamps with four channels.

# %%
store = Path("survey.h5")
if not store.exists():
    counts = {"train": 1200, "validate": 200, "test": 400}
    rotinv.make_survey(store, counts, seed=1, workers=1, size=512, pilot_images=4)
schedule = Schedule(iterations=400, halve_every=200, extend_by=0, validate_every=100, dropout=0.0)
if not Path("cap-mini/metrics.json").exists():
    rotinv.fit(store, arch="cap-mini", out="cap-mini", crop=13, schedule=schedule)
clf = rotinv.load("cap-mini")
test = rotinv.open_stamps(store, "test")
print(f"accuracy on the test stamps: {clf.evaluate(test)['accuracy']:.1%}")

# %% [markdown]
# `clf.explain` and `clf.audit` do all that follows in one call each. To see how, we take the network apart:
# its layers, its parameters on the device, and the kernels that compute.

# %%
model, k = rotinv.load_model("cap-mini"), rotinv.get_kernels("cpu")
network, params = model.network, k.asarray(model.params)
for name, shape in zip(network.names, network.out_shapes, strict=True):
    print(f"{name:<26}{' x '.join(map(str, shape))}")

# %% [markdown]
# ## One decision
#
# We take the candidate that the network is most sure of. $R$ at the output is the logit of the predicted
# class, and 0 for the other class.

# %%
split = open_stamps_for(model, store, "test")
candidates = np.flatnonzero(split.label == 1)
stamps = stamps_as_read(model, split, candidates)  # as the network reads them: each channel scaled to 0-1
logits = network.forward(k, params, k.asarray(stamps))
margin = logits[:, 1] - logits[:, 0]
x = stamps[np.argmax(margin)][None]
print(f"stamp {candidates[np.argmax(margin)]}, logits {logits[np.argmax(margin)]}")

# %% [markdown]
# ## The map
#
# With $z_{ij} = a_i w_{ij}$, and $z_j^+$, $z_j^-$ the sums of a unit's positive and negative $z_{ij}$, each
# with its sign's side of the bias, the paper's rule is (Eq. 4, with $\alpha = 2$, $\beta = 1$)
#
# $$R_i = \sum_j \left( \alpha \frac{z_{ij}^+}{z_j^+} - \beta \frac{z_{ij}^-}{z_j^-} \right) R_j,
# \qquad \alpha - \beta = 1.$$
#
# `relevance` gives $R$ at each layer's input. The network sees the stamp in four orientations, so there are
# four maps; turned back and averaged they are $\mu$ of Eq. 5.

# %%
rule = composites.named("alpha2beta1")
trail = relevance(k, network, params, k.asarray(x), rule)
print(
    "layers:", len(network.layers), "  maps on the trail:", len(trail.relevance), "(the logits' is the last)"
)
print(f"sum of R: {trail.relevance[-1].sum():.4f} at the logits, {trail.relevance[0].sum():.4f} at the stamp")


def average_map(stamp, rule):
    """mu of Eq. 5 (h, h, c) of a stamp (1, h, h, c)."""
    ((_, four),) = heatmaps.of_rotations(k, network, params, stamp, "lrp", rule)
    return heatmaps.average(four)[0]


def draw(path, rows):
    """The stamp, and below it maps (h, h, c) by name, a scale each: red is positive, blue negative."""
    channels = model.config.channels
    size = (1.5 * len(channels) + 1.4, 1.55 * (len(rows) + 1))
    figure, axes = plt.subplots(len(rows) + 1, len(channels), figsize=size, layout="constrained")
    for c, channel in enumerate(channels):
        axes[0, c].imshow(x[0, ..., c], cmap="gray")
        axes[0, c].set_title(channel_title(channel), size=9)
        for row, maps in enumerate(rows.values(), 1):
            reach = np.abs(maps).max()
            axes[row, c].imshow(maps[..., c], cmap="RdBu_r", vmin=-reach, vmax=reach)
    for row, name in enumerate(["stamp", *rows]):
        axes[row, 0].set_ylabel(name, size=9)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


mu = average_map(x, rule)
draw("map.png", {"alpha2beta1": mu})
turned = average_map(np.ascontiguousarray(np.rot90(x, 1, axes=(1, 2))), rule)
print("the turned stamp's map is the turned map, bit for bit:", np.array_equal(turned, np.rot90(mu)))
assert np.array_equal(turned, np.rot90(mu))

# %% [markdown]
# ## The ledger
#
# The sum at the stamp is not the sum at the logits. Eq. 1 of the paper, $\sum_i R_i = \sum_j R_j$, holds only
# where there is no bias, no stabiliser and no unit with one side only. So the ledger keeps a line for
# everything that Eq. 1 leaves out:
#
# $$\text{received} = \text{passed} + \text{bias}^+ + \text{bias}^- + \text{stabiliser} +
# \text{one-sided} + \text{dead} + \text{crop} + \text{rounding}.$$
#
# - *bias*: $z_j^+$ and $z_j^-$ contain the bias, so it takes its share, $\alpha \sum_j R_j b_j^+ / z_j^+$ and
#   $-\beta \sum_j R_j b_j^- / z_j^-$.
# - *one-sided*: a unit without a negative side hands down $\alpha R_j$, one without a positive side
#   $-\beta R_j$. The line has what that leaves of $R_j$: $(1 - \alpha) R_j$ and $(1 + \beta) R_j$.
# - *dead*: $R_j$ of units with $0/0$. *crop*: what lies on the border that padding added.
# - *rounding*: what float32 did, by comparison with the same sums in float64.
#
# Every line has its own formula; none is "the rest". What is left, the closing error, tells whether the
# account is right.

# %%
judge = rotinv.get_kernels("reference")
_, entries = ledger(k, judge, network, params, k.asarray(x), rule)
used = [line for line in LINES if any(entry.lines[line][0] for entry in entries)]
heads = "".join(f"{line:>15}" for line in (*used, "closing error"))
print(f"{'layer':<24}{'received':>10}{'passed':>10}{heads}")
for entry in entries:
    amounts = [*(entry.lines[line][0] for line in used), entry.closing_error[0]]
    numbers = "".join(f"{amount:15.2e}" for amount in amounts)
    print(f"{entry.layer:<24}{entry.received[0]:10.4f}{entry.passed[0]:10.4f}{numbers}")

# %% [markdown]
# Down the whole network: what came out at the top is at the stamp, or on some line.

# %%
top, bottom = entries[0].received[0], entries[-1].passed[0]
taken = {line: sum(entry.lines[line][0] for entry in entries) for line in LINES}
print(f"{top:12.6f}   at the output")
for line, amount in taken.items():
    print(f"{0 - amount:+12.6f}   {line.replace('_', ' ')}")
print(f"{bottom:12.6f}   at the stamp")
left = top - sum(taken.values()) - bottom
print(f"not accounted for: {left:.1e}")
assert abs(left) < 1e-9 * max(abs(entry.received[0]) for entry in entries)

# %% [markdown]
# `clf.audit` makes this account, and draws it.

# %%
audit = clf.audit(x[0], normalised=True)
axes = audit.plot()
axes.figure.savefig("waterfall.png")

# %% [markdown]
# ## Other rules, other accounts
#
# Twelve rules are there by name. Four of them, on the same stamp:
#
# - `zero` (Eq. 2), $R_i = \sum_j z_{ij} / z_j \, R_j$: on a ReLU network it is gradient times input. Eq. 3,
#   `epsilon`, adds $\varepsilon\, \mathrm{sign}\, z_j$ below the bar, so that a $z_j$ near 0 does no harm;
# - `alpha1beta0` and `alpha2beta1` (Eq. 4);
# - `flat`, $R_i = \sum_j R_j / n_j$ with $n_j$ the inputs of $j$: it looks at neither the pixels nor the
#   weights, and so shows what a map looks like that knows little of the decision.
#
# The account tells why their sums differ. `flat` gives the border of zeros, which padding added, its part
# too (*crop*), and has no biases; the others give a pixel that is 0 nothing. Where a unit is 0 in all four
# orientations, their mean has nothing to share by: what a rule sends there is *dead*.


# %%
def account(entries):
    """The relevance at the stamps (n,), and that of each line over all layers."""
    return entries[-1].passed, {line: sum(entry.lines[line] for entry in entries) for line in LINES}


print(
    f"{'rule':<14}{'at the stamp':>14}{'biases':>10}{'one-sided':>12}{'dead':>10}{'crop':>10}   closing error"
)
maps = {}
for name in ("zero", "alpha1beta0", "alpha2beta1", "flat"):
    _, entries = ledger(k, judge, network, params, k.asarray(x), composites.named(name))
    (at_stamp,), taken = account(entries)
    biases = taken["bias_positive"][0] + taken["bias_negative"][0]
    rest = f"{taken['one_sided'][0]:12.4f}{taken['dead'][0]:10.4f}{taken['crop'][0]:10.4f}"
    worst = max(abs(entry.closing_error[0]) for entry in entries)
    print(f"{name:<14}{at_stamp:14.4f}{biases:10.4f}{rest}   {worst:.1e}")
    maps[name] = average_map(x, composites.named(name))
draw("rules.png", maps)

# %% [markdown]
# Units with one side only are rarer. We look for them in the whole test split, and take the stamp that has
# most on that line. The default reads Eq. 4 with $0/0 = 0$, as the paper's authors do;
# `AlphaBeta(one_sided="conserve")` gives the side that is there the weight 1, and then nothing is made. A sum
# of $R$ that is larger than the logit may mean no more than this.

# %%
every = stamps_as_read(model, split, np.arange(len(split)))
_, entries = ledger(k, judge, network, params, k.asarray(every), rule)
one_sided = np.abs(account(entries)[1]["one_sided"])
print(f"{np.count_nonzero(one_sided)} of {len(every)} stamps have one-sided units")
most = every[np.argmax(one_sided)][None]
conserve = composites.Composite.everywhere(rules.AlphaBeta(one_sided="conserve"))
for name, reading in {"0/0 = 0": rule, "conserve": conserve}.items():
    _, entries = ledger(k, judge, network, params, k.asarray(most), reading)
    (at_stamp,), taken = account(entries)
    (output,), (made,) = entries[0].received, taken["one_sided"]
    print(f"{name:<10} output {output:8.4f}   one-sided {made:8.4f}   at the stamp {at_stamp:8.4f}")

# %% [markdown]
# ## Without any rounding
#
# Every weight and every pixel of a computer is a fraction, and LRP only adds, multiplies and divides. So a
# network as small as this one can be followed exactly. Now *rounding* is 0 and the closing error is 0: not
# small, 0.

# %%
((exact_logits, entries, _),) = audit_exactly(network, model.params, x, rule, "predicted")
assert all(entry.closing_error[0] == 0 for entry in entries)
assert all(entry.lines["rounding"][0] == 0 for entry in entries)
received = entries[0].received[0]
assert isinstance(received, Fraction)
print(f"the logit is {received.numerator} / {received.denominator}")
print(f"that is {float(received)!r}; the CPU's float32 said {float(trail.logits.max())!r}")
total = entries[-1].passed[0] + sum(entry.lines[line][0] for entry in entries for line in LINES)
print("stamp + all lines == output:", total == received)
assert total == received
bits = entries[-1].passed[0].denominator.bit_length()
print(f"the sum at the stamp is a fraction too, whose denominator has {bits:,} bits")

# %% [markdown]
# The command line does all this too: `rotinv audit cap-mini survey.h5 --index 3 --exact`, `rotinv explain`,
# and `rotinv view`, which makes a page to click through the layers.
