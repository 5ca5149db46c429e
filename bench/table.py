"""The table of timings, as text, as JSON, and compared with an older one."""

import json
from pathlib import Path

PEAKS = ("peak", "ceiling fp32", "ceiling tf32")  # the machine's measured limits, by threads or precision
NOISY = 0.3  # spread, or load before the start, above which a run is called noisy


def lines(rows: list[dict]) -> list[str]:
    """The table as lines of text."""
    peaks = {row["threads"]: row["gflops"] for row in rows if row["operation"] in PEAKS}
    found = [
        f"{'operation':<46}{'device':>7}{'threads':>8}{'ms':>10}{'spread':>8}{'GFLOP/s':>9}{'% peak':>8}"
        f"{'MB':>7}  {'peer':<34}{'ms':>9}{'spread':>8}{'ratio':>8}"
    ]
    for row in rows:
        known = row["threads"] in peaks and row["operation"] != "ceiling memory"  # the last one is in GB/s
        share = f"{row['gflops'] / peaks[row['threads']]:.0%}" if known else "-"
        text = (
            f"{row['operation']:<46}{row['device']:>7}{row['threads']:>8}{row['ms']:>10.2f}"
            f"{row['spread']:>8.0%}{row['gflops']:>9.1f}{share:>8}{row['memory_mb']:>7.0f}"
        )
        beside = [_beside(peer) for peer in _by_time(row)]
        found.append("  ".join([text, *beside[:1]]))
        found += [" " * (len(text) + 2) + other for other in beside[1:]]
    return found


def best(row: dict) -> dict | None:
    """The fastest peer of those that compute in our precision; None where a row has no peer."""
    return next((peer for peer in _by_time(row) if peer["counts"]), None)


def _by_time(row: dict) -> list[dict]:
    """The peers that count, fastest first, then the others."""
    return sorted(row.get("peers", []), key=lambda peer: (not peer["counts"], peer["ms"]))


def _beside(peer: dict) -> str:
    note = "" if peer["counts"] else "  (does not count: another precision)"
    return f"{peer['peer']:<34}{peer['ms']:>9.2f}{peer['spread']:>8.0%}{peer['ratio']:>8.3f}{note}"


def warnings(machine: dict, rows: list[dict]) -> list[str]:
    """Reasons to doubt the table."""
    found = []
    if machine["load"] > NOISY:
        found.append(f"noisy: the load was {machine['load']:.2f} before the first timing")
    for row in rows:
        spreads = [row["spread"], *(peer["spread"] for peer in row.get("peers", []))]
        if max(spreads) > NOISY:
            found.append(f"noisy: {row['operation']}, {row['threads']} threads: spread {max(spreads):.0%}")
    return found


def program_lines(programs: list[dict]) -> list[str]:
    """The table of whole programs as lines of text."""
    if not programs:
        return []
    found = [f"{'program':<70}{'s':>8}{'s to 1st step':>15}{'MB':>8}"]
    for row in programs:
        first = "-" if row["to_first_step"] is None else f"{row['to_first_step']:.1f}"
        found.append(f"{row['operation']:<70}{row['seconds']:>8.1f}{first:>15}{row['memory_mb']:>8.0f}")
    return found


def write(path: Path, machine: dict, rows: list[dict], programs: list[dict]) -> None:
    """Write machine and tables as JSON."""
    text = json.dumps({"machine": machine, "rows": rows, "programs": programs}, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


def comparison(old: dict, rows: list[dict]) -> list[str]:
    """What changed since an older table, as lines of text; by the ratio to the best peer if there is one."""
    before = {(row["operation"], row["device"], row["threads"]): row for row in old["rows"]}
    found = [f"since {old['machine']['date']} ({old['machine']['commit']}):"]
    for row in rows:
        key = (row["operation"], row["device"], row["threads"])
        if key not in before:
            found.append(f"{key[0]:<46}{key[2]:>3} threads: new")
            continue
        then = before[key]
        text = f"{key[0]:<46}{key[2]:>3} threads: {then['ms']:9.2f} -> {row['ms']:9.2f} ms"
        if (now := best(row)) and (old_best := best(then)):
            text += f", ratio {old_best['ratio']:.3f} -> {now['ratio']:.3f}"
        found.append(text)
    return found
