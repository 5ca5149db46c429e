"""Avro containers of alerts: what is read of those that are damaged, and schemas that a library refuses."""

import io
import json

import pytest
from alert_packets import ZTF, fastavro, sky, write_avro, ztf

from rotinv.alerts.files import Alerts
from rotinv.alerts.stamp import BIT
from rotinv.system.errors import UserError


def test_a_truncated_container_gives_its_whole_blocks(tmp_path):
    whole = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, sky()) for i in range(6)], sync_interval=1)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    files = Alerts([whole])
    assert [p.candidate_id for p in files.packets(0, 9)] == ["0", "1", "2"]
    assert "cut off or damaged after its first 3 alerts" in files.problems[0]


def test_a_compression_without_its_library_is_told(tmp_path, monkeypatch):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    files = Alerts([path])

    def lacking(*arguments, **options):
        raise ValueError("zstandard codec is supported but you need to install one of …")
        yield

    monkeypatch.setattr(files.files[0], "_records", lacking)
    with pytest.raises(UserError, match=r"a\.avro.*zstandard.*rotinv\[alerts\]"):
        list(files.packets(0, 1))


def test_a_damaged_block_costs_its_own_alerts_only(tmp_path):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, sky()) for i in range(6)], "deflate", 1)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30] = bytes(30)
    path.write_bytes(data)
    files = Alerts([path])
    packets = list(files.packets(0, 6))
    assert len(packets) == 6
    assert sum(packet.flags == BIT["unreadable"] for packet in packets) == 1
    assert len(files.problems) == 1


def with_schema(path, change):
    """Change the text of a container's schema."""
    data = path.read_bytes()
    header = fastavro.parse_schema(
        {
            "type": "record",
            "name": "header",
            "fields": [
                {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
                {"name": "meta", "type": {"type": "map", "values": "bytes"}},
                {"name": "marker", "type": {"type": "fixed", "name": "marker", "size": 16}},
            ],
        }
    )
    head = fastavro.schemaless_reader(io.BytesIO(data), header)
    body = data[data.index(head["marker"]) + 16 :]
    schema = json.loads(head["meta"]["avro.schema"])
    change(schema)
    head["meta"]["avro.schema"] = json.dumps(schema).encode()
    with path.open("wb") as file:
        fastavro.schemaless_writer(file, header, head)
        file.write(body)
    return path


def in_candidate(schema, name):
    """The field of that name in the record `candidate`."""
    (candidate,) = (one for one in schema["fields"] if one["name"] == "candidate")
    return next(one for one in candidate["type"]["fields"] if one["name"] == name)


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_a_default_that_does_not_match_its_type_is_no_damage(tmp_path, codec):
    """TURBO writes such ("type": "int", "default": null): of no use to read, and refused by fastavro."""
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, sky()) for i in range(3)], codec)
    with_schema(path, lambda schema: in_candidate(schema, "fid").update(default=None))
    with path.open("rb") as file, pytest.raises(Exception, match="must match"):
        list(fastavro.reader(file))
    files = Alerts([path])
    assert [packet.object_id for packet in files.packets(0, 3)] == ["Z0", "Z1", "Z2"]
    assert not files.problems


def test_a_schema_that_the_library_refuses_is_not_called_damaged(tmp_path):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    with_schema(path, lambda schema: in_candidate(schema, "fid").update(type="integer"))
    with pytest.raises(UserError, match=r"a\.avro: its Avro schema is not understood .*integer"):
        Alerts([path])


def test_bytes_that_are_no_text_cost_their_own_value(tmp_path):
    """The alert is flagged and told; its pixels and the other alerts of its block are read."""
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"NAME{i}", i, sky()) for i in range(4)])
    data = path.read_bytes()
    assert data.count(b"NAME2") == 1
    path.write_bytes(data.replace(b"NAME2", b"NAM\xe92"))
    files = Alerts([path])
    packets = list(files.packets(0, 4))
    assert [packet.flags for packet in packets] == [0, 0, BIT["unreadable"], 0]
    assert [packet.candidate_id for packet in packets] == list("0123")
    assert packets[2].object_id == "" and packets[2].difference is not None
    assert len(files.problems) == 1 and "no UTF-8" in files.problems[0]
