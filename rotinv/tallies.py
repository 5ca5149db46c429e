"""What became of alerts and stamps, counted block by block, and told in lines."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts import BIT

_TOLD = 10  # problems that are told one by one


class Tally:
    """Counts of flags and of surveys."""

    def __init__(self) -> None:
        self.flags, self.surveys = Counter[str](), Counter[str]()

    def add(self, flags: NDArray[np.uint32], surveys: Iterable[str]) -> None:
        """Count the flags (n,) and the surveys' names (n,) of stamps."""
        for name, bit in BIT.items():
            self.flags[name] += int((flags & np.uint32(bit) != 0).sum())
        self.surveys.update(surveys)

    def lines(self, where: object, problems: Sequence[str]) -> list[str]:
        """What a user is told: the first problems, the flags, and a word where several surveys are mixed."""
        lines = list(problems[:_TOLD])
        if len(problems) > _TOLD:
            lines.append(f"… and {len(problems) - _TOLD:,} more that cannot be read")
        if flags := ", ".join(f"{count:,} {name}" for name, count in self.flags.items() if count):
            lines.append(f"{where}: flags: {flags}")
        if len(self.surveys) > 1:
            mixed = ", ".join(f"{count:,} {name or 'unnamed'}" for name, count in self.surveys.items())
            lines.append(f"{where}: several surveys, whose pixels differ in size and noise: {mixed}")
        return lines
