"""A Kafka cluster for tests: librdkafka's own mock brokers, in a process of their own on loopback.

python kafka_cluster.py runs one until its standard input is closed, and prints its address.
"""

import contextlib
import subprocess
import sys
import time

import pytest


@contextlib.contextmanager
def running():
    """A running cluster: its process, and its address."""
    pytest.importorskip("confluent_kafka")
    child = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        address = child.stdout.readline().strip()
        assert address, "the mock cluster did not start"
        yield child, address
    finally:
        child.stdin.close()
        child.kill()
        child.wait()
        child.stdout.close()


def produce(address, topic, values, keys=None, partitions=4):
    """Send messages, spread over the partitions one after another."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "message.max.bytes": 2_000_000})
    for number, value in enumerate(values):
        key = None if keys is None else keys[number]
        while True:
            try:
                producer.produce(topic, value, key, partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def consume(address, topic, count, seconds=30):
    """The values of so many messages of a topic."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    found, until = [], time.monotonic() + seconds
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(4)])
    while len(found) < count and time.monotonic() < until:
        found += [one.value() for one in consumer.consume(100, 0.5) if one.error() is None]
    consumer.close()
    return found


def main():
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
