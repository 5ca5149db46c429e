"""Pictures of how good a classifier is: DET curve (Fig. 2), ROC curve, errors by SNR, and calibration.

Each function draws one panel on `ax` and gives it; without `ax`, it draws on new axes of matplotlib's pyplot.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from rotinv.metrics import rates
from rotinv.metrics.agreement import by_score
from rotinv.metrics.scores import SurveyScores
from rotinv.system import pictures
from rotinv.system.messages import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[
    str, tuple[NDArray, NDArray]
]  # by the model's name, FPR and FNR as rates.det_curve gives them
Points = Mapping[str, tuple[float, float] | None]  # by the model's name, FPR and FNR at the threshold 0.5


def evaluation_picture(
    path: str | Path,
    curves: Curves,
    each: Mapping[str, Mapping[str, Any]],
    title: str,
    agreement: "Agreement | None" = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write four panels as PNG or PDF: DET and ROC curves of all models, errors by SNR, and calibration; with
    an agreement, two more.

    `each` has the figures of every model (classification_report.evaluate); the last two panels are those of
    the last model. Raises UserError if the file exists, but for `overwrite`.
    """
    rows = 2 if agreement is None else 3
    figure = pictures.new_figure(4.25 * rows, width=11)
    grid = figure.subplots(rows, 2)
    if agreement is not None:
        _draw_agreements(agreement, grid[2])
    points = {name: working_point(found["confusion"]) for name, found in each.items()}
    draw_det(curves, points, grid[0, 0]).set_title("DET", size=10)
    draw_roc(curves, points, grid[0, 1]).set_title("ROC", size=10)
    last, found = list(each.items())[-1]
    if "by_snr" in found:
        draw_errors_by_snr(found["by_snr"], grid[1, 0])
        grid[1, 0].set_title(f"{last}: errors by SNR, threshold 0.5", size=10, wrap=True)
    else:
        grid[1, 0].set_axis_off()
        grid[1, 0].text(0.5, 0.5, "no SNR is known", ha="center", color="0.4")
    draw_calibration(found["calibration"], found.get("calibrated"), grid[1, 1])
    grid[1, 1].set_title(f"{last}: calibration", size=10, wrap=True)
    figure.suptitle(title, size=11, wrap=True)
    pictures.save(figure, path, overwrite=overwrite)


class Agreement(NamedTuple):
    """What is drawn of stamps (n,) that have one kind of a survey's own score.

    `row` is theirs of agreement.agreement, `survey` their scores, `probability` p(candidate) by the models'
    names, and `real` says which are real, by the labels or by the cut of the survey's score.
    """

    row: Mapping[str, Any]
    survey: NDArray
    probability: Mapping[str, NDArray]
    real: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, Any]],
        probability: Mapping[str, NDArray],
        survey: SurveyScores,
        label: NDArray | None = None,
    ) -> "Agreement":
        """Of that kind of score which most stamps have, and of all their scores and labels."""
        row = max(rows, key=lambda one: one["stamps"])
        here = by_score(probability, survey)[row["score"]]
        own = np.asarray(survey.score[here], np.float64)
        real = own >= row["cut"] if label is None else np.asarray(label)[here] == 1
        return cls(row, own, {name: p[here] for name, p in probability.items()}, real)


def agreement_picture(path: str | Path, agreement: Agreement, title: str, *, overwrite: bool = False) -> None:
    """Write two panels as PNG or PDF: p(candidate) by the last model beside the survey's score, ROC curves.

    Raises UserError if the file exists, but for `overwrite`.
    """
    figure = pictures.new_figure(4.6, width=11)
    _draw_agreements(agreement, figure.subplots(1, 2))
    figure.suptitle(title, size=11, wrap=True)
    pictures.save(figure, path, overwrite=overwrite)


def _draw_agreements(found: Agreement, axes: "Sequence[Axes]") -> None:
    (name, last), score = list(found.probability.items())[-1], found.row["score"]
    draw_agreement(last, found.survey, score, axes[0])
    axes[0].set_title(f"{name} and the survey's {score}: {counted(len(last), 'stamp')}", size=10, wrap=True)
    each, by = dict(found.probability), f"{score} of {found.row['cut']} and more"
    if found.row["cut"] is None:
        each, by = {**each, f"the survey's {score}": found.survey}, "the labels"
    if 0 < found.real.sum() < len(found.real):
        draw_roc({key: rates.det_curve(found.real, p) for key, p in each.items()}, ax=axes[1])
    else:
        axes[1].set_axis_off()
        axes[1].text(0.5, 0.5, "stamps of one class only", ha="center", color="0.4")
    axes[1].set_title(f"ROC against {by}", size=10, wrap=True)


def draw_agreement(probability: NDArray, score: NDArray, name: str, ax: "Axes | None" = None) -> "Axes":
    """Draw how many stamps have which p(candidate) and which of a survey's own scores, of that name."""
    axes = pictures.new_axes() if ax is None else ax
    drawn = axes.hexbin(
        *(probability, score), gridsize=24, extent=(0, 1, 0, 1), bins="log", mincnt=1, cmap="viridis_r"
    )
    axes.figure.colorbar(drawn, ax=axes, label="stamps")
    axes.set(xlabel="p(candidate)", ylabel=f"{name} of the survey", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    return axes


def span(row: Mapping[str, Any]) -> str:
    """The ends of a bin of SNR, as text."""
    if row["from"] is None:
        return f"below {row['to']:g}"
    return f"from {row['from']:g}" if row["to"] is None else f"{row['from']:g} to {row['to']:g}"


def det_picture(path: str | Path, curves: Curves, points: Points | None = None) -> None:
    """Write the DET curves as PNG or PDF, in place of a picture that is there."""
    figure = pictures.new_figure()
    draw_det(curves, points, figure.subplots())
    pictures.save(figure, path, overwrite=True)


def working_point(counts: Mapping[str, int]) -> tuple[float, float] | None:
    """FPR and FNR from the counts of rates.confusion; None where a class is absent."""
    artifacts = counts["false_positives"] + counts["true_negatives"]
    candidates = counts["false_negatives"] + counts["true_positives"]
    if not artifacts or not candidates:
        return None
    return counts["false_positives"] / artifacts, counts["false_negatives"] / candidates


def draw_det(curves: Curves, points: Points | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw FNR against FPR (Fig. 2) and mark the `points`.

    The axes are logarithmic and have no place for 0: a marked point of rate 0 stands at the axes' edge.
    """
    axes = pictures.new_axes() if ax is None else ax
    for place, (name, (fpr, fnr)) in enumerate(curves.items()):
        look = pictures.style(place)
        axes.step(fpr, fnr, where="post", label=name, lw=1.3, color=look.colour, ls=look.line)
    axes.set(xscale="log", yscale="log", xlabel="false positive rate", ylabel="false negative rate")
    if all(_separates(fpr, fnr) for fpr, fnr in curves.values()):
        text = "no curve: at some threshold no stamp is wrong,\nand the axes have no place for 0"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35")
    axes.set_xlim(*_ends([fpr for fpr, _ in curves.values()]))
    axes.set_ylim(*_ends([fnr for _, fnr in curves.values()]))
    _mark(axes, list(curves), points or {})
    axes.grid(which="both", color="0.9")
    axes.legend(fontsize=8, loc="best")
    return axes


def _separates(fpr: NDArray, fnr: NDArray) -> bool:
    """Whether a threshold parts the classes: then no point of the curve has two rates above 0."""
    return not np.any((fpr > 0) & (fnr > 0))


def draw_roc(curves: Curves, points: Points | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the true positive rate against FPR, with the area under each curve, and mark the `points`."""
    axes = pictures.new_axes() if ax is None else ax
    for place, (name, (fpr, fnr)) in enumerate(curves.items()):
        area, look = float(scipy.integrate.trapezoid(1 - fnr, fpr)), pictures.style(place)
        label = f"{name}: area {area:.5f}"
        axes.plot(fpr, 1 - fnr, lw=1.3, label=label, color=look.colour, ls=look.line)
    axes.set(xscale="log", xlabel="false positive rate", ylabel="true positive rate")
    axes.set_xlim(*_ends([fpr for fpr, _ in curves.values()]))
    _mark(axes, list(curves), {name: p and (p[0], 1 - p[1]) for name, p in (points or {}).items()})
    axes.grid(which="both", color="0.9")
    axes.legend(fontsize=8, loc="lower right")
    return axes


def draw_errors_by_snr(rows: Sequence[Mapping[str, Any]], ax: "Axes | None" = None) -> "Axes":
    """Draw the shares of wrong stamps in bins of SNR (1 - completeness, and FPR), with 95% intervals.

    `rows` are `by_snr` of classification_report.evaluate.
    """
    axes = pictures.new_axes() if ax is None else ax
    x = np.arange(len(rows))
    for shift, name, label, marker, colour in (
        (-0.12, "completeness", "candidates rejected (1 - completeness)", "o", pictures.BLUE),
        (0.12, "fpr", "artifacts accepted (FPR)", "s", pictures.VERMILION),
    ):
        known = [i for i, row in enumerate(rows) if row[name] is not None]
        value = np.array([rows[i][name] for i in known])
        low, high = (np.array([rows[i][f"{name}_interval"][end] for i in known]) for end in (0, 1))
        if name == "completeness":
            value, low, high = 1 - value, 1 - high, 1 - low
        bars = np.maximum(0, [value - low, high - value])
        axes.errorbar(x[known] + shift, value, bars, fmt=marker, ms=4, lw=1, color=colour, label=label)
    axes.set_xticks(x, [span(row).replace(" to ", "-") for row in rows], rotation=45, ha="right", fontsize=7)
    axes.set(xlabel="SNR", ylabel="share wrong (bars: 95%)")
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(0, 9)  # room for the legend above 1
    axes.set_yticks([0, 1e-3, 1e-2, 1e-1, 1])
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, loc="upper right")
    return axes


def draw_calibration(
    found: Mapping[str, Any], calibrated: Mapping[str, Any] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the share of candidates against the mean p(candidate) in bins of p, with 95% intervals and the
    number of stamps in each bin.

    `found` is what classification_report.calibration gives, `calibrated` the same after a calibrator.
    """
    axes = pictures.new_axes() if ax is None else ax
    axes.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls=":")
    text = _errors(found)
    label = text if calibrated is None else f"as scored: {text}"
    _draw_bins(axes, found["bins"], fmt="o-", color=pictures.BLUE, label=label)
    if calibrated is not None:
        label = f"{calibrated['kind']}: {_errors(calibrated)}"
        _draw_bins(axes, calibrated["bins"], fmt="s--", color=pictures.VERMILION, label=label)
    axes.set(xlabel="mean p(candidate) of a bin", ylabel="share of candidates (bars: 95%)")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.07, 1.25))  # room for the legend
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(fontsize=8, loc="upper left")
    return axes


def _errors(found: Mapping[str, Any]) -> str:
    return f"expected error {found['expected_error']:.4f}, Brier score {found['brier']:.4f}"


def _draw_bins(axes: "Axes", bins: Sequence[Mapping[str, Any]], **look: Any) -> None:
    """The bins that have stamps, with their intervals and, to the side where there is room, their counts."""
    rows = [row for row in bins if row["stamps"]]
    x, y = ([row[name] for row in rows] for name in ("mean_probability", "candidates"))
    low, high = (np.array([row["interval"][end] for row in rows]) for end in (0, 1))
    axes.errorbar(x, y, np.maximum(0, [y - low, high - y]), ms=4, lw=1, **look)
    for row in rows:
        where, right = (row["mean_probability"], row["candidates"]), row["mean_probability"] > 0.5
        place: dict[str, Any] = {"xytext": (-5, 5) if right else (5, -9), "ha": "right" if right else "left"}
        axes.annotate(f"{row['stamps']:,}", where, size=7, color="0.35", textcoords="offset points", **place)


def _ends(each: Sequence[NDArray]) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds all positive rates, with room below the least."""
    least = min(float(rates[rates > 0].min(initial=1.0)) for rates in each)
    return 0.7 * min(least, 0.5), 1.2


def _mark(axes: "Axes", names: Sequence[str], points: Points) -> None:
    """Mark each model's working point, in its colour."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for place, name in enumerate(names):
        if (point := points.get(name)) is not None:
            x, y = max(point[0], left), min(max(point[1], bottom), top)
            look = pictures.style(place)
            text = f"p ≥ 0.5: FPR {point[0]:.2%}"
            axes.plot(
                x, y, look.marker, color=look.colour, mec="black", ms=7, label=text, clip_on=False, zorder=5
            )
    axes.set(xlim=(left, right), ylim=(bottom, top))
