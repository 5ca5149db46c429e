"""Table III: a class's moments of sigma-bar, the sample's beside the fit's own, as text, CSV and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.rotation import DDOF, MOMENTS, Fit, Moments

UNDEFINED = "undefined"
_PARAMETERS = ("df", "nc", "loc", "scale", "log_likelihood", "distance")


@dataclass(frozen=True)
class Group:
    """The sigma-bars (n,) of one model, channel and class, and what they come to."""

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


def lines(groups: Sequence[Group]) -> Iterator[str]:
    """The table as text: of each class the sample's moments, the fit's own below them, and how it went."""
    yield f"sample: its moments, ddof {DDOF}; fit: those of the non-central t of greatest likelihood itself"
    yield "kurtosis is in excess of 3; KS: Kolmogorov and Smirnov's distance of the fit from the sample"
    yield ""
    widths = {name: max(len(getattr(g, name)) for g in groups) + 2 for name in ("model", "channel")}
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
