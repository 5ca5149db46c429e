"""Each measure of maps, with its table, its curves and its picture: what the program perturb can be asked
for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp.quality import figures, perturbation, randomisation
from rotinv.lrp.quality.perturbation import How
from rotinv.lrp.quality.ways import ALL, Way, by_class, mean_and_error
from rotinv.nn.contract import Kernels
from rotinv.runs.model import Model
from rotinv.system.messages import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What is measured: `classes` (n,) are those predicted for the stamps (n, h, h, c), which the model
    reads so; `indices` (n,) are their places in the data. `progress` is told how many stamps were done."""

    k: Kernels
    model: Model
    stamps: NDArray[np.float32]
    indices: NDArray[np.int64]
    classes: NDArray[np.int64]
    ways: Sequence[Way]
    how: How
    progress: Callable[[int], object]

    @property
    def regions(self) -> str:
        """The regions in words."""
        return f"regions of {self.how.region}x{self.how.region} pixels"


@dataclass(frozen=True)
class Outcome:
    """What a measure found.

    `title` says what was measured. `rows` have "method", "class" and "stamps", and the numbers whose
    headings `columns` has; `sort` is the column by which a table is sorted, the largest on top, if there
    is one. `curves` are the means that a picture shows, and `draw` draws it.
    """

    title: str
    columns: dict[str, str]
    rows: list[Row]
    sort: str
    curves: dict[str, Any]
    draw: Callable[["Figure"], object]


def aopc(task: Task) -> Outcome:
    """The AOPC of each way, and how far it is above the random order's, stamp by stamp."""
    results = list(
        perturbation.measure(
            task.k, task.model, task.stamps, task.indices, task.ways, task.how, task.progress
        )
    )
    random = results[-1].aopc()
    rows = []
    for result in results:
        values = {"aopc": result.aopc(), "above_random": result.aopc() - random}
        rows += _rows({"method": result.name}, values, task)
    followed = {result.name: result.drops for result in results}
    return Outcome(
        f"AOPC of the {task.how.of} over {task.how.steps} {task.regions}",
        {"aopc": "AOPC", "error": "+-", "above_random": "above random", "above_random_error": "+-"},
        [{("error" if key == "aopc_error" else key): cell for key, cell in row.items()} for row in rows],
        "aopc",
        {"mean_drop": {name: drops.mean(axis=0).tolist() for name, drops in followed.items()}},
        lambda figure: figures.draw_drops(
            followed, f"{task.how.of} of the class predicted at first", figure.subplots()
        ),
    )


def insertion(task: Task) -> Outcome:
    """The area under the score while regions return to the blurred stamp, and between the orders."""
    return _areas(task, insert=True)


def deletion(task: Task) -> Outcome:
    """The area under the score while regions are replaced by noise, and between the two orders."""
    return _areas(task, insert=False)


def _areas(task: Task, *, insert: bool) -> Outcome:
    found = list(
        perturbation.insertion_or_deletion(
            task.k, task.model, task.stamps, task.indices, task.ways, task.how, task.progress, insert=insert
        )
    )
    rows, between = [], {}
    for one in found:
        most, least = perturbation.areas(one.most_first), perturbation.areas(one.least_first)
        values = {
            "most_first": most,
            "least_first": least,
            "between": most - least if insert else least - most,
        }
        rows += _rows({"method": one.name}, values, task)
        between[one.name] = float(values["between"].mean())
    most_first = {one.name: one.most_first for one in found}
    least_first = {one.name: one.least_first for one in found}
    name = "insertion" if insert else "deletion"
    return Outcome(
        f"{name}: area under the {task.how.of} over {task.how.steps} {task.regions}",
        {
            **{"most_first": "most first", "most_first_error": "+-"},
            **{"least_first": "least first", "least_first_error": "+-"},
            **{"between": "between", "between_error": "+-"},
        },
        rows,
        "between",
        {
            "mean_most_first": {name: curve.mean(axis=0).tolist() for name, curve in most_first.items()},
            "mean_least_first": {name: curve.mean(axis=0).tolist() for name, curve in least_first.items()},
        },
        lambda figure: figures.draw_scores(
            most_first, least_first, between, task.how.of, insert, figure.subplots()
        ),
    )


def randomise(task: Task) -> Outcome:
    """How alike maps are to those of the network whose last layers are random, and how their entropy
    rises."""
    found = list(
        randomisation.cascade(
            task.k, task.model, task.stamps, task.indices, task.classes, task.ways, task.how, task.progress
        )
    )
    rows = []
    for one in found:
        for i, layer in enumerate(one.layers):
            columns = ("spearman", "ssim", "entropy_rise")
            values = {name: getattr(one, name)[:, i] for name in columns}
            rows += _rows({"method": one.name, "down_to": layer}, values, task)
    each = {
        name: {one.name: getattr(one, name) for one in found} for name in ("spearman", "ssim", "entropy_rise")
    }

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(8.5, 11)
        labels = ("Spearman's rank correlation", "SSIM", "rise of the entropy, a share")
        for axes, name, label in zip(figure.subplots(3), each, labels, strict=True):
            figures.draw_similarity(each[name], found[0].layers, label, axes)

    smooth = f", means over {task.how.smooth} noisy copies" if task.how.smooth else ""
    return Outcome(
        f"randomisation of the weights from the logits down{smooth}: likeness to the trained network's maps",
        {
            **{"spearman": "Spearman", "spearman_error": "+-", "ssim": "SSIM", "ssim_error": "+-"},
            **{"entropy_rise": "entropy rise", "entropy_rise_error": "+-"},
        },
        rows,
        "",
        {
            f"mean_{name}": {way: values.mean(axis=0).tolist() for way, values in by_way.items()}
            for name, by_way in each.items()
        },
        draw,
    )


MEASURES: dict[str, Callable[[Task], Outcome]] = {
    "aopc": aopc,
    "insertion": insertion,
    "deletion": deletion,
    "randomisation": randomise,
}


def work(name: str, task: Task) -> int:
    """How many stamps `progress` is told of by the measure of that name."""
    if name == "randomisation":
        return len(task.stamps) * len(task.ways) * (1 + task.how.draws * len(task.model.network.weighted))
    return len(task.stamps) * (len(task.ways) + 1)


def _rows(names: Row, values: dict[str, NDArray[np.float64]], task: Task) -> list[Row]:
    """A row for all stamps and one for each class: the mean of each of the values (n,) and its standard
    error."""
    rows = []
    for name, members in by_class(task.classes, task.model.config.classes.names):
        row = {**names, "class": name, "stamps": int(members.sum())}
        for key, each in values.items():
            row[key], row[f"{key}_error"] = mean_and_error(each[members])
        rows.append(row)
    return rows


def lines(outcome: Outcome) -> list[str]:
    """The rows as text: a table of all stamps, then one for each class."""
    found: list[str] = []
    cascade = "down_to" in outcome.rows[0]
    wide = max(30, *(len(row["method"]) + 2 for row in outcome.rows))
    names = f"{'method':<{wide}}" + (f"{'random down to':<18}" if cascade else "")
    widths = [max(12, len(heading) + 3) for heading in outcome.columns.values()]
    heads = "".join(f"{text:>{w}}" for text, w in zip(outcome.columns.values(), widths, strict=True))
    for group in dict.fromkeys(row["class"] for row in outcome.rows):
        rows = [row for row in outcome.rows if row["class"] == group]
        if outcome.sort:
            rows.sort(key=lambda row: -row[outcome.sort])
        if group != ALL:
            found += ["", f"predicted {group}: {counted(rows[0]['stamps'], 'stamp')}"]
        found.append(names + heads)
        for row in rows:
            cells = (_number(row[key]) for key in outcome.columns)
            label = f"{row['method']:<{wide}}" + (f"{row['down_to']:<18}" if cascade else "")
            found.append(label + "".join(f" {cell:>{w - 1}}" for cell, w in zip(cells, widths, strict=True)))
    return found


def _number(value: float) -> str:
    """With four decimals, or, where that takes too much room, with four digits and an exponent."""
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.3e}"
