"""The sheet of the paper's main claim: the networks' differences over other stamps and other trainings."""

from collections.abc import Iterator

from numpy.typing import NDArray

from rotinv.metrics import trial_differences
from rotinv.metrics.trial_differences import POWER, TrialDifference
from rotinv.paper.place import Place
from rotinv.paper.published import NAMES
from rotinv.paper.sheets import Sheet, Table
from rotinv.paper.table2_fig2 import MEMBERS, Tested, disjoint, tested
from rotinv.system.workers import Progress

FPRS = (1e-2, 1e-3)
PAIRS = (("deephits", "cap"), ("deephits", "cape"), ("cap", "cape"))


def differences(at: Place, trials: int, draws: int, tell: Progress) -> None:
    """Differences of accuracy and FNR of all pairs, with intervals and what could have been found."""
    of = tested(at, trials)
    rows, data = [], {}
    for first, second in PAIRS:
        if second not in of.scores:
            continue
        found = dict(_found(of, first, second, draws))
        pair = f"{NAMES[second]} less {NAMES[first]}"
        rows += [(f"{pair}, {name}", *_cells(one)) for name, one in found.items()]
        data[f"{first} v {second}"] = {name: one._asdict() for name, one in found.items()}
    heads = ("", "difference, points", "95% interval", "decided", f"detectable ({POWER:.0%} power)")
    notes = [
        f"Paired bootstrap ({draws} draws) over the test stamps and over the trials of each network. A "
        "difference is decided where its interval does not hold 0. A true difference as large as the last "
        "column would be found with that power; of a smaller one nothing can be said here.",
        f"CAPE: triples of CAP that share no trial, {trials // MEMBERS} of {trials} trials; of a single one "
        "other trainings are not drawn.",
    ]
    title = f"Differences over other stamps and other trainings ({trials} trials, {len(of.label):,} stamps)"
    table = Table("of the mean over trials", heads, rows)
    at.write_sheet("differences", Sheet("Differences", title, [table], notes, data=data))


def _found(of: Tested, first: str, second: str, draws: int) -> Iterator[tuple[str, TrialDifference]]:
    one, other = (_trials(of, arch) for arch in (first, second))
    yield "accuracy", trial_differences.accuracy_difference(of.label, one, other, draws)
    each = trial_differences.fnr_differences(of.label, one, other, FPRS, draws)
    yield from ((f"FNR at FPR {fpr:g}", found) for fpr, found in zip(FPRS, each, strict=True))


def _trials(of: Tested, arch: str) -> NDArray:
    """The scores (trials, n) of networks that share no training."""
    return disjoint(of) if arch == "cape" else of.scores[arch]


def _cells(found: TrialDifference) -> tuple[str, str, str, str]:
    low, high = (100 * end for end in found.interval)
    decided = "no" if low <= 0 <= high else "yes"
    return f"{100 * found.mean:+.3f}", f"[{low:+.3f}, {high:+.3f}]", decided, f"{100 * found.detectable:.3f}"
