"""Audits of single stamps: each one's ledger in numbers and as text, on a device or in fractions."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv import rules, seeds
from rotinv.backend import Kernels
from rotinv.devices import exact_kernels, get_kernels
from rotinv.errors import UserError
from rotinv.ledger import LINES, Entry, ledger
from rotinv.network import Network
from rotinv.rules import Composite

COLUMNS = (
    *("layer", "received", "passed", "bias +", "bias -", "stabiliser", "one-sided", "dead", "crop"),
    *("rounding", "closing", "deviation"),
)
_BLOCK = 10  # stamps audited together
_EXACT_LIMIT = 1_000_000  # multiply-adds of a stamp that fractions manage in about a minute

Found = tuple[NDArray[Any], list[Entry], list[float]]


@dataclass(frozen=True)
class Audit:
    """One stamp's ledger: its entries' arrays hold one number each; deviations are by layer."""

    index: int
    label: int | None
    logits: NDArray[Any]
    entries: list[Entry]
    deviations: list[float]

    @property
    def output(self) -> float:
        """The sum of |R| at the output, in which all amounts are told; 1 where it is 0."""
        return float(np.abs(self.entries[0].received[0])) or 1.0

    def amounts(self) -> list[dict[str, Any]]:
        """The rows of the table: a layer's amounts in shares of the output's relevance."""
        return [
            {
                "layer": entry.layer,
                "received": float(entry.received[0]) / self.output,
                "passed": float(entry.passed[0]) / self.output,
                **{line: float(entry.lines[line][0]) / self.output for line in LINES},
                "closing_error": float(entry.closing_error[0]) / self.output,
                "deviation": deviation,
            }
            for entry, deviation in zip(self.entries, self.deviations, strict=True)
        ]

    def cells(self, exact: bool = False) -> list[list[str]]:
        """The rows of the table as text, a cell for each of COLUMNS: shares in percent.

        Rounding, closing error and deviation are shares as they are; `exact` ones may be 0 outright.
        """
        rows = []
        for entry, row in zip(self.entries, self.amounts(), strict=True):
            shares = [row["received"], row["passed"], *(row[line] for line in LINES[:-1])]
            closing = _zero_or(entry.closing_error[0]) if exact else f"{row['closing_error']:.1e}"
            rounding = _zero_or(entry.lines["rounding"][0]) if exact else f"{row['rounding']:.1e}"
            percents = [_percent(share) for share in shares]
            rows.append([row["layer"], *percents, rounding, closing, f"{row['deviation']:.1e}"])
        return rows


def on_device(
    k: Kernels, network: Network, params: NDArray, stamps: NDArray, rule: Composite, seed: seeds.Seed
) -> Iterator[Found]:
    """Each stamp's logits, ledger and deviations from the reference, layer by layer."""
    judge = get_kernels("reference")
    own, wide = k.asarray(params), np.float64(params)
    for start in range(0, len(stamps), _BLOCK):
        block = stamps[start : start + _BLOCK]
        logits, entries = ledger(k, judge, network, own, k.asarray(block), rule, seed)
        exact = network.relevance(judge, wide, np.float64(block), rule, seed).relevance[-2::-1]
        for row in range(len(block)):
            each = [_of_stamp(entry, row, len(block)) for entry in entries]
            pairs = zip(each, exact, strict=True)
            yield k.to_host(logits)[row], each, [_deviation(e.below, r[row :: len(block)]) for e, r in pairs]


def exact(
    network: Network, params: NDArray, stamps: NDArray, rule: Composite, seed: seeds.Seed
) -> Iterator[Found]:
    """The same in fractions, without any rounding; deviations are the reference's from them."""
    if (count := _multiply_adds(network, params, stamps[:1])) > _EXACT_LIMIT:
        raise UserError(
            f"--exact: {count:,} multiply-adds a stamp exceed what fractions manage ({_EXACT_LIMIT:,}); "
            "train --arch cap-mini, or leave --exact out"
        )
    if seed == "probability":
        raise UserError("--exact: a probability is no fraction; choose another --seed")
    k, reference = exact_kernels(), get_kernels("reference")
    twin = Network([rules.exactly(layer) for layer in network.layers], network.in_shape)
    own = k.asarray(params)
    for stamp in stamps:
        logits, entries = ledger(k, k, twin, own, k.asarray(stamp[None]), rules.exact(rule), seed)
        close = network.relevance(reference, np.float64(params), np.float64(stamp[None]), rule, seed)
        pairs = zip(entries, close.relevance[-2::-1], strict=True)
        yield logits[0], entries, [_deviation(r, np.float64(e.below)) for e, r in pairs]


def _multiply_adds(network: Network, params: NDArray, stamp: NDArray) -> int:
    """The products that a stamp's forward pass sums, over its four rotations."""
    k = get_kernels("reference")
    _, steps = network.descend(k, np.float64(params), np.float64(stamp), rules.named("flat"))
    return sum(
        step.saved.z_pos.size * step.p["w"][..., 0].size for step in steps if hasattr(step.layer, "share")
    )


def _of_stamp(entry: Entry, row: int, n: int) -> Entry:
    lines = {name: amounts[row : row + 1] for name, amounts in entry.lines.items()}
    here = slice(row, row + 1)
    return Entry(entry.layer, entry.received[here], entry.passed[here], lines, entry.below[row::n])


def _deviation(found: NDArray, exact: NDArray) -> float:
    """max|R - R_reference| / max|R_reference| at a layer's input."""
    largest = np.abs(exact).max()
    return float(np.abs(found - exact).max() / (largest or 1))


def _percent(share: float) -> str:
    return f"{100 * share:.4f}" if share else "0"


def _zero_or(fraction: Fraction) -> str:
    return "0" if fraction == 0 else f"{float(fraction):.1e}"
