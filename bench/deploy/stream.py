"""Alerts a second of `rotinv stream` beside `rotinv score` of the same alerts as files, and where time goes.

    python bench/deploy/stream.py RUN FOLDER [COUNT]

FOLDER has packets of ZTF (.avro), which are sent again and again until COUNT (2,000) are in a topic of
librdkafka's mock cluster; then the stream reads them to the end. The first line is of files; the shares are
of the stream's time from the first message to the last piece: its two threads overlap. Needs the extra
`stream`.
"""

import contextlib
import io
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import kafka_cluster
from pyarrow import parquet

from rotinv import score, stream
from rotinv.deploy.kafka import Consumer
from rotinv.deploy.messages import Decoder
from rotinv.deploy.streaming import Stream

SPENT, SPAN = Counter(), []
_MOST = 12_000_000  # bytes of a topic: the mock cluster keeps 5 MB of each of its four partitions, no more


def watch(kind, name, what, first=False):
    """Count the seconds in a method of a class, and note when it ended last, and of `first` when it began.

    What others do before that is done for no message, as while the stream joins its group.
    """
    plain = getattr(kind, name)

    def watched(*arguments):
        started = time.perf_counter()
        try:
            return plain(*arguments)
        finally:
            if first or SPAN:
                ended = time.perf_counter()
                SPENT[what] += ended - started
                SPAN.extend((started, ended))

    setattr(kind, name, watched)


class WatchedClient:
    """librdkafka's consumer, whose waiting for messages is counted once there are some."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def consume(self, *arguments):
        started = time.perf_counter()
        found = self._client.consume(*arguments)
        SPENT["wait for messages"] += time.perf_counter() - started if SPAN else 0
        return found


def by_files(run, packets, folder):
    """Alerts a second of the program score on as many files; the kernels are compiled before."""
    for i, packet in enumerate(packets):
        (folder / f"{i:06}.avro").write_bytes(packet)
    told = io.StringIO()
    for name in ("warm.parquet", "files.parquet"):
        started = time.perf_counter()
        with contextlib.redirect_stderr(told):
            score.main([str(run), str(folder), "--out", str(folder.parent / name)])
        rate = len(packets) / (time.perf_counter() - started)
    return rate


def by_stream(run, packets, folder):
    """Alerts a second of the stream, from its first message to its last piece."""
    config, topics = folder / "stream.toml", {}
    each = int(_MOST * len(packets) / sum(map(len, packets)))
    for start in range(0, len(packets), each):
        topics[f"alerts-{start // each}"] = packets[start : start + each]
    with kafka_cluster.running() as (_, address):
        for topic, values in topics.items():
            kafka_cluster.produce(address, topic, values)
        config.write_text(
            f'[kafka]\n"bootstrap.servers" = "{address}"\n"group.id" = "g"\n'
            f'[input]\ntopics = {list(topics)}\nframing = "container"\n'
            f'[output]\nfolder = "{folder / "night"}"\nalerts = 500\n'
        )
        plain = Consumer.__init__

        def watched(self, *arguments):
            plain(self, *arguments)
            self._consumer = WatchedClient(self._consumer)

        Consumer.__init__ = watched
        watch(Decoder, "alerts", "decode", first=True)
        watch(Stream, "_rows", "stamps and scores")
        watch(Stream, "_write", "pieces on disk")
        watch(Consumer, "commit", "commit offsets")
        stream.main([str(run), "--config", str(config), "--until-end"])
    pieces = (folder / "night").glob("*/*/*.parquet")
    assert sum(parquet.read_metadata(path).num_rows for path in pieces) == len(packets)
    return len(packets) / (max(SPAN) - min(SPAN))


def main(run, folder, count="2000"):
    found = [path.read_bytes() for path in sorted(Path(folder).rglob("*.avro"))]
    packets = list(itertools.islice(itertools.cycle(found), int(count)))
    place = Path(tempfile.mkdtemp())
    try:
        (place / "files").mkdir()
        print(f"files: {by_files(run, packets, place / 'files'):,.0f} alerts/s", flush=True)
        rate = by_stream(run, packets, place)
    finally:
        shutil.rmtree(place)
    whole = max(SPAN) - min(SPAN)
    shares = ", ".join(f"{what} {seconds / whole:.0%}" for what, seconds in SPENT.most_common())
    print(f"stream: {rate:,.0f} alerts/s; {shares}")


if __name__ == "__main__":
    main(*sys.argv[1:])
