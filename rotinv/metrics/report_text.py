"""The text of a classification report: figures with their intervals, thresholds, errors by SNR and kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rotinv.metrics.agreement import agreement_lines
from rotinv.metrics.curves import span
from rotinv.metrics.one_against_rest import lines as class_lines
from rotinv.metrics.rates import FIGURES
from rotinv.system.messages import counted

Found = Mapping[str, Any]  # what classification_report.evaluate gives


def report_lines(found: Found, each: Mapping[str, Found]) -> Iterator[str]:
    """The figures of each model by name, then what `found` has of thresholds, SNR, kinds and calibration."""
    classes = (counted(found[f"{name}s"], name) for name in ("candidate", "artifact"))
    yield f"{counted(found['stamps'], 'stamp')}: {', '.join(classes)}"
    yield f"brackets: {found['intervals']['level']:.0%} intervals (Wilson; F1 and FNR: bootstrap over stamps)"
    for name, one in each.items():
        yield ""
        yield name
        yield from _rate_lines(one)
    last = list(each)[-1]
    yield from _section(f"at fixed FPR, {last}", _threshold_lines(found))
    if "by_snr" in found:
        yield from _section(f"by SNR, {last}, at threshold 0.5", _snr_lines(found["by_snr"]))
    if "by_kind" in found:
        yield from _section(
            f"by kind, {last}, share accepted at threshold 0.5", _kind_lines(found["by_kind"])
        )
    if by_class := found.get("by_class"):
        title = f"each class against the rest, {last}, by the most probable class"
        yield from _section(title, class_lines(by_class))
    yield from _section(f"calibration, {last}", _calibration_lines(found["calibration"]))
    if calibrated := found.get("calibrated"):
        title = f"the same, calibrated by {calibrated['kind']} on the validation split"
        yield from _section(title, _calibration_lines(calibrated))
    yield from agreement_lines(found.get("agreement", []))


def kept_lines(kept: Found) -> Iterator[str]:
    """The thresholds that are kept, the split they are of, and their FPR and FNR on the stamps evaluated."""
    stamps = f"'{kept['split']}' ({counted(kept['stamps'], 'stamp')})"
    title = f"kept thresholds, of {stamps}, and what they come to on '{kept['on']}'"
    yield from _section(title, _kept_lines(kept["at_fpr"]))


def _kept_lines(rows: Found) -> Iterator[str]:
    yield f"  {'for FPR':>7}  {'FPR':>10}  {'FNR':>10}  threshold"
    for fpr, row in rows.items():
        at = "none" if row["threshold"] is None else f"{row['threshold']:.9g}"
        yield f"  {float(fpr):>7.1%}  {percent(row['fpr']):>10}  {percent(row['fnr']):>10}  {at}"


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


def _rate_lines(found: Found) -> Iterator[str]:
    for name in FIGURES:
        yield f"  {name:<14}{percent(found[name]):>10}  {bracket(found['intervals'][name])}"


def _threshold_lines(found: Found) -> Iterator[str]:
    yield f"  {'FPR':>6}  {'FNR':>10}  {'':22}threshold"
    for fpr, fnr in found["fnr_at_fpr"].items():
        threshold = found["thresholds"][fpr]
        at = "none" if threshold is None else f"{threshold:.9g}"
        interval = bracket(found["intervals"]["fnr_at_fpr"][fpr])
        yield f"  {_fpr(float(fpr)):>6}  {percent(fnr):>10}  {interval:<22}{at}"


def _fpr(fpr: float) -> str:
    """A FPR in percent, with a digit after the point, or as many as it needs."""
    text = f"{100 * fpr:.6g}"
    return f"{text if '.' in text else text + '.0'}%"


def _snr_lines(rows: Sequence[Found]) -> Iterator[str]:
    yield f"  {'SNR':<12}{'candidates':>11}  {'completeness':<27}{'artifacts':>10}  FPR"
    for row in rows:
        if row["candidates"] or row["artifacts"]:
            complete = _with_interval(row, "completeness", row["candidates"])
            wrong = _with_interval(row, "fpr", row["artifacts"])
            yield (
                f"  {span(row):<12}{row['candidates']:>11,}  {complete:<27}{row['artifacts']:>10,}  {wrong}"
            ).rstrip()


def _kind_lines(rows: Sequence[Found]) -> Iterator[str]:
    for row in rows:
        share = _with_interval(row, "accepted", row["stamps"])
        yield f"  {row['kind']:<26}{row['stamps']:>10,}  {share}"


def _with_interval(row: Found, name: str, count: int) -> str:
    return f"{percent(row[name], 2):>8} {bracket(row[f'{name}_interval'], 2)}" if count else ""


def _calibration_lines(found: Found) -> Iterator[str]:
    yield f"  expected error {found['expected_error']:.5f}, Brier score {found['brier']:.5f}"
    yield f"  {'p(candidate)':<14}{'stamps':>9}  {'mean p':>8}  candidates"
    for row in found["bins"]:
        if row["stamps"]:
            share = f"{percent(row['candidates'], 2):>8} {bracket(row['interval'], 2)}"
            where = f"{row['from']:g} to {row['to']:g}"
            yield f"  {where:<14}{row['stamps']:>9,}  {row['mean_probability']:>8.4f}  {share}"
