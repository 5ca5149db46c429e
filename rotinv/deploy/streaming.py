"""A stream of alerts, scored: batches in, pieces of a catalogue and messages out, offsets committed last.

The order of what is done with a batch makes it safe to be killed anywhere: messages that are no alerts are
kept aside, scores are sent, the piece is written whole, and only then the offsets are committed. So scores
are sent at least once, and pieces hold each alert exactly once.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.files import stamps_of
from rotinv.catalogue import formats
from rotinv.catalogue.scorer import Scorer
from rotinv.catalogue.sources import ahead, block_of, channels_of_alerts
from rotinv.deploy.kafka import Batch, Consumer, Part, Place, Producer
from rotinv.deploy.pieces import Pieces
from rotinv.deploy.stream_metrics import StreamMetrics
from rotinv.metrics.rates import NOT_SCORED
from rotinv.runs.model import weights_digest
from rotinv.stamps.alert_columns import ALERT_COLUMNS

_KNOWN = (*ALERT_COLUMNS, "snr")
Rows = dict[str, NDArray[Any]]


class Stream:
    """Scores what a consumer reads."""

    def __init__(
        self,
        scorer: Scorer,
        consumer: Consumer,
        producer: Producer | None,
        pieces: Pieces,
        metrics: StreamMetrics,
    ) -> None:
        self._scorer, self._consumer, self._producer = scorer, consumer, producer
        self._pieces, self.metrics = pieces, metrics
        self._taken = channels_of_alerts("the stream", scorer.models[0])
        self._columns, self._facts = scorer.columns(_KNOWN), scorer.facts("none")
        self._digests = {
            name: weights_digest(model) for name, model in zip(scorer.names, scorer.models, strict=True)
        }
        self._done: dict[Place, int] = {}
        pieces.claim({"models": self._digests, "columns": [column.name for column in self._columns]})

    def run(self, stopped: Callable[[], bool]) -> Iterator[str]:
        """Score until `stopped`, or to the end; gives a line whenever one is due, and a last one.

        A thread reads and decodes a batch while the one before is scored; it waits where scores are slower.
        """
        with contextlib.closing(ahead(self._consumer.batches(stopped))) as batches:
            for batch in batches:
                if not self._finish(batch):
                    break
                if self.metrics.due():
                    yield self.metrics.line(self._consumer.lags(self._done))
        yield self.metrics.line(self._consumer.lags(self._done))

    def _finish(self, batch: Batch) -> bool:
        """Score a batch, write its pieces and commit their offsets; whether that came to its end."""
        done: dict[Place, int] = {}
        for (place, part), rows in zip(batch.items(), self._rows([*batch.values()]), strict=True):
            if self._producer and not self._producer.send(self._messages(place, rows)):
                break
            self._write(place, part, rows)
            done[place] = part.last + 1
            self._count(part, rows)
        self._consumer.commit(done)
        self._done |= done
        return len(done) == len(batch)

    def _rows(self, parts: Sequence[Part]) -> list[Rows]:
        """The catalogue's rows of each partition, scored together; `index` is the offset."""
        if not parts:
            return []
        packets = [packet for part in parts for packet in part.packets]
        index = np.array([offset for part in parts for offset in part.offsets], np.int64)
        size = self._scorer.models[0].config.size
        raw, flags, known = stamps_of(packets, len(packets), size)
        rows = self._scorer.rows(block_of(index, raw[..., self._taken], "none", size, flags, known))
        ends = np.cumsum([len(part.packets) for part in parts])[:-1]
        cut = {name: np.split(values, ends) for name, values in rows.items()}
        return [{name: values[i] for name, values in cut.items()} for i in range(len(parts))]

    def _write(self, place: Place, part: Part, rows: Rows) -> None:
        """Write a piece of what is in none yet, first what is no alert."""
        with self._pieces.writing(*place) as start:
            if start > part.last:
                return  # another member of the group was quicker
            for offset, value, reason in part.poisoned:
                if offset >= start:
                    self._pieces.keep_aside(*place, offset, value, reason)
            new = rows["index"] >= start
            path = self._pieces.path(*place, max(start, part.first), part.last)
            with formats.create(path, self._columns, self._facts, overwrite=True) as write:
                write({name: values[new] for name, values in rows.items()})
        self.metrics.pieces += 1

    def _count(self, part: Part, rows: Rows) -> None:
        self.metrics.messages += part.messages
        self.metrics.alerts += len(part.packets)
        self.metrics.scored += int(np.sum(rows["class"] != NOT_SCORED))
        self.metrics.poisoned += len(part.poisoned)

    def _messages(self, place: Place, rows: Rows) -> Sequence[tuple[str, dict[str, Any]]]:
        """What is sent of each alert, by its id."""
        found = []
        for i, candidate in enumerate(rows["candidate_id"]):
            told = {
                "candidate_id": str(candidate),
                "object_id": str(rows["object_id"][i]),
                "topic": place[0],
                "partition": place[1],
                "offset": int(rows["index"][i]),
                "probability": _number(rows["probability"][i]),
                "class": int(rows["class"][i]),
                "flags": int(rows["flags"][i]),
                "probabilities": {
                    name: _number(rows[f"p_{name}"][i]) for name in self._scorer.classes.further
                },
                "models": [
                    {"name": name, "sha256": digest, "probability": _number(rows[f"probability_{name}"][i])}
                    for name, digest in self._digests.items()
                ],
            }
            found.append((str(candidate), told))
        if self._producer:
            self.metrics.produced += len(found)
        return found


def _number(value: Any) -> float | None:
    """A number for JSON, which has no NaN: an alert without a score has null."""
    return float(value) if np.isfinite(value) else None
