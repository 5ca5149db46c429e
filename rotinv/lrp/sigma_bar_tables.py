"""Table III: the moments of each class's sigma-bar, of the sample and of its fit, as text, CSV and JSON."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import noncentral_t
from rotinv.metrics.noncentral_t import DDOF, MOMENTS, Fit, Moments
from rotinv.stamps.classes import TWO
from rotinv.system.files import written_whole

UNDEFINED = "undefined"
_PARAMETERS = ("df", "nc", "loc", "scale", "log_likelihood", "distance")


@dataclass(frozen=True)
class Group:
    """The sigma-bars (n,) of one model, channel and class, with their moments and their fit."""

    model: str
    channel: str
    name: str
    values: NDArray[np.float64]
    sample: Moments
    fit: Fit | str  # or why there is none

    @property
    def status(self) -> str:
        """How the fit went."""
        return self.fit if isinstance(self.fit, str) else self.fit.status

    @property
    def fitted(self) -> Moments:
        """The fit's own moments; undefined without a fit."""
        if isinstance(self.fit, str):
            return Moments(None, None, None, None, dict.fromkeys(MOMENTS, f"no fit: {self.fit}"))
        return self.fit.moments()

    @property
    def parameters(self) -> dict[str, float | None]:
        """The fit's parameters, log-likelihood and distance; None without a fit."""
        return {name: getattr(self.fit, name, None) for name in _PARAMETERS}


def row(group: Group) -> dict[str, Any]:
    """A line of the CSV."""
    values: dict[str, Any] = {"ddof": DDOF}
    for what, moments in (("sample", group.sample), ("fit", group.fitted)):
        values |= {f"{what}_{name}": getattr(moments, name) for name in MOMENTS}
    values |= group.parameters
    shown = {name: UNDEFINED if value is None else value for name, value in values.items()}
    first = {"model": group.model, "channel": group.channel, "class": group.name, "n": len(group.values)}
    return {**first, **shown, "status": group.status}


def entry(group: Group) -> dict[str, Any]:
    """An object of the JSON; what is undefined is None, and `undefined` says why."""
    return {
        "model": group.model,
        "channel": group.channel,
        "class": group.name,
        "n": len(group.values),
        "sample": _moments(group.sample),
        "fit": {"status": group.status, **group.parameters, **_moments(group.fitted)},
    }


def write_csv(path: str | Path, groups: Sequence[Group], *, overwrite: bool = False) -> None:
    """Write Table III as CSV, a line for each group.

    Raises UserError if the file exists and may not be overwritten.
    """
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(row(groups[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(row, groups))


def document(
    groups: Sequence[Group],
    tables: Mapping[str, NDArray],
    channels: Mapping[str, int],
    indices: NDArray[np.int64],
    label: NDArray | None,
) -> dict[str, Any]:
    """Table III and the sigma-bar of each stamp, for JSON.

    `tables` has the sigma-bars (n, C) of each model, `channels` the channels to show with their places in C,
    `indices` and `label` are of the n stamps. What is undefined is None, and `undefined` says why.
    """
    return {
        "ddof": DDOF,
        "table": [entry(group) for group in groups],
        "index": indices.tolist(),
        "label": None if label is None else label.tolist(),
        "sigma_bar": {
            model: {channel: table[:, column].tolist() for channel, column in channels.items()}
            for model, table in tables.items()
        },
    }


def lines(groups: Sequence[Group]) -> Iterator[str]:
    """The table as text: of each class the sample's moments, the fit's own below them, and how it went."""
    yield f"sample: its moments, ddof {DDOF}; fit: those of the non-central t of greatest likelihood itself"
    yield "kurtosis is in excess of 3; KS: Kolmogorov and Smirnov's distance of the fit from the sample"
    yield ""
    heads = ("model", "channel")
    widths = {name: max(len(name), *(len(getattr(g, name)) for g in groups)) + 2 for name in heads}
    first = f"{'model':<{widths['model']}}{'channel':<{widths['channel']}}{'class':<11}{'n':>6}"
    yield f"{first}  {'':6}" + "".join(f"{name:>13}" for name in MOMENTS)
    for group in groups:
        names = "".join(f"{getattr(group, name):<{width}}" for name, width in widths.items())
        yield f"{names}{group.name:<11}{len(group.values):>6}  sample{_cells(group.sample)}"
        yield f"{'':{len(first)}}  fit   {_cells(group.fitted)}"
        yield f"{'':{len(first)}}  {_verdict(group)}"


def _moments(moments: Moments) -> dict[str, Any]:
    values = asdict(moments)
    return {**{name: values[name] for name in MOMENTS}, "undefined": moments.reasons}


def _cells(moments: Moments) -> str:
    values = [getattr(moments, name) for name in MOMENTS]
    return "".join(f"{UNDEFINED if value is None else format(value, '.4g'):>13}" for value in values)


def _verdict(group: Group) -> str:
    if isinstance(group.fit, str):
        return f"no fit: {group.fit}"
    f = group.fit
    parameters = f"df {f.df:.4g}, nc {f.nc:.4g}, loc {f.loc:.4g}, scale {f.scale:.4g}"
    return f"{parameters}, log L {f.log_likelihood:.2f}, KS {f.distance:.4f}: {f.status}"


def groups(
    tables: Mapping[str, NDArray],
    channels: Mapping[str, int],
    label: NDArray | None,
    names: Sequence[str] = TWO.names,
) -> Iterator[Group]:
    """Every model, channel (by its place) and class, of these names by label, with its moments and its fit.

    All stamps are one class, "all", where their labels are unknown.
    """
    for model, table in tables.items():
        for channel, column in channels.items():
            values = table[:, column]
            classes = [("all", values)] if label is None else [
                (name, values[label == number]) for number, name in enumerate(names)
            ]  # fmt: skip
            for name, of_class in classes:
                sample, fit = noncentral_t.sample_moments(of_class), noncentral_t.fit_noncentral_t(of_class)
                yield Group(model, channel, name, of_class, sample, fit)
