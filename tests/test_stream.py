"""A stream of alerts is scored as files are, and nothing is lost or twice, whatever is killed when."""

import contextlib
import copy
import http.server
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import alert_packets
import kafka_cluster
import numpy as np
import pytest
from programs import ENVIRONMENT, assert_refused, call, command, make_run
from test_alert_avro import in_candidate, with_schema

pytest.importorskip("confluent_kafka")
fastavro = pytest.importorskip("fastavro")
parquet = pytest.importorskip("pyarrow.parquet")

from rotinv.deploy import stream_config  # noqa: E402
from rotinv.deploy.messages import Decoder, Poisoned  # noqa: E402
from rotinv.deploy.pieces import Pieces  # noqa: E402
from rotinv.deploy.schemas import Schemas  # noqa: E402
from rotinv.deploy.stream_metrics import StreamMetrics  # noqa: E402
from rotinv.system.errors import UserError  # noqa: E402

RUBIN = copy.deepcopy(alert_packets.RUBIN)
RUBIN["fields"][2]["type"]["fields"].append(alert_packets.field("dec", "double"))
RUBIN_TEXT = json.dumps(RUBIN).encode()


def rubin_bytes(number, seed=0, **source):
    sky, own = alert_packets.sky(30, seed), {"dec": -20.0, **source}
    record = alert_packets.rubin(number, sky, np.ones((30, 30)), **own)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, RUBIN, record)
    return out.getvalue()


def framed(data, number=1000):
    return b"\0" + number.to_bytes(4, "big") + data


def container(records, schema=RUBIN):
    out = io.BytesIO()
    fastavro.writer(out, schema, records)
    return out.getvalue()


def ztf_container(number):
    name = f"ZTF18aaaa{chr(97 + number % 26)}aa"
    return container([alert_packets.ztf(name, number, alert_packets.sky(63, number))], alert_packets.ZTF)


@pytest.fixture
def cluster():
    with kafka_cluster.running() as (child, address):
        yield child, address


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("stream") / "net", "cap-mini", size=21,
                    channels=("science", "difference"))  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Schemas by number."""
    where = tmp_path_factory.mktemp("schemas")
    (where / "1000.avsc").write_bytes(RUBIN_TEXT)
    return where


def configure(tmp_path, address, framing="confluent", more="", output="", **given):
    """A configuration's path; its pieces are in tmp_path/out."""
    own = "".join(f'{key} = "{value}"\n' for key, value in given.items())
    (tmp_path / "stream.toml").write_text(
        f'[kafka]\n"bootstrap.servers" = "{address}"\n"group.id" = "g"\n"session.timeout.ms" = 6000\n{more}\n'
        f'[input]\ntopics = ["alerts"]\nframing = "{framing}"\n{own}\n'
        f'[output]\nfolder = "{tmp_path / "out"}"\nseconds = 1\n{output}\n'
        f'[metrics]\nevery = 1\nfile = "{tmp_path / "rotinv.prom"}"\n'
    )
    return tmp_path / "stream.toml"


def rows_of(folder):
    """The rows of all pieces together, by column; and for each the topic and the partition."""
    tables = [(path, parquet.read_table(path)) for path in sorted(folder.glob("*/*/*.parquet"))]
    columns = {name: np.concatenate([table[name].to_numpy(zero_copy_only=False) for _, table in tables])
               for name in tables[0][1].column_names}  # fmt: skip
    columns["partition"] = np.concatenate(
        [np.full(len(table), int(path.parent.name)) for path, table in tables]
    )
    return columns


def test_a_stream_gives_the_scores_of_the_files(cluster, run, folder, tmp_path):
    """Also: the messages that are sent, the metrics, and a message that is no alert."""
    _, address = cluster
    records = [rubin_bytes(7000 + i, seed=i) for i in range(24)]
    junk = framed(records[0][:200])
    kafka_cluster.produce(address, "alerts", [*map(framed, records), junk])
    config = configure(tmp_path, address, schemas=folder, output='topic = "scores"')
    done = call("stream", run, "--config", config, "--until-end")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    fastavro_records = [fastavro.schemaless_reader(io.BytesIO(one), RUBIN) for one in records]
    alert_packets.write_avro(tmp_path / "a.avro", RUBIN, fastavro_records)
    assert call("score", run, tmp_path / "a.avro", "--out", tmp_path / "files.parquet").returncode == 0
    files = parquet.read_table(tmp_path / "files.parquet").to_pydict()
    order = np.argsort([int(one) for one in rows["candidate_id"]])
    for name in ("candidate_id", "probability", "class", "flags", "rotation_std_net"):
        assert [rows[name][i] for i in order] == files[name], name
    assert sorted(zip(rows["partition"], rows["index"], strict=True)) == [
        (p, o) for p in range(4) for o in range(6)
    ]
    (aside,) = (tmp_path / "out" / "poisoned").glob("*.message")
    assert aside.read_bytes() == junk and "ends within" in aside.with_suffix(".txt").read_text()
    sent = [json.loads(one) for one in kafka_cluster.consume(address, "scores", 24)]
    by_id = {one["candidate_id"]: one for one in sent}
    assert len(sent) == len(by_id) == 24
    for i, p in zip(files["candidate_id"], files["probability"], strict=True):
        assert by_id[i]["probability"] == by_id[i]["models"][0]["probability"] == p
        assert by_id[i]["models"][0]["sha256"] and by_id[i]["flags"] == 0
    text = (tmp_path / "rotinv.prom").read_text()
    assert 'rotinv_stream_lag{topic="alerts",partition="0"} 0\n' in text
    for name, value in (("alerts", 24), ("poisoned", 1), ("produced", 24)):
        assert f"rotinv_stream_{name}_total {value}\n" in text
    assert "24 alerts" in done.stderr and "1 messages kept aside" in done.stderr
    again = call("stream", run, "--config", config, "--until-end")  # nothing is read twice
    assert again.returncode == 0 and len(rows_of(tmp_path / "out")["index"]) == 24


@pytest.mark.parametrize("framing", ["container", "key", "bare"])
def test_other_framings(cluster, run, tmp_path, framing):
    _, address = cluster
    if framing == "container":
        values, keys = [ztf_container(10 + i) for i in range(4)], None
    else:
        values, keys = [rubin_bytes(10 + i) for i in range(4)], [RUBIN_TEXT] * 4
    kafka_cluster.produce(address, "alerts", values, keys)
    (tmp_path / "rubin.avsc").write_bytes(RUBIN_TEXT)
    given = {"schema": tmp_path / "rubin.avsc"} if framing == "bare" else {}
    done = call("stream", run, "--config", configure(tmp_path, address, framing, **given), "--until-end")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert sorted(rows["candidate_id"]) == ["10", "11", "12", "13"]
    assert set(rows["survey"]) == {"ztf" if framing == "container" else "lsst"}
    assert np.isfinite(rows["probability"]).all()


def test_a_batch_of_messages_that_are_no_alerts(cluster, run, folder, tmp_path):
    """A piece without rows says that its offsets are done."""
    _, address = cluster
    kafka_cluster.produce(address, "alerts", [framed(b"junk")] * 4)
    config = configure(tmp_path, address, schemas=folder)
    done = call("stream", run, "--config", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out")["index"]) == 0
    assert len(list((tmp_path / "out").glob("*/*/*.parquet"))) == 4
    assert len(list((tmp_path / "out" / "poisoned").glob("*.message"))) == 4


def decoder(folder, framing="confluent", bare=None):
    return Decoder(framing, Schemas(str(folder), ()), bare)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"ra": 400.0}, "ra is 400"),
        ({"dec": 100.0}, "dec is 100"),
        ({"midpointMjdTai": 5.0}, "mjd is 5"),
        ({"diaSourceId": -5}, "id is -5"),
    ],
)
def test_records_that_make_no_sense_are_poisoned(folder, change, word):
    with pytest.raises(Poisoned, match=word):
        decoder(folder).alerts(None, framed(rubin_bytes(5, **change)), [], "here")


@pytest.mark.parametrize(
    "value, word",
    [
        (b"", "empty"),
        (framed(rubin_bytes(0)), "the id is 0"),
        (b"\1\0\0\0\1abc", "0 and a schema's number"),
        (framed(b"abc", 999), "999"),
        (framed(rubin_bytes(5) + b"\0"), "goes on after"),
        (framed(rubin_bytes(5)[:-1]), "ends within"),
    ],
)
def test_messages_that_are_none_are_poisoned(folder, value, word):
    with pytest.raises(Poisoned, match=word):
        decoder(folder).alerts(None, value, [], "here")


def test_a_wrong_schema_does_not_pass_unseen(folder):
    """The fields of a source in another order decode, every byte is used, and the position is impossible."""
    turned = json.loads(RUBIN_TEXT)
    source = turned["fields"][2]["type"]["fields"]
    places = {one["name"]: i for i, one in enumerate(source)}
    source[places["ra"]], source[places["midpointMjdTai"]] = (
        source[places["midpointMjdTai"]],
        source[places["ra"]],
    )
    (packet,) = decoder(folder, "bare", RUBIN_TEXT).alerts(None, rubin_bytes(5), [], "here")
    assert packet.ra == 10.5
    with pytest.raises(Poisoned, match="ra is 61000"):
        decoder(folder, "bare", json.dumps(turned).encode()).alerts(None, rubin_bytes(5), [], "here")


def test_rubins_message_by_its_own_package(real_data):
    """A real message, framed with schema 900; read as 1000 its bytes mean the same, as 800 they do not."""
    pytest.importorskip("lsst.alert.packet")
    (path,) = (real_data / "alerts" / "rubin-framed").glob("*.avro")
    value, own = path.read_bytes(), decoder("lsst-alert-packet")
    (packet,) = own.alerts(None, value, [], "here")
    assert (packet.candidate_id, packet.survey, packet.band) == (path.stem, "lsst", "r")
    (as_10,) = own.alerts(None, framed(value[5:], 1000), [], "here")
    for name in ("candidate_id", "ra", "dec", "mjd", "snr", "position", "negative"):
        assert getattr(as_10, name) == getattr(packet, name)
    np.testing.assert_array_equal(as_10.difference, packet.difference)
    for number in (800, 704, 1100, 5000):
        with pytest.raises(Poisoned):
            own.alerts(None, framed(value[5:], number), [], "here")


def test_real_messages_of_ztf_are_containers(real_data):
    paths = sorted((real_data / "alerts" / "ztf").rglob("*.avro"))[:5]
    for path in paths:
        packets = decoder(".", "container").alerts(None, path.read_bytes(), [], "here")
        assert packets and all(packet.survey == "ztf" and packet.science is not None for packet in packets)


def test_a_default_that_does_not_match_its_type_is_no_damage(tmp_path, folder):
    """fastavro refuses such a schema, and its first 1.9 refuse ZTF's own."""
    path = tmp_path / "a.avro"
    path.write_bytes(ztf_container(3))
    with_schema(path, lambda schema: in_candidate(schema, "fid").update(default=None))
    (packet,) = decoder(folder, "container").alerts(None, path.read_bytes(), [], "here")
    assert packet.candidate_id == "3"


def test_schemas_of_a_registry(folder):
    class Registry(http.server.BaseHTTPRequestHandler):
        asked = ()

        def do_GET(self):
            Registry.asked += (self.path,)
            known = self.path == "/schemas/ids/1000"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"schema": RUBIN_TEXT.decode()}).encode() if known else b"{}")

        def log_message(self, *text):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = decoder(f"http://127.0.0.1:{server.server_port}/")
        for _ in range(3):
            assert own.alerts(None, framed(rubin_bytes(5)), [], "here")[0].candidate_id == "5"
        assert Registry.asked == ("/schemas/ids/1000",)  # once
        with pytest.raises(Poisoned, match="no schema 1001"):
            own.alerts(None, framed(rubin_bytes(5), 1001), [], "here")
        server.shutdown()
    with pytest.raises(UserError, match="does not answer"):
        decoder(f"http://127.0.0.1:{server.server_port}").alerts(None, framed(rubin_bytes(5)), [], "here")


def test_pieces_tell_where_to_go_on(tmp_path):
    pieces = Pieces(tmp_path, ".csv")
    assert pieces.next_offset("t", 3) == 0
    with pieces.writing("t", 3) as start:
        assert start == 0
        pieces.path("t", 3, 0, 41).write_text("x")
    (tmp_path / "t" / "3" / ".000000000042-000000000050.csv.part").write_text("half")
    assert Pieces(tmp_path, ".csv").next_offset("t", 3) == 42
    for topic in ("../t", "poisoned", "a/b"):
        with pytest.raises(UserError):
            pieces.next_offset(topic, 0)


@pytest.mark.parametrize(
    "text, words",
    [
        ("[kafka]\n", ["bootstrap.servers"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n[input]\nframing="container"', ["topics"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n[input]\ntopics=["t"]\nframing="zip"\n[output]\nfolder="o"',
         ["zip", "confluent"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n[input]\ntopics=["t"]\nframing="confluent"\n[output]\n'
         'folder="o"', ["schemas"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n[input]\ntopics="t"\nframing="key"\n[output]\nfolder="o"',
         ["topics is 't'"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n"enable.auto.commit"=true\n[input]\ntopics=["t"]\n'
         'framing="key"\n[output]\nfolder="o"', ["enable.auto.commit"]),
        ('[kafka]\n"bootstrap.servers"="x"\n"group.id"="g"\n[input]\ntopics=["t"]\nframing="key"\n[output]\n'
         'folder="o"\ntopic="t"', ["'t' is read as well"]),
        ("[sink]\n", ["sink"]),
        ("[input\n", ["TOML"]),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be(tmp_path, text, words):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        stream_config.read(tmp_path / "c.toml")
    assert all(word in str(caught.value) for word in ["c.toml", *words])


def test_pieces_of_other_networks_are_not_mixed(tmp_path):
    pieces, about = Pieces(tmp_path / "out", ".csv"), {"models": {"a": "12"}, "columns": ["index"]}
    for _ in range(2):
        pieces.claim(about)
    with pytest.raises(UserError, match="other models"):
        pieces.claim({**about, "models": {"a": "34"}})
    (tmp_path / "out" / "stream.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        pieces.claim(about)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        Pieces(tmp_path / "mine", ".csv").claim(about)


def test_a_topic_that_is_not_there(cluster, run, folder, tmp_path):
    """To the end of what is not there nobody comes; a topic whose messages went away is another one."""
    _, address = cluster
    config = configure(tmp_path, address, schemas=folder)
    config.write_text(config.read_text().replace('"alerts"', '"nosuch"'))
    done = call("stream", run, "--config", config, "--until-end")
    assert done.returncode == 2 and "topic nosuch: there is none" in done.stderr
    kafka_cluster.produce(address, "alerts", [framed(rubin_bytes(1))])
    piece = tmp_path / "out" / "alerts" / "0" / "000000000000-000000000041.parquet"
    piece.parent.mkdir(parents=True)
    piece.write_bytes(b"")
    config = configure(tmp_path, address, schemas=folder)
    done = call("stream", run, "--config", config, "--until-end")
    assert done.returncode == 2 and "up to offset 41, and it ends before 1" in done.stderr


def test_metrics_that_cannot_be_written_are_told_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        StreamMetrics(30, tmp_path / "file" / "m.prom")


def test_an_alert_of_no_known_survey_is_kept_aside(folder):
    other = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "long"}]}
    with pytest.raises(Poisoned, match="no survey that is known"):
        decoder(folder, "container").alerts(None, container([{"x": 1}], other), [], "here")


def test_settings_that_librdkafka_refuses_are_told(run, tmp_path):
    config = configure(tmp_path, "localhost:1", "container", more='"no.such.thing" = 1')
    assert_refused(call("stream", run, "--config", config), "no.such.thing")


def test_metrics_tell_the_rate_since_the_last_line(tmp_path):
    metrics = StreamMetrics(0.01, tmp_path / "m.prom")
    metrics.alerts = 10
    time.sleep(0.02)
    assert metrics.due() and "10 alerts" in metrics.line({})
    assert (
        "(0/s)" in metrics.line({("t", 1): 5})
        and 'lag{topic="t",partition="1"} 5' in (tmp_path / "m.prom").read_text()
    )


# --- the program in a process of its own --------------------------------------------------------------------


@contextlib.contextmanager
def streaming(run, config, *options, log):
    with open(log, "a") as file:
        process = subprocess.Popen(
            command("stream", run, "--config", config, *options), stderr=file, env=ENVIRONMENT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


def count(folder):
    return sum(parquet.read_metadata(path).num_rows for path in folder.glob("*/*/*.parquet"))


@pytest.mark.slow
def test_a_signal_ends_it_and_a_broker_may_go_away_for_a_while(cluster, run, folder, tmp_path):
    child, address = cluster
    kafka_cluster.produce(address, "alerts", [framed(rubin_bytes(1 + i)) for i in range(8)])
    config = configure(tmp_path, address, schemas=folder, more='"socket.timeout.ms" = 2000')
    with streaming(run, config, log=tmp_path / "log") as process:
        wait_for(lambda: count(tmp_path / "out") == 8)
        child.send_signal(signal.SIGSTOP)
        time.sleep(4)
        assert process.poll() is None
        child.send_signal(signal.SIGCONT)
        kafka_cluster.produce(address, "alerts", [framed(rubin_bytes(101 + i)) for i in range(8)])
        wait_for(lambda: count(tmp_path / "out") == 16)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "16 alerts" in (tmp_path / "log").read_text()
    assert sorted(map(int, rows_of(tmp_path / "out")["candidate_id"])) == [*range(1, 9), *range(101, 109)]


@pytest.mark.slow
def test_two_consumers_of_a_group_share_the_partitions(cluster, run, folder, tmp_path):
    """The second comes later: the group is balanced anew while messages arrive, and nothing is twice."""
    _, address = cluster
    config = configure(tmp_path, address, schemas=folder, more='"heartbeat.interval.ms" = 500')
    messages = [framed(rubin_bytes(1 + i)) for i in range(40)]
    with streaming(run, config, log=tmp_path / "one"):
        kafka_cluster.produce(address, "alerts", messages[:20])
        wait_for(lambda: count(tmp_path / "out") > 0)
        with streaming(run, config, log=tmp_path / "two"):
            wait_for(lambda: "partitions: alerts" in (tmp_path / "two").read_text())
            kafka_cluster.produce(address, "alerts", messages[20:])
            wait_for(lambda: count(tmp_path / "out") >= 40)
    ids = Counter(map(int, rows_of(tmp_path / "out")["candidate_id"]))
    assert ids == Counter(range(1, 41))


@pytest.mark.drill
def test_killed_at_any_moment_nothing_is_lost_or_twice(cluster, run, folder, tmp_path, kills):
    _, address = cluster
    rng = np.random.default_rng(0)
    total, sent = 400, 0
    config = configure(
        tmp_path, address, schemas=folder, output="alerts = 7", more='"heartbeat.interval.ms" = 500'
    )
    bad = framed(b"junk")
    started = time.monotonic()
    for _ in range(kills):
        share = [framed(rubin_bytes(1 + i, seed=i % 7)) for i in range(sent, sent + total // kills)]
        sent += len(share)
        kafka_cluster.produce(address, "alerts", [*share, bad])
        before = count(tmp_path / "out")
        with streaming(run, config, log=tmp_path / "log") as process:
            wait_for(lambda before=before: count(tmp_path / "out") > before, 300)
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
    done = subprocess.run(command("stream", run, "--config", config, "--until-end"), env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids = Counter(map(int, rows_of(tmp_path / "out")["candidate_id"]))
    aside = len(list((tmp_path / "out" / "poisoned").glob("*.message")))
    print(
        f"{kills} kills in {time.monotonic() - started:.0f} s: {sent} alerts in, {sum(ids.values())} rows "
        "out, "
        f"{max(ids.values())} at most of an id; {kills} bad messages in, {aside} aside",
        file=sys.stderr,
    )
    assert ids == Counter(range(1, sent + 1)) and aside == kills
