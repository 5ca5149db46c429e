"""The picture of an evaluation: DET curve (Fig. 2), ROC curve, errors by SNR and calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics.classification_report import span
from rotinv.system.files import written_whole
from rotinv.system.pictures import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, tuple[NDArray, NDArray]]  # FPR and FNR by the model's name, of rates.det_curve


def evaluation_picture(
    path: str | Path, curves: Curves, found: Mapping[str, Any], title: str, *, overwrite: bool = False
) -> None:
    """Four panels as PNG: the curves of all models, and of `found`, the last of them, SNR and calibration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    grid = figure.subplots(2, 2)
    draw_det(grid[0, 0], curves)
    grid[0, 0].set_title("DET", size=10)
    grid[0, 0].legend(fontsize=8)
    _roc(grid[0, 1], curves)
    last = list(curves)[-1]
    if "by_snr" in found:
        _by_snr(grid[1, 0], found["by_snr"])
        grid[1, 0].set_title(f"{last}: errors by SNR, threshold 0.5", size=10)
    else:
        grid[1, 0].set_axis_off()
    _calibration(grid[1, 1], found["calibration"], found.get("calibrated"))
    grid[1, 1].set_title(f"{last}: calibration", size=10)
    figure.suptitle(title, size=11)
    with written_whole(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _roc(axes: "Axes", curves: Curves) -> None:
    for name, (fpr, fnr) in curves.items():
        area = float(np.trapezoid(1 - fnr, fpr))
        axes.plot(fpr, 1 - fnr, lw=1.2, label=f"{name}: area {area:.5f}")
    axes.set(xscale="log", xlabel="false positive rate", ylabel="true positive rate")
    axes.grid(which="both", color="0.9")
    axes.set_title("ROC", size=10)
    axes.legend(fontsize=8, loc="lower right")


def _by_snr(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    """Shares of wrong stamps: 1 - completeness, and FPR, with their intervals."""
    x = np.arange(len(rows))
    for shift, name, label, colour in (
        (-0.12, "completeness", "candidates rejected (1 - completeness)", "tab:blue"),
        (0.12, "fpr", "artifacts accepted (FPR)", "tab:red"),
    ):
        known = [i for i, row in enumerate(rows) if row[name] is not None]
        value = np.array([rows[i][name] for i in known])
        low, high = (np.array([rows[i][f"{name}_interval"][end] for i in known]) for end in (0, 1))
        if name == "completeness":
            value, low, high = 1 - value, 1 - high, 1 - low
        bars = np.maximum(0, [value - low, high - value])
        axes.errorbar(x[known] + shift, value, bars, fmt="o", ms=4, lw=1, color=colour, label=label)
    axes.set_xticks(x, [span(row).replace(" to ", "-") for row in rows], rotation=45, ha="right", fontsize=7)
    axes.set(yscale="symlog", ylim=(0, 1), xlabel="SNR", ylabel="share wrong, 95%")
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8)


def _calibration(axes: "Axes", found: Mapping[str, Any], calibrated: Mapping[str, Any] | None) -> None:
    """The share of candidates against p(candidate), before a calibrator and, where there is one, after it."""
    axes.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls=":")
    text = f"expected error {found['expected_error']:.4f}, Brier score {found['brier']:.4f}"
    label = text if calibrated is None else f"as scored: {text}"
    _draw_bins(axes, found["bins"], fmt="o-", color="tab:blue", label=label)
    if calibrated is not None:
        text = f"expected error {calibrated['expected_error']:.4f}, Brier score {calibrated['brier']:.4f}"
        label = f"{calibrated['kind']}: {text}"
        _draw_bins(axes, calibrated["bins"], fmt="s--", color="tab:orange", label=label)
    axes.set(xlabel="mean p(candidate) of a bin", ylabel="share of candidates, 95%")
    axes.legend(fontsize=8, loc="upper left")


def _draw_bins(axes: "Axes", bins: Sequence[Mapping[str, Any]], **style: Any) -> None:
    """The bins that have stamps, with their intervals and counts."""
    rows = [row for row in bins if row["stamps"]]
    x, y = ([row[name] for row in rows] for name in ("mean_probability", "candidates"))
    low, high = (np.array([row["interval"][end] for row in rows]) for end in (0, 1))
    axes.errorbar(x, y, np.maximum(0, [y - low, high - y]), ms=4, lw=1, **style)
    for row in rows:
        where = (row["mean_probability"], row["candidates"])
        axes.annotate(f"{row['stamps']:,}", where, (5, -9), size=7, color="0.4", textcoords="offset points")


def det_curves(path: str | Path, curves: Curves) -> None:
    """FNR against FPR for each model by name, as PNG (Fig. 2)."""
    figure = new_figure()
    axes = figure.subplots()
    draw_det(axes, curves)
    axes.legend()
    save(figure, path, overwrite=True)


def draw_det(axes: "Axes", curves: Curves) -> None:
    """The DET curves on logarithmic axes, where 0 has no place."""
    for name, (fpr, fnr) in curves.items():
        axes.step(fpr, fnr, where="post", label=name, lw=1.2)
    axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
    axes.grid(which="both", color="0.9")
