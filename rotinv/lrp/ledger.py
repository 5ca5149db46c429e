"""The ledger of a relevance pass: where each layer's relevance went, to the last unit.

    received = passed + bias_positive + bias_negative + stabiliser + one_sided + dead + crop + rounding

`received` is the sum of R at a layer's output, `passed` at its input. Each line comes from its own formula:

    bias_positive, bias_negative   sum_j b_j^+ c+_j, sum_j b_j^- c-_j: what the bias's side of z_j takes
    stabiliser, one_sided, dead    of each rule (rules.py): by eps; by units with one side; by 0/0
    crop                           what falls on the border of zeros that padding added
    rounding                       the device's shares, sums and products less the same in float64

so that what is left, the closing error, tells whether the account is right; no line is
computed as the remainder. ledger_report.py shows the ledger of a single stamp.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import composites, targets
from rotinv.lrp.composites import Composite
from rotinv.lrp.relevance import Step, descend, deviation, relevance
from rotinv.lrp.targets import Target
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.devices import exact_kernels, get_kernels
from rotinv.nn.layers import Params
from rotinv.nn.linear import Shared, Weighted
from rotinv.nn.network import Network
from rotinv.system.errors import UserError

LINES = ("bias_positive", "bias_negative", "stabiliser", "one_sided", "dead", "crop", "rounding")


@dataclass(frozen=True)
class Entry:
    """A layer's account, for each stamp (n,); `below` is R at its input, (n, …) or (4n, …)."""

    layer: str
    received: NDArray[Any]
    passed: NDArray[Any]
    lines: dict[str, NDArray[Any]]
    below: NDArray[Any]

    @property
    def closing_error(self) -> NDArray[Any]:
        """What the lines do not explain."""
        return self.received - self.passed - sum(self.lines.values())


def ledger(
    k: Kernels,
    judge: Kernels,
    network: Network,
    params: Array,
    x: Array,
    composite: Composite,
    target: Target = "predicted",
) -> tuple[Array, list[Entry]]:
    """The relevance pass of stamps, and the account of it.

    Parameters
    ----------
    k : the kernels that explain
    judge : the reference or the exact kernels, which add up, and compute anew what `k` rounds
    network, params, x, composite, target : as of relevance.relevance

    Returns
    -------
    logits : (n, classes)
    entries : list of Entry
        A layer each, from the logits down to the stamp.

    Raises
    ------
    UserError
        As relevance.relevance does.

    Examples
    --------
    >>> from rotinv.nn.architectures import build
    >>> network, k = build("cap-mini", size=13, channels=1), get_kernels("reference")
    >>> params, stamps = network.initial("he", seed=0), np.random.default_rng(0).random((2, 13, 13, 1))
    >>> logits, entries = ledger(k, k, network, params, stamps, composites.named("alpha2beta1"))
    >>> [entry.layer for entry in entries[:3]]
    ['dense 2', 'cyclic average pooling', 'dropout']
    >>> print(max(abs(entry.closing_error).max() for entry in entries) < 1e-12)
    True
    """
    logits = network.forward(k, params, x)
    steps = descend(k, network, params, x, composite, targets.relevance(k, logits, target))
    return logits, [entry(k, judge, step, len(x)) for step in steps]


def entry(k: Kernels, judge: Kernels, step: Step, n: int) -> Entry:
    wide = Widener(k, judge)
    received, passed = wide(step.received), wide(step.passed)
    account = _of_weights if isinstance(step.layer, Weighted) else _of_moves
    lines = dict.fromkeys(LINES, _per_stamp(0 * received, n))
    for name, parts in account(k, judge, wide, step, received, passed).items():
        lines[name] = np.sum([_per_stamp(part, n) for part in parts], axis=0)
    return Entry(step.name, _per_stamp(received, n), _per_stamp(passed, n), lines, passed)


def _of_weights(
    k: Kernels, judge: Kernels, wide: "Widener", step: Step, received: Array, passed: Array
) -> dict[str, Sequence[Array]]:
    """The lines of a convolution or a dense layer."""
    layer: Any = step.layer
    shared: Shared = wide(layer.share(k, step.p, step.saved, step.received, step.rule))
    c_pos, c_neg = shared.c_pos, shared.c_neg
    taken = step.rule.account(shared.z_pos, shared.z_neg, shared.r, c_pos, c_neg)
    z_pos, z_neg = layer.sums(judge, shared.terms)
    sums = c_pos * (shared.z_pos - z_pos) + c_neg * (shared.z_neg - z_neg)
    products = layer.redistribute(judge, shared) - passed
    return {
        "bias_positive": [np.maximum(b, 0) * c_pos for _, _, b in shared.terms],
        "bias_negative": [np.minimum(b, 0) * c_neg for _, _, b in shared.terms],
        "stabiliser": [taken.stabiliser],
        "one_sided": [taken.one_sided],
        "dead": [taken.dead],
        "rounding": [taken.rounding, sums, products],
    }


def _of_moves(
    k: Kernels, judge: Kernels, wide: "Widener", step: Step, received: Array, passed: Array
) -> dict[str, Sequence[Array]]:
    """The lines of a layer without weights, which only moves relevance or shares it out by proportion."""
    layer: Any = step.layer
    saved = wide(step.saved)
    lost: Params = layer.lost(judge, saved, received, step.rule)
    anew = layer.relevance(judge, {}, saved, received, step.rule)
    return {**{name: [array] for name, array in lost.items()}, "rounding": [anew, -passed]}


@dataclass(frozen=True)
class Widener:
    """Turns all floating-point arrays of what a layer saved into the judge's."""

    k: Kernels
    judge: Kernels

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        if not hasattr(value, "dtype"):
            return value
        array = self.k.to_host(value)
        return array if array.dtype.kind in "ui" else self.judge.asarray(array)


def _per_stamp(array: Array, n: int) -> NDArray[Any]:
    """The sums (n,) over all of a stamp's elements, over its four rotations too."""
    each = array.reshape(len(array), -1).sum(axis=1)
    return each.reshape(-1, n).sum(axis=0)


_BLOCK = 10  # stamps audited together
_EXACT_LIMIT = 1_000_000  # multiply-adds of a stamp that fractions manage in about a minute

Audited = tuple[NDArray[Any], list[Entry], list[float]]


def audit_on_device(
    k: Kernels, network: Network, params: NDArray, stamps: NDArray, rule: Composite, target: targets.Target
) -> Iterator[Audited]:
    """Each stamp's logits, its ledger, and how far R deviates from the reference's at each layer's input."""
    judge = get_kernels("reference")
    own, wide = k.asarray(params), np.asarray(params, np.float64)
    for start in range(0, len(stamps), _BLOCK):
        block = stamps[start : start + _BLOCK]
        logits, entries = ledger(k, judge, network, own, k.asarray(block), rule, target)
        same = targets.of_same_classes(k, logits, target)
        exact = relevance(judge, network, wide, np.asarray(block, np.float64), rule, same)
        logits = k.to_host(logits)
        for row in range(len(block)):
            each = [_of_stamp(entry, row, len(block)) for entry in entries]
            pairs = zip(each, exact.relevance[-2::-1], strict=True)
            yield logits[row], each, [deviation(e.below, r[row :: len(block)]) for e, r in pairs]


def audit_exactly(
    network: Network, params: NDArray, stamps: NDArray, rule: Composite, target: targets.Target
) -> Iterator[Audited]:
    """The audits of stamps in fractions, without rounding; `deviation` is how far the reference's R is from
    these.

    Raises UserError for a network that is too large for fractions, and for the target "probability".
    """
    if (count := _multiply_adds(network, params, stamps[:1])) > _EXACT_LIMIT:
        raise UserError(
            f"--exact: {count:,} multiply-adds a stamp exceed what fractions manage ({_EXACT_LIMIT:,}); "
            "train --arch cap-mini, or leave --exact out"
        )
    if targets.name_of(target) == "probability":
        raise UserError("--exact: a probability is no fraction; choose another --target")
    k, reference = exact_kernels(), get_kernels("reference")
    twin = Network([composites.with_fractions(layer) for layer in network.layers], network.in_shape)
    own = k.asarray(params)
    for stamp in stamps:
        logits, entries = ledger(
            k, k, twin, own, k.asarray(stamp[None]), composites.as_fractions(rule), target
        )
        same = targets.of_same_classes(k, logits, target)
        close = relevance(
            reference,
            network,
            np.asarray(params, np.float64),
            np.asarray(stamp[None], np.float64),
            rule,
            same,
        )
        pairs = zip(entries, close.relevance[-2::-1], strict=True)
        yield logits[0], entries, [deviation(r, np.asarray(e.below, np.float64)) for e, r in pairs]


def _multiply_adds(network: Network, params: NDArray, stamp: NDArray) -> int:
    """The products that a stamp's forward pass sums, over its four rotations."""
    k = get_kernels("reference")
    signed, views = (
        network.record_signed(k, np.asarray(params, np.float64), np.asarray(stamp, np.float64)),
        network.views(params),
    )
    each = zip(network.layers, signed, views, strict=True)
    return sum(s.z_pos.size * p["w"][..., 0].size for layer, s, p in each if isinstance(layer, Weighted))


def _of_stamp(entry: Entry, row: int, n: int) -> Entry:
    lines = {name: amounts[row : row + 1] for name, amounts in entry.lines.items()}
    here = slice(row, row + 1)
    return Entry(entry.layer, entry.received[here], entry.passed[here], lines, entry.below[row::n])
