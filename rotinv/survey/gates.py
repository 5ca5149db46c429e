"""A gate: a measured value and the range that it must lie in, as one line of the check's report."""

from typing import NamedTuple


class Gate(NamedTuple):
    """A check of one value."""

    name: str
    value: float
    low: float
    high: float
    error: float = 0.0  # standard error of the value; two of them are allowed for

    @property
    def passed(self) -> bool:
        """Whether the value lies in its range (a NaN does not)."""
        return self.low - 2 * self.error <= self.value <= self.high + 2 * self.error

    def __str__(self) -> str:
        verdict, error = "pass" if self.passed else "FAIL", f" +- {self.error:.2g}" if self.error else ""
        return f"{verdict}  {self.name:<52}{self.value:10.4g}   [{self.low:g}, {self.high:g}]{error}"
