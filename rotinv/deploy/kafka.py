"""The Kafka side of a stream: batches of decoded messages in, messages with scores out."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rotinv.alerts.stamp import Packet
from rotinv.deploy.messages import Decoder, Poisoned
from rotinv.deploy.pieces import Pieces
from rotinv.deploy.stream_config import StreamConfig
from rotinv.system.errors import UserError, require_extra
from rotinv.system.messages import once

Place = tuple[str, int]  # topic and partition
_WAIT = 0.5  # seconds for messages, and until a request to stop is heeded
_MOST_AT_ONCE = 500  # messages
_PATIENCE = 10.0  # seconds for an answer on offsets
_FLUSH = 5.0  # seconds between two looks at what is not sent yet
_log = logging.getLogger("rotinv")


@dataclass(eq=False)
class Part:
    """What a batch has of a partition: the offsets from `first` to `last`, and the alerts with theirs."""

    first: int
    last: int
    packets: list[Packet] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    poisoned: list[tuple[int, bytes, str]] = field(default_factory=list)  # offset, message, reason
    messages: int = 0


Batch = dict[Place, Part]


class Consumer:
    """Reads topics as a member of a group. It begins where the folder of pieces ends, or where the group's
    committed offset is, whichever is later."""

    def __init__(self, config: StreamConfig, decoder: Decoder, pieces: Pieces, until_end: bool) -> None:
        self._kafka = require_extra("confluent_kafka", "stream", "the stream")
        self._config, self._decoder, self._pieces, self._until_end = config, decoder, pieces, until_end
        self._assigned: set[Place] = set()
        self._ended: set[Place] = set()
        self._told_of_poison = False
        settings = {
            "auto.offset.reset": "earliest",
            **config.kafka,
            "enable.auto.commit": False,
            "enable.partition.eof": until_end,
            "error_cb": _tell,
        }
        self.problems: list[str] = []
        with _refusals(self._kafka):
            self._consumer = self._kafka.Consumer(settings, logger=logging.getLogger("rotinv.librdkafka"))

    def batches(self, stopped: Callable[[], bool]) -> Iterator[Batch]:
        """Batches, which may be empty, until `stopped`, or to the end of all partitions if that is asked for.

        A batch is full after as many messages as a piece may have, or as many seconds. The first joins the
        group.
        """
        with _refusals(self._kafka):
            topics = self._config.input.topics
            self._consumer.subscribe(topics, on_assign=self._assign, on_revoke=self._revoke)
        while not stopped():
            batch: Batch = {}
            count, until = 0, time.monotonic() + self._config.output.seconds
            while count < self._config.output.alerts and time.monotonic() < until and not stopped():
                most = min(_MOST_AT_ONCE, self._config.output.alerts - count)
                messages = self._consumer.consume(most, _WAIT)
                count += sum(self._take(batch, message) for message in messages)
                if self._at_end() or not (batch or messages):
                    break
            yield batch
            if self._at_end() and not batch:
                return

    def commit(self, done: Mapping[Place, int]) -> None:
        """Tell the group with which offset each partition goes on.

        If the group has given a partition to another member meanwhile, that is no harm: the folder tells.
        """
        if not done:
            return
        offsets = [self._kafka.TopicPartition(*place, offset) for place, offset in done.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            once(_log, f"offsets are not committed ({error.args[0].str()}); the pieces tell what is done")

    def lags(self, done: Mapping[Place, int]) -> dict[Place, int]:
        """How many messages are not done of each partition that this member has."""
        found = {}
        for place in list(self._assigned):
            with contextlib.suppress(self._kafka.KafkaException):
                _, high = self._consumer.get_watermark_offsets(
                    self._kafka.TopicPartition(*place), cached=True
                )
                if high >= 0:
                    found[place] = max(0, high - done.get(place, self._pieces.next_offset(*place)))
        return found

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _at_end(self) -> bool:
        return self._until_end and bool(self._assigned) and self._assigned <= self._ended

    def _take(self, batch: Batch, message: Any) -> int:
        """Put a message into the batch; gives 1 unless it is none."""
        error, place = message.error(), (message.topic(), message.partition())
        if error is not None:
            self._heed(error, place)
            return 0
        self._ended.discard(place)
        offset, value = message.offset(), message.value()
        part = batch.setdefault(place, Part(offset, offset))
        part.last, part.messages = offset, part.messages + 1
        where = f"{place[0]}, partition {place[1]}, offset {offset}"
        try:
            packets = self._decoder.alerts(message.key(), value, self.problems, where)
        except Poisoned as reason:
            part.poisoned.append((offset, value or b"", f"{where}: {reason}"))
            self._tell_of_poison(f"{where}: {reason}")
            return 1
        part.packets += packets
        part.offsets += [offset] * len(packets)
        return 1

    def _tell_of_poison(self, why: str) -> None:
        """Warn of the first message that is kept aside: if all are, the configuration is wrong."""
        if not self._told_of_poison:
            _log.warning("a message is kept aside: %s", why)
        self._told_of_poison = True

    def _heed(self, error: Any, place: Place) -> None:
        """An event that comes as a message: the end of a partition, or an error."""
        codes = self._kafka.KafkaError
        if error.code() == codes._PARTITION_EOF:
            self._ended.add(place)
        elif self._until_end and error.code() == codes.UNKNOWN_TOPIC_OR_PART:
            raise UserError(f"topic {place[0]}: there is none; without --until-end it is waited for")
        elif error.fatal() or error.code() in (
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.GROUP_AUTHORIZATION_FAILED,
        ):
            raise UserError(f"{place[0] or 'the stream'}: {error.str()}")
        else:
            _tell(error)

    def _assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Begin where the pieces end, if that is later than what is committed."""
        committed: dict[Place, int] = {}
        with contextlib.suppress(self._kafka.KafkaException):  # no answer in time: the pieces tell
            found = consumer.committed(partitions, _PATIENCE)
            committed = {(one.topic, one.partition): one.offset for one in found}
        for one in partitions:
            done = self._pieces.next_offset(one.topic, one.partition)
            if done:
                self._check_end(consumer, one, done)
            if done > max(0, committed.get((one.topic, one.partition), 0)):
                one.offset = done
        self._assigned = {(one.topic, one.partition) for one in partitions}
        self._ended.clear()
        consumer.assign(partitions)
        numbers = ", ".join(f"{one.topic} {one.partition}" for one in partitions) or "none"
        _log.info("partitions: %s", numbers)

    def _check_end(self, consumer: Any, one: Any, done: int) -> None:
        """Raise UserError if the pieces reach beyond the end of a partition: its topic was made anew, and its
        messages would be taken for those that are done."""
        place = self._kafka.TopicPartition(one.topic, one.partition)
        with contextlib.suppress(self._kafka.KafkaException):
            _, end = consumer.get_watermark_offsets(place, _PATIENCE)
            if done > end:
                raise UserError(
                    f"{self._pieces.folder}: has {one.topic}, partition {one.partition}, up to offset "
                    f"{done - 1}, and it ends before {end}: the topic was made anew; name a new folder"
                )

    def _revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._assigned -= {(one.topic, one.partition) for one in partitions}


class Producer:
    """Sends messages to a topic, and waits until they are there."""

    def __init__(self, settings: Mapping[str, Any], topic: str, stopped: Callable[[], bool]) -> None:
        kafka = require_extra("confluent_kafka", "stream", "the stream")
        own = {name: value for name, value in settings.items() if name not in _OF_CONSUMERS}
        with _refusals(kafka):
            self._producer = kafka.Producer({**own, "error_cb": _tell})
        self._topic, self._stopped = topic, stopped
        self._failed: list[str] = []

    def send(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
        """Send rows, each a key and what JSON can hold; whether all are there when it returns.

        It waits as long as the broker is away, but no longer than until the stream is to stop. Raises
        UserError if a broker refuses one.
        """
        for key, value in rows:
            if not self._put(key, json.dumps(value, separators=(",", ":"))):
                return False
        while self._producer.flush(_FLUSH):
            if self._stopped():
                return False
        if self._failed:
            raise UserError(f"topic {self._topic}: {self._failed[0]}")
        return True

    def _put(self, key: str, text: str) -> bool:
        """Hand a message to the producer, and wait while its queue is full, but not when the stream is to
        stop; whether it was handed over."""
        while True:
            try:
                self._producer.produce(self._topic, text, key, on_delivery=self._delivered)
                return True
            except BufferError:
                if self._stopped():
                    return False
                self._producer.poll(_WAIT)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())


_OF_CONSUMERS = ("group.id", "auto.offset.reset", "session.timeout.ms", "max.poll.interval.ms",
                 "heartbeat.interval.ms", "group.instance.id", "partition.assignment.strategy",
                 "fetch.min.bytes", "fetch.wait.max.ms", "queued.min.messages",
                 "queued.max.messages.kbytes")  # fmt: skip


def _tell(error: Any) -> None:
    """Warn of what librdkafka gets over by itself, as of a broker that is away; once of each kind."""
    once(_log, f"Kafka: {error.str()} ({error.name()}); it goes on when that is over")


@contextlib.contextmanager
def _refusals(kafka: Any) -> Iterator[None]:
    """Settings that librdkafka refuses are told in one line."""
    try:
        yield
    except kafka.KafkaException as error:
        raise UserError(f"[kafka]: {error.args[0].str()}") from error
