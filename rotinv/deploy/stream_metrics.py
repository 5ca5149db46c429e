"""How a stream goes: alerts a second and lag, as a line for people and as a file for Prometheus."""

import time
from collections.abc import Mapping
from pathlib import Path

from rotinv.system.files import written_whole

Lags = Mapping[tuple[str, int], int]  # messages not yet read, by topic and partition


class StreamMetrics:
    """Counts since the start. `file`, if there is one, is written at once, and anew whenever a line is due.

    Raises UserError if it cannot be written.
    """

    def __init__(self, every: float, file: str | Path | None) -> None:
        self.messages = self.alerts = self.scored = self.poisoned = self.pieces = self.produced = 0
        self._every, self._file = every, None if file is None else Path(file)
        self._started = self._told = time.monotonic()
        self._alerts_told = 0
        self._write(0.0, {})

    def due(self) -> bool:
        """Whether it is time for a line."""
        return time.monotonic() - self._told >= self._every

    def line(self, lags: Lags) -> str:
        """A line for people, with the rate since the last one; writes the file."""
        now = time.monotonic()
        rate = (self.alerts - self._alerts_told) / max(now - self._told, 1e-9)
        self._told, self._alerts_told = now, self.alerts
        self._write(rate, lags)
        lag = f"{sum(lags.values()):,}" if lags else "unknown"
        return (
            f"{self.alerts:,} alerts ({rate:,.0f}/s), {self.scored:,} scored, lag {lag}, "
            f"{self.poisoned:,} messages kept aside, {self.pieces:,} pieces"
        )

    @property
    def rate(self) -> float:
        """Alerts a second since the start."""
        return self.alerts / max(time.monotonic() - self._started, 1e-9)

    def _write(self, rate: float, lags: Lags) -> None:
        if self._file is None:
            return
        text = "".join(
            f"# HELP rotinv_stream_{name} {about}\n# TYPE rotinv_stream_{name} {kind}\n{samples}"
            for name, kind, about, samples in self._samples(rate, lags)
        )
        with written_whole(self._file, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _samples(self, rate: float, lags: Lags) -> list[tuple[str, str, str, str]]:
        counts = {
            "messages_total": "Messages that were read.",
            "alerts_total": "Alerts in them.",
            "scored_total": "Alerts that have a score.",
            "poisoned_total": "Messages that were kept aside.",
            "pieces_total": "Pieces of the catalogue that were written.",
            "produced_total": "Messages that were sent.",
        }
        found = [
            (name, "counter", about, f"rotinv_stream_{name} {getattr(self, name.removesuffix('_total'))}\n")
            for name, about in counts.items()
        ]
        found.append(("alerts_per_second", "gauge", "Alerts a second since the last time.",
                      f"rotinv_stream_alerts_per_second {rate:.6g}\n"))  # fmt: skip
        found.append(("seconds", "gauge", "Time of the last writing, Unix.",
                      f"rotinv_stream_seconds {time.time():.3f}\n"))  # fmt: skip
        waiting = "".join(
            f'rotinv_stream_lag{{topic="{topic}",partition="{partition}"}} {lag}\n'
            for (topic, partition), lag in sorted(lags.items())
        )
        return [*found, ("lag", "gauge", "Messages that are not yet read.", waiting)]
