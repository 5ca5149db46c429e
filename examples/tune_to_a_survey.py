# %% [markdown]
# # From a night's alerts to a network of your own
#
# Your survey's images are not those that a network was trained on: other seeing, other noise, other
# artifacts. This notebook takes alert packets and a list of labels, and ends with a network that is tuned to
# them, with thresholds for the survey's own share of real sources, a night that is scored, and its best
# candidates explained. With alerts of your own, leave out "A night of alerts" and name your files instead.
#
# The first notebook, `train_and_score.py`, tells what stamps and scores are. This one needs
# `pip install 'rotinv[plot,alerts]'`. The files go to the folder that the environment variable `ROTINV_OUT`
# names, or to a temporary one; what is there already is used again.

# %% tags=["remove-output"]
import csv
import gzip
import io
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fastavro
import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from scipy import ndimage

import rotinv
from rotinv.runs.protocol import Schedule

out = Path(os.environ.get("ROTINV_OUT") or tempfile.mkdtemp(prefix="rotinv-")).resolve()
out.mkdir(parents=True, exist_ok=True)
os.chdir(out)
print(f"all files go to {out}")


def program(line):
    """Run a program of rotinv as a shell would, and print what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "rotinv", *line.split()], capture_output=True, text=True, check=True
    )
    print(f"$ rotinv {line}\n{done.stdout}{done.stderr}")


# %% [markdown]
# ## A network of another survey
#
# A simulated survey, and CAP trained on it for half a minute.

# %%
if not Path("survey.h5").exists():
    counts = {"train": 1200, "validate": 200, "test": 400}
    rotinv.make_survey("survey.h5", counts, seed=1, workers=1, size=512, pilot_images=4)
if not Path("cap/metrics.json").exists():
    schedule = Schedule(iterations=100, halve_every=50, extend_by=0, validate_every=25)
    rotinv.fit("survey.h5", arch="cap", out="cap", schedule=schedule)
print(rotinv.load("cap"))

# %% [markdown]
# ## A night of alerts
#
# ZTF sends each alert as an Avro record with three small images, zipped FITS files of 63 x 63 pixels. We
# build such records of 400 simulated detections that no network has trained on, made to look like another
# camera's: blurred, and with noise added. Every source is seen once.

# %%
CUTOUT = {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]}
CANDIDATE = [("jd", "double"), ("fid", "int"), ("ra", "double"), ("dec", "double"), ("isdiffpos", "string")]
SCHEMA = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "publisher", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "candidate",
                "fields": [{"name": name, "type": kind} for name, kind in CANDIDATE],
            },
        },
        {"name": "cutoutTemplate", "type": CUTOUT},
        {"name": "cutoutScience", "type": "cutout"},
        {"name": "cutoutDifference", "type": "cutout"},
    ],
}


def cutout(pixels):
    """A zipped FITS image of 63 x 63 pixels whose middle is the stamp; mirrored sky lies around it."""
    file = io.BytesIO()
    fits.PrimaryHDU(np.pad(pixels, 21, mode="reflect").astype(np.float32)).writeto(file)
    return {"stampData": gzip.compress(file.getvalue(), mtime=0)}


def alert(i, template, science, difference):
    """An alert as ZTF sends it."""
    return {
        "schemavsn": "4.02",
        "publisher": "ZTF (www.ztf.caltech.edu)",
        "objectId": f"ZTF25aa{'abcdefghijklmnopqrstuvwxyz'[i // 26 % 26]}{i:04d}",
        "candid": 2460000000000000000 + i,
        "candidate": {
            "jd": 2460000.5 + i / 1000,
            "fid": 1,
            "ra": 150 + i / 100,
            "dec": 2.0,
            "isdiffpos": "t",
        },
        "cutoutTemplate": cutout(template),
        "cutoutScience": cutout(science),
        "cutoutDifference": cutout(difference),
    }


test = rotinv.open_stamps("survey.h5", "test")
rng = np.random.default_rng(0)
stamps = ndimage.gaussian_filter(test.raw(np.arange(len(test)))[..., :3], (0, 0.8, 0.8, 0))
stamps += np.std(stamps[..., 2:], axis=(1, 2), keepdims=True) * rng.normal(size=stamps.shape)
alerts = [alert(i, *np.moveaxis(one, -1, 0)) for i, one in enumerate(stamps)]
for name, part in (("labelled.avro", alerts[:250]), ("tonight.avro", alerts[250:])):
    with open(name, "wb") as file:
        fastavro.writer(file, SCHEMA, part)

# %% [markdown]
# And the list of labels, as a person would keep it: the alert's own number, and a word.

# %%
with open("LABELS.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "label"])
    writer.writerows(
        [one["candid"], ("bogus", "sn")[int(label)]]
        for one, label in zip(alerts[:250], test.label[:250], strict=True)
    )
print("".join(Path("LABELS.csv").read_text().splitlines(keepends=True)[:4]))

# %% [markdown]
# ## Labelled alerts become a store
#
# rotinv knows the survey by its schema, cuts the stamp about the alert's own pixel, and reckons the fourth
# channel, the difference in units of its noise. All alerts of an object go to one split.

# %%
Path("labelled.h5").unlink(missing_ok=True)
program("import-alerts labelled.avro --labels LABELS.csv --real sn --split 0.5,0.2,0.3 --out labelled.h5")

# %% [markdown]
# ## Tuning
#
# The weights of the other survey's network are the beginning; a few steps with a small learning rate are
# enough. We compare both on labelled alerts that neither has trained on. There are few, so the intervals
# (95%) are wide.

# %%
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
few = Schedule(rate=0.01, iterations=40, extend_by=0, validate_every=10)
if not Path("tuned/metrics.json").exists():
    rotinv.fit("labelled.h5", out="tuned", init_from="cap", schedule=few)
held_out = rotinv.open_stamps("labelled.h5", "test")
for name in ("cap", "tuned"):
    found = rotinv.load(name).evaluate(held_out)
    low, high = found["intervals"]["accuracy"]
    print(f"{name:<6} accuracy {found['accuracy']:.1%} ({low:.1%} to {high:.1%})")

# %% [markdown]
# ## Thresholds for a real night
#
# Half of our labelled alerts are real; of a night's perhaps one in twenty. `evaluate` reckons what a
# threshold means there: precision, and how many alerts a night would be looked at. It keeps the thresholds
# with the run.

# %%
program("evaluate tuned labelled.h5 --fpr 0.1 --prevalence 0.05 --per-night 1000")

# %% [markdown]
# ## Tonight
#
# The alerts that came in are scored at that threshold, and the best twenty explained.

# %%
Path("tonight.csv").unlink(missing_ok=True)
Path("tonight-maps.h5").unlink(missing_ok=True)
program("score tuned tonight.avro --out tonight.csv --at-fpr 0.1 --overwrite --explain top 20")
with open("tonight.csv", newline="") as file:
    scored = [row for row in csv.DictReader(file) if row["class"] != "-1"]  # -1: no score
rows = sorted(scored, key=lambda row: -float(row["probability"]))
for row in rows[:3]:
    print(
        {key: row[key] for key in ("object_id", "candidate_id", "ra", "dec", "band", "probability", "class")}
    )

# %% [markdown]
# The best one, and what the decision rests on: red pixels speak for the class, blue ones against it. The
# notebook `audit_lrp.py` tells how such maps are made, and how far one may trust them. An alert is found by
# its own id, `candidate_id`: a store may have other rows than a catalogue (with `--labels` it has splits, and
# `score --on-bad drop` leaves rows out).

# %%
Path("tonight.h5").unlink(missing_ok=True)
program("import-alerts tonight.avro --out tonight.h5")
tonight, best = rotinv.open_stamps("tonight.h5", "test"), rows[0]["candidate_id"]
pixels = tonight.raw(np.flatnonzero(tonight.alerts["candidate_id"][:] == best))
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
left.imshow(pixels[0, ..., tonight.channels.index("science")], cmap="gray")
left.set(xticks=[], yticks=[], title="science image")
rotinv.load("tuned").explain(pixels).plot(0, right)
figure.savefig("best.png", dpi=100)
