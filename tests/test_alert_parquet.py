"""Parquet tables: a damaged cell, column or group loses what it holds, and nothing else."""

import numpy as np
import pytest
from alert_packets import SIZE, image_bytes, sky

from rotinv.alerts.files import Alerts, find_files
from rotinv.alerts.stamp import BIT
from rotinv.system.errors import UserError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
NAMES = ("Template", "Science", "Difference")


def test_ragged_rows_of_a_parquet_file_cost_their_own_alert_only(tmp_path):
    """Rows of 20 and of 22 pixels have the sum of two of 21, and must not be read as those."""
    good = np.ones((21, 21)).tolist()
    uneven, short, null = [[*map(list, good)] for _ in range(3)]
    uneven[1].append(uneven[0].pop())
    short[2].pop()
    null[0] = None
    kind = pa.list_(pa.list_(pa.float32()))
    columns = {"template": [good, uneven, good, short, null, good]}
    columns |= {name: [good] * 6 for name in ("science", "difference")}
    table = {name: pa.array(cells, kind) for name, cells in columns.items()} | {"candid": list(range(6))}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    file = Alerts([tmp_path / "a.parquet"])
    found = list(file.packets(0, 6))
    assert [bool(packet.flags & BIT["unreadable"]) for packet in found] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    assert len(file.problems) == 3
    assert "row 1 (1): its template cut-out: its rows are not of one length" in file.problems[0]
    assert [packet.candidate_id for packet in found] == list("012345")
    assert found[1].science is not None


def rows(count, side=SIZE):
    """Columns of cut-outs, each in a list of rows."""
    each = [sky(side, i) for i in range(count)]
    names = ("template", "science", "difference")
    return {name: [one[c].tolist() for one in each] for c, name in enumerate(names)}


def lost(path, start=0, stop=None):
    """The numbers of the rows that are flagged, and what is told."""
    files = Alerts([path])
    stop = len(files) if stop is None else stop
    found = enumerate(files.packets(start, stop), start)
    return [row for row, packet in found if packet.flags & BIT["unreadable"]], files.problems


def texts(values):
    """A column of texts that need not be UTF-8, as other programs write them."""
    valid, offsets, data = pa.array(values, pa.binary()).buffers()
    return pa.StringArray.from_buffers(len(values), offsets, data, valid)


def test_one_bad_text_costs_its_own_row_wherever_the_reading_starts(tmp_path):
    ids = texts([b"a", b"b", "é".encode("latin-1"), *(b"%d" % i for i in range(3, 8))])
    parquet.write_table(pa.table({"object_id": ids, **rows(8)}), tmp_path / "a.parquet")
    whole, problems = lost(tmp_path / "a.parquet")
    assert whole == [2] and len(problems) == 1
    assert "row 2" in problems[0] and "object_id" in problems[0]
    assert lost(tmp_path / "a.parquet", 3) == ([], [])
    packets = list(Alerts([tmp_path / "a.parquet"]).packets(0, 8))
    assert [packet.object_id for packet in packets] == ["a", "b", "", *"34567"]
    assert packets[2].science is not None


def test_one_text_that_is_no_number_costs_its_own_row(tmp_path):
    columns = {"snr": ["5.5", "high", "nan", None, " 7 "], **rows(5)}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    whole, problems = lost(tmp_path / "a.parquet")
    assert whole == [1] and "its snr is 'high', no number" in problems[0]
    snr = [packet.snr for packet in Alerts([tmp_path / "a.parquet"]).packets(0, 5)]
    np.testing.assert_array_equal(snr, [5.5, np.nan, np.nan, np.nan, 7])


def damage(path, group, column):
    """Overwrite a part of the middle of a column's chunk."""
    chunk = parquet.ParquetFile(path).metadata.row_group(group).column(column)
    data = bytearray(path.read_bytes())
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(data)
    return chunk.path_in_schema


def test_a_damaged_group_costs_its_own_rows_however_the_reading_is_cut(tmp_path):
    """And of those the damaged column only: the ids of the others are read."""
    path = tmp_path / "a.parquet"
    table = pa.table({**rows(200), "candid": list(range(200))})
    parquet.write_table(table, path, row_group_size=50, compression="snappy", use_dictionary=False)
    assert damage(path, 2, 0).startswith("template")
    expected = list(range(100, 150))
    assert lost(path)[0] == expected
    assert [row for start in range(0, 200, 40) for row in lost(path, start, start + 40)[0]] == expected
    packets = list(Alerts([path]).packets(0, 200))
    assert [packet.candidate_id for packet in packets] == [str(i) for i in range(200)]
    assert packets[120].science is not None and packets[120].template is None


def test_times_of_nanoseconds_in_columns_that_are_not_read_cost_nothing(tmp_path):
    """A record's fields that are not read, too: Arrow cannot give such a time as one of Python's."""
    when = pa.array([1_700_000_000_123_456_789] * 2, pa.timestamp("ns"))
    fields = {"isdiffpos": pa.array(["t", "f"]), "candid": pa.array([1, 2]), "when": when}
    columns = {f"cutout{name}": [image_bytes(pixels)] * 2 for name, pixels in zip(NAMES, sky(), strict=True)}
    columns |= {"objectId": ["ZTF18aaaaaaa"] * 2, "candid": [1, 2], "time": when}
    candidate = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    parquet.write_table(pa.table({**columns, "candidate": candidate}), tmp_path / "a.parquet")
    files = Alerts([tmp_path / "a.parquet"])
    assert [packet.negative for packet in files.packets(0, 2)] == [False, True]
    assert not files.problems


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("zipped", [True, False])
def test_bytes_of_a_fits_file_in_a_list_are_not_taken_for_pixels(tmp_path, kind, zipped):
    """Also where they are as many as a square has: Spark's lists of bytes have signs."""
    columns = {}
    for name, pixels in zip(NAMES, sky(), strict=True):
        data = np.frombuffer(image_bytes(pixels, zipped=zipped), np.uint8)
        if not zipped:
            data = np.concatenate([data, np.zeros(145**2 - len(data), np.uint8)])
        values = data.astype(kind) if kind == "int32" else data.view(kind)
        columns[name.lower()] = pa.array([values], pa.list_(getattr(pa, kind)()))
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    files = Alerts([tmp_path / "a.parquet"])
    packet = next(files.packets(0, 1))
    assert not files.problems
    np.testing.assert_array_equal(packet.difference, sky()[2])


def test_a_folder_of_sparks_is_read_and_what_lies_beside_is_passed_over(tmp_path):
    folder = tmp_path / "night.parquet"
    (folder / "_temporary").mkdir(parents=True)
    for number in range(2):
        parquet.write_table(pa.table(rows(2)), folder / f"part-0000{number}-abc.c000.snappy.parquet")
    (folder / "_temporary" / "part-00009.parquet").write_bytes(b"PAR1")
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.parquet.crc").write_bytes(b"crc")
    (folder / "._part-00000.parquet").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(200))
    for given in (folder, tmp_path):
        assert len(Alerts(find_files([given]))) == 4
    with pytest.raises(UserError, match="Mac's hidden file"):
        Alerts(find_files([folder / "._part-00000.parquet"]))
