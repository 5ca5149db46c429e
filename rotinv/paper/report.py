"""The report: one page that needs nothing but itself, with all tables and figures, settings and versions."""

import html
import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from rotinv.paper import claims
from rotinv.paper.place import ARCHS, Place
from rotinv.paper.sheets import Sheet, as_html, read
from rotinv.system.files import written_whole
from rotinv.system.workers import Progress

ORDER = (  # Fig. 3 opens it
    *("fig3", "table1", "fig1", "table2", "fig2", "differences", "fig4", "fig5", "table3", "ensembles"),
)
_PACKAGES = ("numpy", "numba", "scipy", "h5py", "matplotlib")
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2733; --soft: #4a5565; --line: #dde2e8;
  --head: #9aa5b1; --link: #0b57a4; --shade: #f4f6f8; --warn: #fff3cd; --warn-ink: #5c4300; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e3e7ec; --soft: #a3adba;
  --line: #3a424d; --head: #7c8896; --link: #7fb5ee; --shade: #20252b;
  --warn: #4a3a08; --warn-ink: #ffe9a8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 60px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1, p, figcaption { overflow-wrap: break-word; }
h1 { font-size: 26px; line-height: 1.25; } h2 { font-size: 20px; margin: 40px 0 0; }
nav a { display: inline-block; padding: 4px 0; margin-right: 14px; } a { color: var(--link); }
td { white-space: nowrap; } #table1 .wide { display: inline-block; vertical-align: top; margin-right: 28px; }
.title { margin: 2px 0 12px; color: var(--soft); } .wide { overflow-x: auto; max-width: 100%; }
.caution { padding: 8px 12px; border-radius: 6px; background: var(--warn); color: var(--warn-ink);
  font-weight: 600; }
table { border-collapse: collapse; margin: 12px 0; font-size: 13px; }
caption { text-align: left; font-weight: 600; padding-bottom: 4px; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  font-variant-numeric: tabular-nums; }
th[scope=row] { font-weight: 500; min-width: 8em; } thead th { border-bottom: 2px solid var(--head); }
figure { margin: 12px 0; } img { display: block; max-width: 100%; height: auto; background: #fff;
  border-radius: 4px; }
figcaption { color: var(--soft); }
pre { overflow-x: auto; background: var(--shade); padding: 12px; font-size: 12px; }
@media (max-width: 600px) { body { padding: 12px 12px 40px; } h1 { font-size: 21px; }
  figure img { max-width: none; width: 680px; } /* as wide as it can be read; the frame scrolls */
  th, td { padding: 3px 6px; } }
"""


def write(at: Place, settings: dict[str, Any], tell: Progress) -> None:
    """Write report.html from the sheets."""
    sheets = {name: read(at.sheet(name)) for name in ORDER}
    with written_whole(at.folder / "report.html", overwrite=True) as temporary:
        temporary.write_text("\n".join(_page(at, settings, sheets)), encoding="utf-8")


def _page(at: Place, settings: dict[str, Any], sheets: dict[str, Sheet]) -> Iterator[str]:
    title = "Enhanced rotational invariant network for supernovae detection: the paper, made afresh"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    yield f"<p>{html.escape(_about(settings))}</p>"
    if at.caution:
        yield f'<p class="caution">{html.escape(at.caution)}</p>'
    first, *others = ORDER
    parts = {first: sheets[first], "agreement": _agreement(sheets)} | {name: sheets[name] for name in others}
    headings = {name: part.heading for name, part in parts.items()} | {"agreement": "What agrees"}
    headings |= {"viewer": "Viewer", "settings": "Settings"}
    yield "<nav>" + " ".join(f'<a href="#{name}">{one}</a>' for name, one in headings.items()) + "</nav>"
    for name, part in parts.items():
        yield f'<div id="{name}">'
        yield from as_html(part, at.sheets)
        yield "</div>"
    yield '<div id="viewer"><h2>What decisions rest on</h2>'
    yield '<p class="title">Pick stamp, model, rule, layer and rotation; see the maps and the ledger.</p>'
    yield (at.sheets / "viewer.html").read_text(encoding="utf-8")
    yield "</div>"
    yield from _exactly(at, settings)
    yield "</body>\n</html>"


def _about(settings: dict[str, Any]) -> str:
    survey, schedule = settings["survey"], settings["schedule"]
    data = f"the stamps of {settings['data']}"
    if survey:
        counts = ", ".join(f"{survey[name]:,} to {name}" for name in ("train", "validate", "test"))
        data = f"a simulated survey ({counts})"
    least = " at least" if schedule["extend_by"] else ""
    return (
        f"Tables and figures of Reyes et al. 2018 (arXiv 1808.03626) beside those of this run: scale "
        f"'{settings['scale']}', {settings['trials']} trials of each network on {data}, of "
        f"{schedule['iterations']:,} iterations{least}. The paper trained on 1,220,000 stamps of the real "
        "HiTS survey, for 100,000 iterations at least: other stamps, and fewer iterations, give other "
        "figures, and it is their order that may be expected to agree."
    )


def _agreement(sheets: dict[str, Sheet]) -> Sheet:
    table = claims.table(sheets)
    verdicts = [row[-1] for row in table.rows]
    counts = [f"{verdict} {verdicts.count(verdict)}" for verdict in dict.fromkeys(verdicts)]
    title = f"{len(verdicts)} claims: {', '.join(counts)}"
    return Sheet("What agrees, and what does not", title, [table], [claims.NOTE])


def _exactly(at: Place, settings: dict[str, Any]) -> Iterator[str]:
    """The settings, seeds and versions."""
    seeds = {arch: [f"trial {i}: {i}" for i in range(1, settings["trials"] + 1)] for arch in ARCHS}
    yield '<div id="settings"><h2>Settings, seeds and versions</h2>'
    yield f"<pre>{html.escape(json.dumps(settings, indent=2))}</pre>"
    yield f"<p>Seeds of weights, order and dropout by network:</p><pre>{html.escape(json.dumps(seeds))}</pre>"
    yield f"<p>{html.escape(', '.join(_versions()))}.</p><p>{html.escape(_time(at))}</p></div>"


def _time(at: Place) -> str:
    """How long the steps took, each in a process of its own; the report's own is not known yet."""
    each = [
        json.loads(path.read_text(encoding="utf-8"))["seconds"]
        for path in at.steps.glob("*.json")
        if path.stem != "files"
    ]
    return f"{len(each)} steps took {sum(each) / 60:.1f} minutes, one after another; several run at a time."


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    for name in _PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} absent"
    yield f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
