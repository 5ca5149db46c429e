"""The ledger of a single stamp for readers: a verdict, a table in percent, and a waterfall."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites, ledger, targets
from rotinv.lrp.attribution import Question, of_model, predicted_classes
from rotinv.lrp.ledger import LINES, Entry
from rotinv.lrp.trust import Trust, trust
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import exact_kernels
from rotinv.nn.linear import Conv2d, Dense
from rotinv.runs.model import Model, at_threshold, verdict
from rotinv.stamps.classes import TWO, Classes
from rotinv.system.pictures import new_axes, new_figure, save
from rotinv.system.tables import astropy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (
    *("layer", "received", "passed", "bias +", "bias -", "stabiliser", "one-sided", "dead", "crop"),
    *("rounding", "closing", "deviation"),
)
CLOSES = 1e-9  # of the largest amount in a ledger; float64 leaves about 1e-14
_KEEPING = {"z": "epsilon and gamma", "R": "alpha-beta and zplus"}  # rules, by the signs that they keep
_SMALL = 1e-3  # of the output's relevance: the waterfall draws all smaller lines as one


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """One decision of a network, with the account of its relevance from the logits down to the stamp.

    Printed, it is a table: a row for each layer, amounts in percent of the relevance at the output, but for
    rounding, closing error and deviation, which are shares as they are.

    Attributes
    ----------
    model : str
        The network's name.
    question : Question
        The rule, and what is shared out.
    index : int or None
        The stamp's number in its file, where it is from one.
    label : int or None
        1 candidate, 0 artifact, where it is known.
    logits : array (2,)
        Of artifact and candidate.
    probability : float
        p(candidate).
    entries : list of Entry
        A layer each, the last layer first; their arrays hold one number.
    deviations : list of float
        Of each layer's relevance from the float64 reference's, in shares of the largest.
    exact : bool
        Whether all was computed in fractions.
    classes : Classes
        Their names, and which is the candidate.
    threshold : float or None
        The p(candidate) from which a stamp is called a candidate, where it is not the most probable class.
    """

    model: str
    question: Question
    index: int | None
    label: int | None
    logits: NDArray[Any]
    probability: float
    entries: list[Entry]
    deviations: list[float]
    exact: bool = False
    classes: Classes = TWO
    threshold: float | None = None

    @property
    def predicted(self) -> int:
        """The class that the network gives the stamp: the most probable, a candidate from 0.5 or from the
        threshold on."""
        p = np.array([self.probability])
        return int(predicted_classes(self.logits[None], p, self.classes, self.threshold)[0])

    @property
    def output(self) -> float:
        """The sum of |R| at the output, in shares of which the table is told."""
        return float(np.abs(self.entries[0].received[0]))

    @property
    def title(self) -> str:
        """The stamp, the class that the network gives it, and its label where that is known."""
        which = "the stamp" if self.index is None else f"stamp {self.index}"
        truth = "" if self.label is None else f", labelled {self.classes.names[self.label]}"
        p = f"{self.probability:.6f}{at_threshold(self.threshold)}"
        predicted = verdict(self.classes, self.predicted, self.probability, self.threshold)
        return f"{which}: predicted {predicted}, {self.classes.p} {p}{truth}"

    def __str__(self) -> str:
        whole = f"100% is {self.output:.6g}, the sum of |R| at the output"
        if not self.output:
            whole = "the relevance at the output is 0, so that nothing is shared out"
        layer, *columns = COLUMNS
        lines = [f"{self.title}; {whole}", f"{layer:<26}" + "".join(f"{name:>11}" for name in columns)]
        for layer, *cells in self.cells():
            lines.append(f"{layer:<26}" + "".join(f"{cell:>11}" for cell in cells))
        if self.output:
            lines += [str(self.trust), *(f"doubtful: {doubt}" for doubt in self.trust.doubts)]
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def trust(self) -> Trust:
        """What share of the output the map holds, the largest losses, the deviation, and what is doubtful."""
        return trust(self.amounts(), self._turned())

    def _turned(self) -> str:
        """Which explained logit is below 0, so that its pixels have the opposite signs; empty if none.

        Where R is the logit, Eq. 4 hands R's sign to the products that raise the logit; Eqs. 2 and 3 keep the
        products' own. Where R is 1 or a probability, it is the other way round.
        """
        keeps = "R" if self.question.target in ("one", "probability") else "z"
        negative = [number for number in self._explained() if self.logits[number] < 0]
        if not negative or self._signs_at_logits() in ("none", keeps):
            return ""
        name, z = self.classes.names[negative[0]], float(self.logits[negative[0]])
        return (
            f"the logit of {name}, {z:.3g}, is negative, so that by this rule its pixels have the opposite "
            f"signs; {_KEEPING[keeps]} would keep them"
        )

    def _signs_at_logits(self) -> str:
        """Whose signs the rule of the last layer with weights keeps."""
        weighted = [one.layer for one in self.entries if one.layer.startswith((Dense.name, Conv2d.name))]
        rules = composites.named(self.question.rule)
        if not weighted:
            return "none"
        return rules.of(weighted[0], (len(self.logits),), is_first=len(weighted) == 1).signs

    def _explained(self) -> list[int]:
        """The classes whose logits are shared out: the runner-up's, too, in a difference."""
        if self.question.target not in targets.TARGETS:
            return [self.classes.number(self.question.target)]
        if self.question.target != "difference":
            return [self.predicted]
        others = [number for number in range(len(self.logits)) if number != self.predicted]
        return [self.predicted, max(others, key=lambda number: self.logits[number])]

    def amounts(self) -> list[dict[str, Any]]:
        """The rows of the table: a layer's amounts in shares of `output` (where that is 0, all are 0)."""
        unit = self.output or 1.0
        return [
            {
                "layer": entry.layer,
                "received": float(entry.received[0]) / unit,
                "passed": float(entry.passed[0]) / unit,
                **{line: float(entry.lines[line][0]) / unit for line in LINES},
                "closing_error": float(entry.closing_error[0]) / unit,
                "deviation": deviation,
            }
            for entry, deviation in zip(self.entries, self.deviations, strict=True)
        ]

    def cells(self) -> list[list[str]]:
        """The rows of the table as text, a cell for each of COLUMNS."""
        rows = []
        for entry, row in zip(self.entries, self.amounts(), strict=True):
            shares = [row["received"], row["passed"], *(row[line] for line in LINES[:-1])]
            closing = _zero_or(entry.closing_error[0]) if self.exact else f"{row['closing_error']:.1e}"
            rounding = _zero_or(entry.lines["rounding"][0]) if self.exact else f"{row['rounding']:.1e}"
            percents = [_percent(share) for share in shares]
            rows.append([row["layer"], *percents, rounding, closing, f"{row['deviation']:.1e}"])
        return rows

    def not_closed(self) -> Iterator[tuple[str, float]]:
        """The layers whose lines do not add up, each with what is left: a fault of a rule's account."""
        largest = max(float(np.abs(entry.received[0])) for entry in self.entries)
        for entry in self.entries:
            error = abs(float(entry.closing_error[0]))
            if not error <= CLOSES * largest:
                yield entry.layer, error

    def to_table(self) -> Any:
        """The amounts, in shares of the output's relevance, as an astropy Table.

        Raises UserError if astropy is not installed (extra `alerts`).
        """
        about = {"model": self.model, "question": self.question.text, "output": self.output}
        return astropy_table(self.amounts(), about)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the waterfall: from the output's relevance down by what each line took, to the stamp's.

        Lines below a thousandth of the output's relevance are drawn together. Gives the axes; without `ax`
        they are new ones of matplotlib's pyplot.
        """
        axes = new_axes(height=_height(len(self._steps()))) if ax is None else ax
        _draw_waterfall(axes, self.amounts()[0]["received"], self._steps())
        axes.set_title(f"{self.model}, {self.question.rule}\n{self.title}", size=10, wrap=True)
        return axes

    def save_picture(self, path: str | Path) -> None:
        """Write the waterfall as PNG."""
        figure = new_figure(height=_height(len(self._steps())))
        self.plot(figure.subplots())
        save(figure, path, overwrite=True)

    def _steps(self) -> list[tuple[str, float]]:
        """What the waterfall draws: each line that is not small, then the sum of the others."""
        rows = self.amounts()
        lines = [(f"{row['layer']}: {line.replace('_', ' ')}", row[line]) for row in rows for line in LINES]
        large = [(name, amount) for name, amount in lines if abs(amount) > _SMALL]
        small = sum(amount for _, amount in lines if abs(amount) <= _SMALL)
        return [*large, ("all smaller lines", small)]

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.cells()
        )
        return f"<p>{html.escape(str(self).splitlines()[0])}</p><table><tr>{head}</tr>{rows}</table>"


def audits(
    k: Kernels,
    model: Model,
    stamps: NDArray[np.float32],
    question: Question,
    indices: Sequence[int] | None = None,
    labels: Sequence[int | None] | None = None,
    *,
    exact: bool = False,
) -> Iterator[Audit]:
    """The audit of each of the stamps (n, h, h, c), which are as the network reads them.

    The relevance that is audited is that of the device of `k`, or, if `exact`, that in fractions. Raises
    UserError for an unknown rule or target, and for a network that is too large for fractions.
    """
    rule, target = composites.named(question.rule), of_model(model, question.target)
    classes = model.config.classes
    if exact:
        k = exact_kernels()
        found = ledger.audit_exactly(model.network, model.params, stamps, rule, target)
    else:
        found = ledger.audit_on_device(k, model.network, model.params, stamps, rule, target)
    for i, (logits, entries, deviations) in enumerate(found):
        probability = float(k.to_host(k.softmax.forward(k.asarray(logits[None])))[0, classes.candidate])
        index = None if indices is None else int(indices[i])
        label = None if labels is None else labels[i]
        about = model.name, question, index, label, logits, probability
        yield Audit(*about, entries, deviations, exact, classes, model.threshold)


def _percent(share: float) -> str:
    return f"{100 * share:.4f}" if share else "0"


def _zero_or(fraction: Fraction) -> str:
    return "0" if fraction == 0 else f"{float(fraction):.1e}"


def _height(steps: int) -> float:
    """Inches of a waterfall with so many steps."""
    return 1.2 + 0.28 * (steps + 2)


def _draw_waterfall(axes: "Axes", start: float, steps: Sequence[tuple[str, float]]) -> None:
    axes.use_sticky_edges = False  # room for the numbers beside the bars
    axes.margins(x=0.2)
    level = start
    axes.barh(0, level, color="0.6")
    for row, (_, taken) in enumerate(steps, 1):
        axes.plot([level, level], [row - 1.4, row + 0.4], color="0.4", lw=0.8)
        axes.barh(row, -taken, left=level, color="tab:blue" if taken > 0 else "tab:red")
        _beside(axes, row, max(level, level - taken), f"{-taken:+.2%}")
        level -= taken
    axes.barh(len(steps) + 1, level, color="0.6")
    _beside(axes, len(steps) + 1, max(level, 0), f"{level:.2%}")
    axes.set_yticks(range(len(steps) + 2), ["output", *(name for name, _ in steps), "stamp"])
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", lw=0.8)
    axes.set_xlabel("sum of R, in shares of the output's |R|\n(blue: taken away, red: added)")


def _beside(axes: "Axes", row: int, right: float, text: str) -> None:
    axes.annotate(text, (right, row), (4, 0), va="center", size=8, textcoords="offset points")
