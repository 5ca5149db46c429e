"""The paper's claims held against what was found here: each agrees, disagrees, or is not decided.

A difference decides where its 95% interval does not hold 0.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rotinv.paper import published
from rotinv.paper.published import NAMES
from rotinv.paper.sheets import Sheet, Table

AGREES, DISAGREES, OPEN = "agrees", "disagrees", "not decided here"
NOTE = (
    "Intervals of accuracy and FNR are over stamps and trials (bootstrap; of one trial, or triple, over "
    "stamps alone), but that of CAPE's accuracy, which is over trials (Welch). Those of sigma-bar are over "
    "stamps, of one network each, so that other trainings may decide otherwise. Nothing is corrected for "
    "there being several claims."
)


class Claim(NamedTuple):
    """A claim of the paper, its figure there, the figure here with its interval, and what that comes to."""

    text: str
    there: str
    here: str
    verdict: str


def table(sheets: Mapping[str, Sheet]) -> Table:
    """All claims, from the sheets by name."""
    heads = ("claim", "paper", "here [95% interval]", "verdict")
    return Table("A difference decides where its interval does not hold 0", heads, list(_claims(sheets)))


def _claims(sheets: Mapping[str, Sheet]) -> Iterator[Claim]:
    parameters = {arch: found["parameters"] for arch, found in sheets["table1"].data.items()}
    same = all(parameters[arch] == count for arch, count in published.PARAMETERS.items())
    text, listed = "The networks' parameters", published.PARAMETERS.items()
    there = ", ".join(f"{NAMES[arch]} {count:,}" for arch, count in listed)
    here = ", ".join(f"{NAMES[arch]} {parameters[arch]:,}" for arch, _ in listed)
    yield Claim(text, there, here, AGREES if same else "other stamps, other networks")
    yield _accuracy(sheets, "deephits", "cap", "CAP is more accurate than Deep-HiTS")
    yield _accuracy(sheets, "cap", "cape", "CAPE is not significantly more accurate than CAP")
    yield _fnr(sheets["differences"])
    for kind in ("artifact", "candidate"):
        yield _sigma(sheets["table3"], kind)


def _accuracy(sheets: Mapping[str, Sheet], first: str, second: str, text: str) -> Claim:
    """A difference of mean accuracies. The paper found one for CAP, and none for CAPE.

    CAP's is decided by the bootstrap over stamps and trials, CAPE's by Welch's test.
    """
    ours, theirs = published.TABLE_2[first][0][0], published.TABLE_2[second][0][0]
    there = f"{theirs - ours:+.2f} points, p = {published.WELCH[first, second][0]:g}"
    test = sheets["table2"].data["welch"].get(f"{first} v {second}", {}).get("accuracy")
    if test is None:
        return Claim(text, there, "not tested: too few trials", OPEN)
    p, _, _, difference, (low, high) = test
    if second == "cape":
        here = f"{difference:+.3f} [{low:+.3f}, {high:+.3f}] points, p = {p:.2g}"
        verdict = f"{AGREES}, with little power" if low <= 0 <= high else DISAGREES
        return Claim(text, there, f"{here} (indicative)", verdict)
    found = sheets["differences"].data[f"{first} v {second}"]["accuracy"]
    low, high = (100 * end for end in found["interval"])
    here = f"{100 * found['mean']:+.3f} [{low:+.3f}, {high:+.3f}] points, p = {p:.2g}"
    return Claim(text, there, f"{here}; {100 * found['detectable']:.3f} detectable", _sign(low, high, 1))


def _fnr(sheet: Sheet) -> Claim:
    of = "cape" if "deephits v cape" in sheet.data else "cap"
    found = sheet.data[f"deephits v {of}"][f"FNR at FPR {published.FPR:g}"]
    low, high = (100 * end for end in found["interval"])
    name = NAMES[of]
    text = f"{name} misses fewer candidates than Deep-HiTS at a FPR of {published.FPR:g}"
    there = ", ".join(f"{NAMES[arch]} {100 * fnr:.3f}%" for arch, fnr in published.FNR.items())
    here = f"{100 * found['mean']:+.3f} [{low:+.3f}, {high:+.3f}] points of FNR"
    return Claim(text, there, here, _sign(low, high, -1))


def _sigma(sheet: Sheet, kind: str) -> Claim:
    text = f"CAP's maps of {kind}s disagree less (mean sigma-bar)"
    deep, cap = (published.TABLE_3[kind, arch][0] for arch in ("deephits", "cap"))
    there = f"{cap:.4f} v {deep:.4f}"
    found = sheet.data[f"{kind} difference"]
    if found is None:
        return Claim(text, there, f"fewer than two {kind}s", OPEN)
    one, other = (sheet.data[f"{kind} {arch}"]["sample"]["mean"] for arch in ("deephits", "cap"))
    low, high = found["interval"]
    here = f"{other:.4f} v {one:.4f}; {found['mean']:+.4f} [{low:+.4f}, {high:+.4f}]"
    return Claim(text, there, here, _sign(low, high, -1))


def _sign(low: float, high: float, wanted: int) -> str:
    if low <= 0 <= high:
        return OPEN
    return AGREES if (low > 0) == (wanted > 0) else DISAGREES
