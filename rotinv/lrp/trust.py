"""Whether a map can be trusted: what share of the logit it holds, what took the rest, and how exact it is.

A map says what a decision rests on only as far as the relevance arrives in it. The thresholds here are a
choice: of twelve stamps, a trained CAP's maps by the paper's rule held 77 to 136% of the logit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST, MOST = 0.5, 2.0  # of the logit: a map that holds less, or more, is doubtful
LARGEST_LINE = 1.0  # of the logit: a line of the ledger that takes or gives more makes a map doubtful
LARGEST_DEVIATION = 1e-4  # of a map from the float64 reference's, in shares of its largest value
NAMED = 3  # the largest losses that are told
_NEGLIGIBLE = 0.005  # of the logit: smaller losses are not told
_NOTHING = "the relevance at the output is 0, so that nothing is explained"
_LINES = ("bias_positive", "bias_negative", "stabiliser", "one_sided", "dead", "crop")


@dataclass(frozen=True)
class Trust:
    """What one line says of a map.

    Attributes
    ----------
    share : float
        The sum of the map in shares of the relevance at the output; NaN where that is 0.
    losses : tuple of (str, str, float)
        The ledger's largest lines, the largest first: layer, line, and what it took in shares of the output's
        relevance; below 0 it added.
    deviation : float
        From the float64 reference's map, in shares of its largest value.
    turned : str
        Which logit's pixels have the opposite signs, and why; empty if there is none.
    """

    share: float
    losses: tuple[tuple[str, str, float], ...]
    deviation: float
    turned: str = ""

    @property
    def doubts(self) -> list[str]:
        """Why the map misleads, a reason each; none if it does not."""
        if np.isnan(self.share):
            return [_NOTHING]
        found = []
        if not LEAST <= self.share <= MOST:
            found.append(
                f"the map holds {self.share:.0%} of what is explained, not between {LEAST:.0%} and {MOST:.0%}"
            )
        found += [
            f"{layer}'s {line.replace('_', ' ')} {'takes' if amount > 0 else 'adds'} {abs(amount):.0%}"
            for layer, line, amount in self.losses
            if abs(amount) > LARGEST_LINE
        ]
        if self.turned:
            found.append(self.turned)
        if not self.deviation <= LARGEST_DEVIATION:
            found.append(
                f"rounding changes the map by {self.deviation:.2g} of its largest value (--device reference "
                "draws it in float64)"
            )
        return found

    def __str__(self) -> str:
        if np.isnan(self.share):
            return _NOTHING
        lost = ", ".join(
            f"{layer}: {line.replace('_', ' ')} {-amount:+.0%}"
            for layer, line, amount in self.losses
            if abs(amount) >= _NEGLIGIBLE
        )
        return (
            f"the map holds {self.share:.0%} of what is explained; largest changes on the way: "
            f"{lost or 'none'}; deviation from float64 {self.deviation:.1g}"
        )


def trust(rows: Sequence[Mapping[str, Any]], turned: str = "") -> Trust:
    """What the ledger of a decision says of its map: of its rows as Audit.amounts gives them, and of a logit
    whose pixels have the opposite signs (Trust.turned)."""
    sign = np.sign(rows[0]["received"])
    lines = [(row["layer"], line, float(sign * row[line])) for row in rows for line in _LINES]
    lines.sort(key=lambda entry: -abs(entry[2]))
    share = float(sign * rows[-1]["passed"]) if sign else float("nan")
    return Trust(share, tuple(lines[:NAMED]), float(rows[-1]["deviation"]), turned)
