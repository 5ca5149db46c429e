"""The steps that read scores: Table II, Fig. 2, and the ensembles (the paper's future work)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import ensembles, rates, significance
from rotinv.metrics.report_text import bracket
from rotinv.metrics.significance import McNemar, Welch
from rotinv.paper import figures, published
from rotinv.paper.material import all_scores
from rotinv.paper.place import ARCHS, Place
from rotinv.paper.published import NAMES
from rotinv.paper.sheets import Sheet, Table
from rotinv.system.workers import Progress

MEMBERS = 3  # of CAPE
_HEADS = ("accuracy", "precision", "recall", "F1")


class Tested(NamedTuple):
    """The scores (models, n) of all trials by architecture; "cape" are all triples of CAP trials."""

    label: NDArray
    scores: dict[str, NDArray]

    def figures(self, arch: str) -> dict[str, list[float | None]]:
        """metrics.FIGURES of each model, in percent."""
        each = [rates.confusion(self.label, rates.classify(p)) for p in self.scores[arch]]
        found = [rates.of_counts(counts) for counts in each]
        return {
            name: [None if (value := one[name]) is None else 100 * value for one in found]
            for name in rates.FIGURES
        }


def tested(at: Place, trials: int) -> Tested:
    """All that was scored."""
    scores, label = {}, np.zeros(0)
    for arch in ARCHS:
        label, scores[arch] = all_scores(at, arch, trials)
    if trials >= MEMBERS:
        caps = scores["cap"]
        chosen = ensembles.choices(trials, MEMBERS)
        scores["cape"] = np.stack([ensembles.majority(caps[list(members)]) for members in chosen])
    return Tested(label, scores)


def table_2(at: Place, trials: int, tell: Progress) -> None:
    """Means and stds of the trials, and the tests of their differences."""
    of = tested(at, trials)
    found = {arch: of.figures(arch) for arch in of.scores}
    welch = {pair: _welch(found, of, *pair) for pair in published.WELCH if set(pair) <= of.scores.keys()}
    mcnemar = {pair: _mcnemar(of, trials, *pair) for pair in welch}
    tables = [_means(found), _welch_table(welch), _mcnemar_table(mcnemar)]
    data = {
        "figures": found,
        "welch": {f"{a} v {b}": tests for (a, b), tests in welch.items()},
        "mcnemar": {f"{a} v {b}": tests for (a, b), tests in mcnemar.items()},
        "ddof": significance.DDOF,
        "stamps": len(of.label),
    }
    title = f"Accuracy, precision, recall and F1 of {trials} trials on {len(of.label):,} test stamps"
    at.write_sheet("table2", Sheet("Table II", title, tables, list(_notes(trials)), data=data))


def fig_2(at: Place, trials: int, draws: int, tell: Progress) -> None:
    """DET curves, and FNR at fixed FPR with intervals."""
    of = tested(at, trials)
    last = "cape" if "cape" in of.scores else "cap"
    archs = [arch for arch in ("deephits", "cap", "cape") if arch in of.scores]
    curves = {NAMES[arch]: [rates.det_curve(of.label, p) for p in of.scores[arch]] for arch in archs}
    every = np.concatenate([of.scores[arch] for arch in archs])
    drawn = significance.resampled_fnr(of.label, every, rates.FPRS, draws)
    means: dict[str, NDArray] = {}
    start = 0
    for arch in archs:
        stop = start + len(of.scores[arch])
        means[arch], start = drawn[:, start:stop].mean(axis=1), stop
    tables, data = zip(*(_fnr_table(of, archs, last, means, i) for i in range(len(rates.FPRS))), strict=True)
    there = data[rates.FPRS.index(published.FPR)]
    ours = {NAMES[arch]: (there[arch]["mean"], there[arch]["interval"]) for arch in archs}
    theirs = {NAMES[arch]: fnr for arch, fnr in published.FNR.items()}
    title = f"DET curves on {len(of.label):,} test stamps"
    figures.det_picture(at.sheets / "fig2.png", curves, ours, theirs, published.FPR, at.captioned(title))
    notes = [
        "A line is the mean FNR of all trials (of CAPE: all triples) at each FPR, its band their range.",
        f"Intervals: 95%, bootstrap over stamps ({draws} draws), of the mean over the trials that there are; "
        "they do not tell how other trials would differ, the std over trials does. None is narrower than "
        "Wilson's, but of a difference, which has no width where no draw rejects a candidate.",
    ]
    about = "DET curves: whole, and around a FPR of 1e-2, with intervals; crosses are the paper's own"
    sheet = Sheet(
        "Fig. 2",
        title,
        tables[::-1],
        notes,
        [("fig2.png", about)],
        {f"{fpr:g}": one for fpr, one in zip(rates.FPRS, data, strict=True)},
    )
    at.write_sheet("fig2", sheet)


def ensemble(at: Place, trials: int, tell: Progress) -> None:
    """What every size and rule of ensembles of CAP comes to."""
    label, each = all_scores(at, "cap", trials)
    rows = ensembles.table(label, each, range(1, min(trials, 6) + 1), published.FPR)
    title = f"CAP models by number and rule, on {len(label):,} test stamps (the paper's future work)"
    figures.ensembles_picture(at.sheets / "ensembles.png", rows, at.captioned(title))
    names = (*rates.FIGURES, "fnr")
    cells = [
        (str(row.size), row.rule, str(row.choices), *(_share(*row.figures[name]) for name in names))
        for row in rows
    ]
    heads = ("models", "rule", "choices", *_HEADS, f"FNR at FPR {published.FPR:g}")
    notes = [
        "Mean ± std (ddof 1) over all choices of so many of the trials; choices overlap, so that the std is "
        "not that of independent ensembles, and the largest ensemble has none.",
        "majority: median of the probabilities, which at any threshold is the vote of an odd number; any, "
        "all: the largest, the least probability.",
    ]
    about = "Accuracy, and FNR at a FPR of 1e-2, against the number of CAP models, by rule"
    data = {"rows": [row._asdict() for row in rows]}
    sheet = Sheet(
        "Ensembles", title, [Table("in percent", heads, cells)], notes, [("ensembles.png", about)], data
    )
    at.write_sheet("ensembles", sheet)


def disjoint(of: Tested) -> NDArray:
    """CAPE's probabilities by the triples of CAP trials 1-3, 4-6, …, which share no trial."""
    caps = of.scores["cap"]
    return np.stack(
        [ensembles.majority(caps[i : i + MEMBERS]) for i in range(0, len(caps) - MEMBERS + 1, MEMBERS)]
    )


def _welch(found: dict, of: Tested, first: str, second: str) -> dict[str, Welch | None]:
    """Welch's test of each figure, in points of percent; of CAPE on triples that share no trial."""
    one = found[first]
    other = found[second] if second != "cape" else Tested(of.label, {"cape": disjoint(of)}).figures("cape")
    tests = {}
    for name in rates.FIGURES:
        a, b = ([value for value in values if value is not None] for values in (one[name], other[name]))
        defined = len(a) == len(one[name]) and len(b) == len(other[name])
        tests[name] = significance.welch(a, b) if defined else None
    return tests


def _mcnemar(of: Tested, trials: int, first: str, second: str) -> list[tuple[str, McNemar]]:
    """McNemar's test of each trial against the other's of the same number, or a triple that it is not in."""
    found, triples = [], ensembles.choices(trials, MEMBERS)
    for i in range(trials):
        place, name = i, f"{i + 1}"
        if second == "cape":
            others = [place for place, triple in enumerate(triples) if i not in triple]
            if not others:
                continue
            place, name = others[0], f"of {', '.join(str(member + 1) for member in triples[others[0]])}"
        one, other = (rates.classify(p) for p in (of.scores[first][i], of.scores[second][place]))
        label = f"{NAMES[first]} {i + 1} v {NAMES[second]} {name}"
        found.append((label, significance.mcnemar(of.label, one, other)))
    return found


def _means(found: dict[str, dict[str, list[float | None]]]) -> Table:
    heads = ["", "models", *(f"{name}{whose}" for name in _HEADS for whose in ("", " (paper)"))]
    rows = []
    for arch in (*ARCHS, "cape"):
        theirs = [f"{mean:.2f} ± {std:.2f}" for mean, std in published.TABLE_2[arch]]
        if arch in found:
            values = found[arch]
            ours = [_mean_std(values[name]) for name in rates.FIGURES]
            count = str(len(values["accuracy"]))
        else:
            ours, count = [f"needs {MEMBERS} trials"] * len(theirs), "0"
        cells = [cell for pair in zip(ours, theirs, strict=True) for cell in pair]
        rows.append((NAMES[arch], count, *cells))
    return Table("mean ± std, in percent", heads, rows)


def _welch_table(welch: dict) -> Table:
    rows = []
    for (first, second), tests in welch.items():
        for name, head, theirs in zip(rates.FIGURES, _HEADS, published.WELCH[first, second], strict=True):
            test, indicative = tests[name], " (indicative)" if second == "cape" else ""
            what = f"{NAMES[first]} v {NAMES[second]}, {head}{indicative}"
            if test is None:
                rows.append((what, "undefined", "", "undefined", f"{theirs:g}"))
            else:
                between = f"[{test.interval.low:+.3f}, {test.interval.high:+.3f}]"
                rows.append((what, f"{test.difference:+.3f}", between, f"{test.p:.2g}", f"{theirs:g}"))
    heads = ("", "difference, points", "95% interval", "p", "p (paper)")
    return Table("Welch's t-test of the means over trials", heads, rows)


def _mcnemar_table(mcnemar: Mapping[tuple[str, str], Sequence[tuple[str, McNemar]]]) -> Table:
    rows = []
    for tests in mcnemar.values():
        for name, test in tests:
            low, high = (100 * end for end in test.interval)
            between = f"[{low:+.3f}, {high:+.3f}]"
            counts = (str(test.only_first), str(test.only_second))
            rows.append((name, *counts, f"{100 * test.difference:+.3f}", between, f"{test.p:.2g}"))
    heads = ("", "only first right", "only second right", "accuracy, points", "95% interval", "p")
    return Table("McNemar's exact test on the shared test set", heads, rows)


def _fnr_table(
    of: Tested, archs: Sequence[str], last: str, drawn: Mapping[str, NDArray], place: int
) -> tuple[Table, dict[str, Any]]:
    """FNR at one FPR, and the numbers of it; `drawn` are the bootstrap's means over each one's trials."""
    fpr, theirs = rates.FPRS[place], {arch: "" for arch in archs} | {"less": ""}
    if fpr == published.FPR:
        theirs |= {arch: f"{100 * fnr:.3f}" for arch, fnr in published.FNR.items()}
        theirs["less"] = f"{100 * (published.FNR['cape'] - published.FNR['deephits']):+.3f} (CAPE)"
    means: dict[str, float] = {}
    rows: list[tuple[str, ...]] = []
    data: dict[str, Any] = {}
    for arch in archs:
        each = [rates.fnr_at_fpr(of.label, p, fpr) for p in of.scores[arch]]
        means[arch] = float(np.mean(each))
        std = significance.mean_std(each)[1]
        interval = significance.fnr_interval(means[arch], int(of.label.sum()), drawn[arch][:, place])
        data[arch] = {"each": each, "mean": means[arch], "std": std, "interval": interval}
        rows.append((NAMES[arch], str(len(each)), _share(means[arch], std), bracket(interval), theirs[arch]))
    less = means[last] - means["deephits"]
    interval = significance.percentiles(drawn[last][:, place] - drawn["deephits"][:, place])
    data["difference"] = {"of": last, "mean": less, "interval": interval}
    name = f"{NAMES[last]} less Deep-HiTS"
    rows.append((name, "", f"{100 * less:+.3f}", bracket(interval), theirs["less"]))
    heads = ("", "models", "mean ± std", "95% interval", "paper")
    return Table(f"FNR at FPR {fpr:g}, in percent", heads, rows), data


def _notes(trials: int) -> Iterator[str]:
    yield (
        f"Std over trials of ddof {significance.DDOF} (divided by n - {significance.DDOF}); the paper does "
        "not state its own. Figures are of the whole test set at threshold 0.5, not means over batches."
    )
    if trials >= MEMBERS:
        count, apart = len(ensembles.choices(trials, MEMBERS)), trials // MEMBERS
        text = (
            f"CAPE: the majority of three CAP models, all {count} triples of {trials} trials; they overlap, "
        )
        text += "so that their std is too small for independent ensembles. "
        if count == 1:
            text = "CAPE: the majority of the three CAP models. "
        if apart > 1:
            text += f"Its Welch test takes {apart} triples that share no trial, and is indicative only: they "
            text += "are few, and made of the very trials of CAP that they are compared with."
        else:
            text += "A Welch test of it needs two triples that share no trial."
        yield text
    else:
        yield f"CAPE needs {MEMBERS} trials; here there are {trials}."
    yield (
        "McNemar's test compares two classifiers on the same stamps. It has the power that few trials lack, "
        "but tells of these two trials alone: where rows of a pair contradict each other, trainings differ "
        "more than architectures. Its interval is Wilson's of the share that only the second gets right, "
        "among the stamps on which the two differ. Rows share test stamps and are not independent."
    )


def _mean_std(values: list[float | None]) -> str:
    mean, std = significance.mean_std(values)
    if mean is None:
        return "undefined"
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _share(mean: float | None, std: float | None) -> str:
    """A share's mean and std, in percent."""
    if mean is None:
        return "undefined"
    return f"{100 * mean:.3f}" if std is None else f"{100 * mean:.3f} ± {100 * std:.3f}"
