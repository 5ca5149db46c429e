"""Make README's pictures and numbers, beside this file, from a run: `python docs/pictures/make.py RUN`.

RUN is a folder that `python -m rotinv.train --arch cap` made, and the stamps are the test split of the store
that it was trained on. Needs the extra `plot`.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import rotinv
from rotinv.lrp.study import Study
from rotinv.metrics import rates
from rotinv.metrics.curves import working_point
from rotinv.runs.folder import METRICS_FILE, read_config
from rotinv.runs.model import channel_title

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Make README's pictures from a trained run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--index", type=int, default=27, help="the test stamp of heatmaps.png (default 27)")
    options = parser.parse_args()
    clf = rotinv.load(options.run)
    test = rotinv.open_stamps(Path(read_config(options.run).data), "test")

    study = clf.explain(test.raw(np.array([options.index])))
    truth = test.classes.names[test.label[options.index]]
    save(heatmaps(study, truth), "heatmaps.png")

    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    found = clf.evaluate(test)
    axes = found.plot(figure.subplots())
    axes.set(xlim=(1e-3, 0.2), ylim=(1e-3, 1), xlabel="share of artifacts that are accepted (FPR)")
    axes.set(ylabel="share of candidates that are lost (FNR)")
    axes.get_legend().remove()
    lost = rates.fnr_at_fpr(test.label, clf.predict_proba(test)[:, 1], 1e-2)
    axes.plot([1e-2], [lost], "o", color="C3")
    axes.annotate(f"FPR 1%, FNR {lost:.1%}", (1e-2, lost), (8, 4), textcoords="offset points", color="C3")
    axes.annotate("threshold 0.5", working_point(found["confusion"]), (8, 4), textcoords="offset points")
    save(figure, "det.png")
    shutil.copyfile(options.run / METRICS_FILE, FOLDER / "quick_training.json")


def heatmaps(study: Study, truth: str) -> Figure:
    """The one stamp of a study, and below each channel its average map, all on one scale."""
    maps, reach = study.average[0], np.abs(study.average[0]).max()
    figure = Figure(figsize=(5.2, 2.7), layout="constrained")
    axes = figure.subplots(2, len(study.channels))
    for c, channel in enumerate(study.channels):
        axes[0, c].imshow(study.stamps[0, ..., c], cmap="gray")
        axes[0, c].set_title(channel_title(channel), size=9)
        drawn = axes[1, c].imshow(maps[..., c], cmap="RdBu_r", vmin=-reach, vmax=reach)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("what CAP sees")
    axes[1, 0].set_ylabel("what its answer\nrests on")
    bar = figure.colorbar(drawn, ax=axes[1, :], pad=0.02, aspect=12, ticks=[-reach, 0, reach])
    bar.ax.set_yticklabels(["against", "0", "for"])
    p = study.probability[0]
    said = study.split.classes.names[int(p >= 0.5)]
    figure.suptitle(f'"{said}", p(candidate) = {p:.3f}; a simulated {truth}', size=11)
    return figure


def save(figure: Figure, name: str) -> None:
    """Write a figure to the folder of pictures, in place of what is there.

    Figures are about five inches wide, so that their text can be read on a telephone, too.
    """
    figure.savefig(FOLDER / name, dpi=175)


if __name__ == "__main__":
    main()
