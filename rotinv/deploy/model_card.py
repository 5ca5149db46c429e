"""A model card (Mitchell et al. 2019): what a network is, how it was trained, how good it is, and where it
fails.

Everything in it is read from the run's folder, and, where stamps are given, measured on them.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rotinv.lrp.trust import LARGEST_LINE, LEAST, MOST, Trust
from rotinv.metrics.rates import FIGURES
from rotinv.metrics.report_text import bracket, percent
from rotinv.runs import calibrated, folder, kept, thresholds
from rotinv.runs.model import Model, weights_digest
from rotinv.stamps.classes import TWO
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

FEW = 30  # stamps of a bin or kind: with fewer, its figures are not named as failures
_WORST = 5  # failures that are named


class Section(NamedTuple):
    """A heading, sentences, and perhaps a table: its head, and its rows."""

    title: str
    sentences: Sequence[str]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def sections(
    run: str | Path,
    model: Model,
    found: Mapping[str, Any] | None,
    scored: str,
    trusts: Sequence[Trust],
    licence: str,
) -> list[Section]:
    """The card's sections.

    `found` are the figures of classification_report.evaluate on labelled stamps, which `scored` names, and
    `trusts` how far the maps of some of them can be trusted; without stamps the figures are those of the
    run's own test, without intervals.
    """
    run = Path(run)
    return [
        _network(model, licence),
        _data(model),
        _training(model),
        _figures(run, model, found, scored),
        *([_classes(found["by_class"])] if found and "by_class" in found else []),
        _thresholds(run, model),
        _failures(model, found),
        _explanations(trusts),
        _use(model),
    ]


def _network(model: Model, licence: str) -> Section:
    config = model.config
    cut = f", cut from larger ones to {config.size}" if config.crop else ""
    names = config.classes.names
    which = f"; the candidate is {names[config.classes.candidate]}" if len(names) > 2 else ""
    rows = [
        ("architecture", f"{config.arch}, {model.network.size:,} parameters"),
        ("reads", f"stamps of {config.size} x {config.size} pixels{cut}: {', '.join(config.channels)}"),
        ("gives", f"probabilities of {config.classes}{which}"),
        ("scaling", "each channel of each stamp to 0-1 by its own least and largest pixel"),
        ("SHA-256 of the weights", weights_digest(model)),
        ("rotinv", config.version),
        ("licence", licence),
    ]
    return Section("The network", [], ("", ""), rows)


def _data(model: Model) -> Section:
    config = model.config
    if not config.data:
        text = "The weights were trained elsewhere; on what, this run does not know."
        return Section("Training data", [text])
    rows = [("stamps", config.data), ("digest", config.data_sha256 or "not kept")]
    if config.init_from:
        rows.append(("begun with the weights of", f"{config.init_from} ({config.init_sha256[:16]}…)"))
    rows.append(("classes of unequal size", _BALANCES[config.balance]))
    rows.append(("random changes", ", ".join(config.augment) or "none"))
    return Section("Training data", [], ("", ""), rows)


_BALANCES = {
    "none": "left as they are",
    "batches": "the fewer repeated, so that p is that of classes of like size",
    "weights": "the losses of the fewer weigh more, so that p is that of classes of like size",
}


def _training(model: Model) -> Section:
    config, schedule = model.config, model.config.schedule
    if not config.data:
        return Section("Training", ["Not by this run."])
    names = ("batch", "rate", "iterations", "dropout")
    rows = [(name, f"{getattr(schedule, name):,}") for name in names if hasattr(schedule, name)]
    rows += [("seed", str(config.seed)), ("initial weights", config.init)]
    rows.append(("layers that keep their first weights", str(config.freeze)))
    text = "SGD on the cross-entropy; the weights are those of the best validation."
    return Section("Training", [text], ("", ""), rows)


def _figures(run: Path, model: Model, found: Mapping[str, Any] | None, scored: str) -> Section:
    of = (
        ""
        if model.config.classes == TWO
        else f" of {model.config.classes.names[model.config.classes.candidate]}"
    )
    if found is None:
        return _own_figures(run, of)
    intervals = found["intervals"]
    rows = [(name, percent(found[name]), bracket(intervals[name])) for name in FIGURES]
    rows += [
        (f"FNR at FPR {float(fpr):.1%}", percent(fnr), bracket(intervals["fnr_at_fpr"][fpr]))
        for fpr, fnr in found["fnr_at_fpr"].items()
    ]
    texts = [
        f"On {scored}: {found['stamps']:,} stamps, {found['candidates']:,} candidates and "
        f"{found['artifacts']:,} others; figures{of} at the threshold 0.5.",
        f"The expected error of p is {found['calibration']['expected_error']:.4f} (ECE), its Brier score "
        f"{found['calibration']['brier']:.4f}.",
    ]
    return Section("How good it is", texts, ("figure", "value", f"{intervals['level']:.0%} interval"), rows)


def _own_figures(run: Path, of: str) -> Section:
    path = run / folder.METRICS_FILE
    if not path.exists():
        return Section("How good it is", ["Not measured: name labelled stamps (rotinv card RUN STAMPS)."])
    with read_errors(path):
        data = path.read_bytes()
    try:
        found = json.loads(data)
        rows = [(name, percent(found[name])) for name in FIGURES]
        rows += [(f"FNR at FPR {float(f):.1%}", percent(fnr)) for f, fnr in found["fnr_at_fpr"].items()]
        count = int(found["stamps"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not what train writes ({error}); train again, or name stamps") from error
    text = (
        f"On the {count:,} test stamps of its training{of}, at the threshold 0.5; without intervals, which "
    )
    return Section("How good it is", [f"{text}rotinv card RUN STAMPS gives."], ("figure", "value"), rows)


def _classes(found: Mapping[str, Any]) -> Section:
    rows = [
        (row["class"], f"{row['stamps']:,}", percent(row["precision"]), percent(row["recall"]),
         "" if row["auc"] is None else f"{row['auc']:.4f}")
        for row in found["each"]
    ]  # fmt: skip
    head = ("class", "stamps", "precision", "recall", "AUC")
    return Section("Each class against the rest", ["By the most probable class."], head, rows)


def _thresholds(run: Path, model: Model) -> Section:
    title = "Thresholds"
    entry = kept.find(thresholds.FILE, [run], [model])
    if entry is None:
        return Section(title, ["None are kept: rotinv evaluate finds them."])
    rows = [
        (f"{float(fpr):.2%}", "none rejects enough" if value is None else f"{value:.9g}")
        for fpr, value in entry.get("thresholds", {}).items()
    ]
    whence = (
        f"Chosen on '{entry.get('split')}' of {entry.get('stamps')}, {entry.get('artifacts', 0):,} artifacts."
    )
    calibrator = kept.find(calibrated.FILE, [run], [model])
    kind = calibrator["calibrator"]["kind"] if calibrator else "none is kept"
    return Section(title, [whence, f"Calibrator: {kind}."], ("FPR", "accept from p ="), rows)


def _failures(model: Model, found: Mapping[str, Any] | None) -> Section:
    """Where the network errs most, of what was measured; and what no network of this kind can do."""
    always = (
        "Brightness is lost: each channel is scaled by itself, so that p does not tell bright sources from "
        "faint "
        "ones of like shape. A channel that is constant is read as zeros."
    )
    if found is None:
        return Section("Known failures", ["Not measured: name labelled stamps.", always])
    rows = [*_worst_snr(found.get("by_snr", ())), *_worst_kinds(found.get("by_kind", ()))]
    text = f"The bins of SNR and the kinds with the largest errors, of those with {FEW} stamps and more:"
    if not rows:
        text = "By SNR and kind nothing is known: the stamps do not have them."
    return Section("Known failures", [always, text], ("what", "stamps", "error", "95% interval"), rows)


def _worst_snr(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """The bins in which most candidates are lost."""
    lost = [row for row in rows if row["candidates"] >= FEW]
    for row in sorted(lost, key=lambda row: row["completeness"])[:_WORST]:
        low, high = row["completeness_interval"]
        name = f"candidates of SNR {_end(row['from'])} to {_end(row['to'])}: lost"
        yield (
            name,
            f"{row['candidates']:,}",
            percent(1 - row["completeness"], 2),
            bracket((1 - high, 1 - low), 2),
        )


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _worst_kinds(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """The kinds of artifacts that are accepted most."""
    wrong = [row for row in rows if row["stamps"] >= FEW and row["kind"] != "candidate"]
    for row in sorted(wrong, key=lambda row: -row["accepted"])[:_WORST]:
        name = f"artifacts of the kind {row['kind']}: accepted"
        yield name, f"{row['stamps']:,}", percent(row["accepted"], 2), bracket(row["accepted_interval"], 2)


def _explanations(trusts: Sequence[Trust]) -> Section:
    title = "How it explains"
    what = "Relevance (LRP, alpha2beta1) tells which pixels an answer rests on; rotinv audit accounts for it."
    if not trusts:
        return Section(title, [what, "Not measured: name labelled stamps."])
    shares = sorted(trust.share for trust in trusts if trust.share == trust.share)
    doubtful = sum(bool(trust.doubts) for trust in trusts)
    told = (
        f"Of {len(trusts)} stamps at random {doubtful} maps are doubtful: they hold less than {LEAST:.0%} or "
    )
    told += f"more than {MOST:.0%} of the logit, or a line of the account is above {LARGEST_LINE:.0%}."
    texts = [what, told]
    if shares:
        middle = shares[len(shares) // 2]
        texts.append(
            f"A map holds {middle:.0%} of the logit in the middle, {shares[0]:.0%} to {shares[-1]:.0%}."
        )
    return Section(title, texts)


def _use(model: Model) -> Section:
    return Section(
        "Use",
        [
            "It is for stamps of the survey that it was trained on. On another survey, or another camera, "
            "measure it "
            "first (rotinv evaluate), and tune it (rotinv train --init-from).",
            f"It reads the channels in this order: {', '.join(model.config.channels)}. Exchanged channels "
            "are not "
            "noticed.",
        ],
    )


def as_markdown(title: str, parts: Sequence[Section]) -> str:
    """The card as Markdown."""
    lines = [f"# {title}"]
    for part in parts:
        lines += ["", f"## {part.title}", ""]
        lines += [line for text in part.sentences for line in (text, "")]
        if part.rows:
            lines += [_row(part.head), _row(["---"] * len(part.head)), *map(_row, part.rows)]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_STYLE = (
    ":root { color-scheme: light dark } body { max-width: 50em; margin: 2em auto; padding: 0 1em; "
    "font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word } table { border-collapse: collapse } "
    "code { font: inherit; overflow-wrap: anywhere } "
    "td, th { padding: .2em .8em .2em 0; text-align: left; vertical-align: top; "
    "border-bottom: 1px solid #8886 }"
)


def _cell(text: str) -> str:
    """A cell; a word that is wider than a column of a telephone (a digest, a path) may break anywhere."""
    long = any(len(word) > 20 for word in text.split())
    return f"<td>{'<code>' if long else ''}{html.escape(text)}{'</code>' if long else ''}</td>"


def as_html(title: str, parts: Sequence[Section]) -> str:
    """The card as a page that needs nothing but itself."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for part in parts:
        body.append(f"<h2>{html.escape(part.title)}</h2>")
        body += [f"<p>{html.escape(text)}</p>" for text in part.sentences]
        if part.rows:
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.head)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in part.rows)
            body.append(f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )
