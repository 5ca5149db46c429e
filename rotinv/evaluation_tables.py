"""What evaluation.evaluate found, as text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rotinv.metrics import FIGURES

Found = Mapping[str, Any]


def lines(found: Found, each: Mapping[str, Found]) -> Iterator[str]:
    """The figures of each model by name, then what `found` has of thresholds, SNR, kinds and calibration."""
    yield f"{found['stamps']:,} stamps: {found['candidates']:,} candidates, {found['artifacts']:,} artifacts"
    yield f"brackets: {found['intervals']['level']:.0%} intervals (Wilson; F1 and FNR: bootstrap over stamps)"
    for name, one in each.items():
        yield ""
        yield name
        yield from _figures(one)
    last = list(each)[-1]
    yield from _section(f"at fixed FPR, {last}", _thresholds(found))
    if "by_snr" in found:
        yield from _section(f"by SNR, {last}, at threshold 0.5", _by_snr(found["by_snr"]))
    if "by_kind" in found:
        yield from _section(f"by kind, {last}, share accepted at threshold 0.5", _by_kind(found["by_kind"]))
    yield from _section(f"calibration, {last}", _calibration(found["calibration"]))


def percent(value: float | None, digits: int = 3) -> str:
    """A share in percent; what does not exist is said to be undefined."""
    return "undefined" if value is None else f"{value:.{digits}%}"


def bracket(interval: Sequence[float] | None, digits: int = 3) -> str:
    """An interval of shares in percent."""
    return "" if interval is None else f"[{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"


def _section(title: str, rows: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from rows


def _figures(found: Found) -> Iterator[str]:
    for name in FIGURES:
        yield f"  {name:<14}{percent(found[name]):>10}  {bracket(found['intervals'][name])}"


def _thresholds(found: Found) -> Iterator[str]:
    yield f"  {'FPR':>6}  {'FNR':>10}  {'':22}threshold"
    for fpr, fnr in found["fnr_at_fpr"].items():
        threshold = found["thresholds"][fpr]
        at = "none" if threshold is None else f"{threshold:.9g}"
        interval = bracket(found["intervals"]["fnr_at_fpr"][fpr])
        yield f"  {float(fpr):>6.1%}  {percent(fnr):>10}  {interval:<22}{at}"


def _by_snr(rows: Sequence[Found]) -> Iterator[str]:
    yield f"  {'SNR':<12}{'candidates':>11}  {'completeness':<27}{'artifacts':>10}  FPR"
    for row in rows:
        if row["candidates"] or row["artifacts"]:
            complete = _with_interval(row, "completeness", row["candidates"])
            wrong = _with_interval(row, "fpr", row["artifacts"])
            yield (
                f"  {span(row):<12}{row['candidates']:>11,}  {complete:<27}{row['artifacts']:>10,}  {wrong}"
            ).rstrip()


def span(row: Found) -> str:
    """A bin's ends."""
    if row["from"] is None:
        return f"below {row['to']:g}"
    return f"from {row['from']:g}" if row["to"] is None else f"{row['from']:g} to {row['to']:g}"


def _by_kind(rows: Sequence[Found]) -> Iterator[str]:
    for row in rows:
        share = _with_interval(row, "accepted", row["stamps"])
        yield f"  {row['kind']:<26}{row['stamps']:>10,}  {share}"


def _with_interval(row: Found, name: str, count: int) -> str:
    return f"{percent(row[name], 2):>8} {bracket(row[f'{name}_interval'], 2)}" if count else ""


def _calibration(found: Found) -> Iterator[str]:
    yield f"  expected error {found['expected_error']:.5f}, Brier score {found['brier']:.5f}"
    yield f"  {'p(candidate)':<14}{'stamps':>9}  {'mean p':>8}  candidates"
    for row in found["bins"]:
        if row["stamps"]:
            share = f"{percent(row['candidates'], 2):>8} {bracket(row['interval'], 2)}"
            where = f"{row['from']:g} to {row['to']:g}"
            yield f"  {where:<14}{row['stamps']:>9,}  {row['mean_probability']:>8.4f}  {share}"
