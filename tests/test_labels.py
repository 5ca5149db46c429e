"""Labels in words and lists, and the stores that are made of alerts and such a list."""

import csv

import h5py
import numpy as np
import pytest
from alert_packets import RUBIN, ZTF, rubin, sky, write_avro, write_parquet, ztf
from programs import assert_refused, call

from rotinv.stamps.label_lists import read_labels
from rotinv.stamps.labels import Words, labels_of
from rotinv.stamps.packing import groups_of
from rotinv.stamps.store import StampStore
from rotinv.system.errors import UserError

FIRST = 2475433850015015000  # ids of ZTF, which no float holds
TABLE = [[str(FIRST + i), ("real", "bogus")[i % 2]] for i in range(4)]
LISTS = {  # as programs write them
    "comma": b"id,label\n" + b"".join(f"{i},{w}\n".encode() for i, w in TABLE),
    "excel": b"\xef\xbb\xbfid;label\r\n" + b"".join(f"{i};{w}\r\n".encode() for i, w in TABLE),
    "tabs": b"label\tid\n" + b"".join(f"{w}\t{i}\n".encode() for i, w in TABLE),
    "quotes": b'"id","label","note"\n' + b"".join(f'"{i}","{w}","a, ""b"""\n'.encode() for i, w in TABLE),
    "fink": b"i:objectId,i:candid,label\n" + b"".join(f"ZTF1,{i},{w}\n".encode() for i, w in TABLE),
    "topcat": b"index,candidate_id,ra,label\n" + b"".join(f"1,{i},0.5,{w}\n".encode() for i, w in TABLE),
    "numbers": b"candid,label\n" + b"".join(f"{i},{int(w == 'real')}.0\n".encode() for i, w in TABLE),
    "utf-16": "id\tlabel\r\n".encode("utf-16")
    + "".join(f"{i}\t{w}\r\n" for i, w in TABLE).encode("utf-16-le"),
    "excel's separator": b"sep=;\r\nid;label\r\n" + b"".join(f"{i};{w}\r\n".encode() for i, w in TABLE),
    "ecsv": b"# %ECSV 1.0\n# ---\nid label\n" + b"".join(f"{i} {w}\n".encode() for i, w in TABLE),
    "topcat's bars": b"# mine\n\nid|label\n" + b"".join(f"{i}|{w}\n".encode() for i, w in TABLE),
    "texts of a spreadsheet": b"id,label\n" + b"".join(f'"=""{i}""",{w}\n'.encode() for i, w in TABLE),
    "apostrophes": b"id,label\n" + b"".join(f"'{i},{w}\n".encode() for i, w in TABLE),
    "copied from a page": b"id,label\n" + "".join(f"\u00a0{i}\u200b,{w}\n" for i, w in TABLE).encode(),
    "spaces in names": b"Candidate ID,Label\n" + b"".join(f"{i},{w}\n".encode() for i, w in TABLE),
    "a number of the row": b"id,candid,label\n"
    + b"".join(f"{n},{i},{w}\n".encode() for n, (i, w) in enumerate(TABLE)),
    "blanks": b"id,label\n\n,\n" + b"".join(f" {i} , {w.upper()} \n".encode() for i, w in TABLE),
}


def list_of(folder, rows, header="id,label"):
    """A list of labels in a file."""
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("how", LISTS)
def test_lists_are_read_as_programs_write_them(tmp_path, how):
    (tmp_path / "labels.csv").write_bytes(LISTS[how])
    found = read_labels(tmp_path / "labels.csv")
    assert {key: found.label_of(word) for key, word in found.candidates.items()} == {
        key: int(word == "real") for key, word in TABLE
    }
    assert not found.objects and not found.blank


def test_a_row_with_no_candidate_labels_the_object(tmp_path):
    rows = [("7", "A", "real"), ("", "B", "bogus"), ("0", "C", "real"), ("8", "A", "")]
    found = read_labels(list_of(tmp_path, rows, "id,object_id,label"))
    assert (found.candidates, found.objects) == ({"7": "real"}, {"B": "bogus", "C": "real"})
    assert found.blank == 1


def test_beside_the_surveys_own_ids_a_number_of_the_row_is_not_read(tmp_path):
    rows = [("0", "70", "A", "real"), ("1", "", "B", "bogus"), ("2", "0", "C", "real")]
    found = read_labels(list_of(tmp_path, rows, "id,candid,objectId,label"))
    assert (found.candidates, found.objects) == ({"70": "real"}, {"B": "bogus", "C": "real"})


WRONG = {
    "contradiction": (b"id,label\n1,real\n2,bogus\n1,bogus\n", "candidate 1 is 'real' on line 2 and 'bogus'"),
    "of an object": (b"object_id,label\nA,real\nA,0\n", "object A is 'real' on line 2"),
    "word": (b"id,label\n1,real\n2,agn\n", "line 3: the label 'agn' is neither real (real, 1) nor bogus"),
    "rounded": (b"id,label\n2.47543E+18,real\n", "line 2: the id 2.47543E+18 is a number that"),
    "float": (b"id,label\n2475433850015015000.0,real\n", "rounded"),
    "no id": (b"id,label\n1,real\n,bogus\n", "line 3: has a label and no id"),
    "no label": (b"id,class\n1,real\n", "header has label"),
    "no header": (b"1,real\n2,bogus\n", "begins with '1,real'"),
    "empty": (b"", "is empty"),
    "blank": (b"id,label\n1,\n", "has no labels"),
    "latin": (b"id,label\n1,r\xe9el\n", "UTF-8"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\xff\xfe", "save the table as CSV"),
    "marks": (b'id,label\n"2,475,433,850,015,015,000",real\n', "marks between thousands"),
    "rounded and contrary": (b"id,label\n2475433850015010000,real\n2475433850015010000,bogus\n", "15 digits"),
    "label twice": (b"id,label,label\n1,real,bogus\n", "has the column label 2 times"),
    "id twice": (b"id,label,ID\n1,real,2\n", "has the column id 2 times"),
    "scores": (b"index,candidate_id,probability,class\n0,1,0.5,1\n", "whose class is a network's answer"),
    "comments": (b"# id,label\n\n", "is empty"),
    "after comments": (b"# a\nid,label\n1,real\n2,agn\n", "line 4: the label 'agn'"),
    "quote": (b'id,label\n1,real\n2,"bogus\n3,real\n', "is no CSV"),
    "shifted": (b"id,label\n1,real,star\n", "line 2 has more values"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_list_is_refused_in_one_line(tmp_path, what):
    data, message = WRONG[what]
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(UserError) as error:
        read_labels(tmp_path / "labels.csv")
    text = str(error.value)
    assert message in text and "labels.csv" in text and "\n" not in text


def test_a_list_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(UserError, match="is a folder"):
        read_labels(tmp_path)


def test_words_say_which_class():
    words = Words(("SN", "agn"), ("bogus",))
    found = labels_of("here", np.array(["sn", "AGN", "bogus", " sn "]), words)
    assert found.tolist() == [1, 1, 0, 1] and found.dtype == np.uint8
    assert labels_of("here", np.array([3, 1, 2]), Words(("1", "2"), ("3",))).tolist() == [0, 1, 1]
    assert labels_of("here", np.array([b"real", b"bogus"])).tolist() == [1, 0]
    with pytest.raises(UserError, match="both have the word 'sn'"):
        Words(("sn", "x"), ("SN",))
    with pytest.raises(UserError, match="'sn' is neither"):
        labels_of("here", np.array(["sn", "real"]))


def test_what_agrees_in_one_column_stays_together():
    image = np.array([0, 0, 1, 1, 2, 3, 4])
    objects = np.array(["a", "b", "b", "", "", "c", "c"])
    assert groups_of(image, objects).tolist() == [0, 0, 0, 0, 1, 2, 2]
    chain = np.arange(50) // 2, (np.arange(50) + 1) // 2  # each hangs on the next one
    assert set(groups_of(*chain)) == {0}


def night(folder, count=60):
    """Alerts of ZTF, three of each object, the last of them without any label; gives their rows."""
    alerts = [(FIRST + i, f"ZTF26aaaaa{chr(97 + i // 3)}") for i in range(count)]
    records = [ztf(name, number, sky(63, number % 97)) for number, name in alerts]
    write_avro(folder / "night.avro", ZTF, records, sync_interval=200000)
    return alerts


def columns(path, name):
    """A column of all splits of a store, and the split of each row."""
    with h5py.File(path) as file:
        parts = {split: file[split][name] for split in ("train", "validate", "test")}
        values = [part.asstr()[:] if part.dtype == object else part[:] for part in parts.values()]
        return np.concatenate(values), np.repeat(list(parts), [len(part) for part in parts.values()])


def test_a_store_of_labelled_alerts_has_each_object_in_one_split(tmp_path):
    alerts = night(tmp_path)
    rows = [(number, ("sn", "bogus", "agn")[number % 3]) for number, _ in alerts[:-6]]
    labels, out = list_of(tmp_path, rows), tmp_path / "out.h5"
    options = ["--labels", labels, "--real", "sn,agn", "--seed", 5, "--out", out]
    done = call("import_alerts", tmp_path / "night.avro", *options)
    assert done.returncode == 0, done.stderr
    ids, splits = columns(out, "candidate_id")
    assert sorted(ids) == sorted(str(number) for number, _ in rows)
    wanted = dict((str(number), word) for number, word in rows)
    with StampStore(out) as store:
        kinds = np.array(store.kinds)
    assert [kinds[kind] for kind in columns(out, "kind")[0]] == [wanted[one] for one in ids]
    assert columns(out, "label")[0].tolist() == [int(wanted[one] != "bogus") for one in ids]
    names, _ = columns(out, "object_id")
    assert names.tolist() == [dict((str(number), name) for number, name in alerts)[one] for one in ids]
    assert len(set(zip(names, splits, strict=True))) == len(set(names)) == 18
    assert [list(splits).count(one) for one in ("train", "validate", "test")] == [42, 6, 6]
    assert "test: 6 stamps (4 candidates, 2 artifacts) of 2 objects" in done.stdout
    assert f"{out}: 54 labelled alerts, of 60 alerts of 1 file" in done.stdout
    with StampStore(tmp_path / "out-unlabelled.h5") as rest:
        found = rest.split("test")
        assert found.label is None
        assert found.alerts["candidate_id"][:].tolist() == [str(number) for number, _ in alerts[-6:]]
    assert "out-unlabelled.h5: 6 alerts without a label" in done.stdout


def test_stamps_are_those_of_the_plain_import_and_the_seed_decides_the_splits(tmp_path):
    alerts = night(tmp_path, 30)
    labels = list_of(tmp_path, [(number, number % 2) for number, _ in alerts])
    assert call("import_alerts", tmp_path / "night.avro", "--out", tmp_path / "plain.h5").returncode == 0
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ["--labels", labels, "--seed", seed, "--out", tmp_path / f"{name}.h5"]
        assert call("import_alerts", tmp_path / "night.avro", *options).returncode == 0
        assert not (tmp_path / f"{name}-unlabelled.h5").exists()
    a, b, c = (columns(tmp_path / f"{name}.h5", "candidate_id")[0].tolist() for name in "abc")
    assert a == b != c
    with h5py.File(tmp_path / "plain.h5") as plain:
        known = dict(zip(plain["test/candidate_id"].asstr()[:], plain["test/stamps"][:], strict=True))
        snr = dict(zip(plain["test/candidate_id"].asstr()[:], plain["test/snr"][:], strict=True))
    stamps, _ = columns(tmp_path / "a.h5", "stamps")
    assert all(np.array_equal(stamp, known[one]) for one, stamp in zip(a, stamps, strict=True))
    assert columns(tmp_path / "a.h5", "snr")[0].tolist() == [snr[one] for one in a]


def test_each_split_gets_its_share_of_few_candidates(tmp_path):
    records = [ztf(f"ZTF26{i:07d}", i, sky(63, i)) for i in range(1, 61)]
    write_avro(tmp_path / "night.avro", ZTF, records, sync_interval=200000)
    labels = list_of(tmp_path, [(i, "real" if i <= 10 else "bogus") for i in range(1, 61)])
    for seed in range(3):
        out = tmp_path / f"{seed}.h5"
        options = ["--labels", labels, "--seed", seed, "--out", out]
        assert call("import_alerts", tmp_path / "night.avro", *options).returncode == 0
        label, splits = columns(out, "label")
        assert [label[splits == one].sum() for one in ("train", "validate", "test")] == [8, 1, 1]


def test_the_store_trains_as_it_is(tmp_path):
    alerts = night(tmp_path)
    rows = [(name, "real" if i % 2 else "bogus") for i, (_, name) in enumerate(alerts[::3])]
    labels, out = list_of(tmp_path, rows, "object_id,label"), tmp_path / "out.h5"
    assert call("import_alerts", tmp_path / "night.avro", "--labels", labels, "--out", out).returncode == 0
    options = ["--arch", "cap-mini", "--crop", 13, "--batch", 4, "--iterations", 4, "--validate-every", 2]
    done = call("train", "--data", out, *options, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert call("score", tmp_path / "run", out, "--out", tmp_path / "scores.csv").returncode == 0
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and all(
        row["object_id"].startswith("ZTF26") and row["label"] in "01" for row in rows
    )


def test_rubins_objects_and_candidates_may_have_the_same_numbers(tmp_path):
    """Rubin gives a new object the number of its first source: an id means a candidate, not that object."""
    first, other = rubin(40, sky(30)), rubin(41, sky(30, 1))
    for record, source, moving in ((first, 50, None), (other, 0, 40)):
        record["diaSource"] |= {"diaObjectId": source, "ssObjectId": moving}
        record["diaObject"] = None
    write_avro(tmp_path / "night.avro", RUBIN, [first, other])
    found = {}
    for header in ("id,label", "object_id,label"):
        out = tmp_path / f"{header[:2]}.h5"
        options = ["--labels", list_of(tmp_path, [(40, "real")], header), "--split", "1,0,0", "--out", out]
        done = call("import_alerts", tmp_path / "night.avro", *options)
        assert done.returncode == 0, done.stderr
        found[header] = columns(out, "candidate_id")[0].tolist()
    assert found == {"id,label": ["40"], "object_id,label": ["41"]}


def test_an_alerts_own_label_comes_before_its_objects(tmp_path):
    alerts = night(tmp_path, 6)
    rows = [("", alerts[0][1], "real"), ("", alerts[3][1], "bogus"), (alerts[1][0], "", "bogus")]
    labels, out = list_of(tmp_path, rows, "id,object_id,label"), tmp_path / "out.h5"
    done = call(
        "import_alerts", tmp_path / "night.avro", "--labels", labels, "--split", "1,0,0", "--out", out
    )
    assert columns(out, "label")[0].tolist() == [1, 0, 1, 0, 0, 0]
    assert "1 alert labelled otherwise than the object" in done.stderr


def test_an_object_whose_alerts_have_both_labels_is_told(tmp_path):
    alerts = night(tmp_path, 9)
    rows = [(number, "bogus" if i in (0, 3, 4, 5) else "real") for i, (number, _) in enumerate(alerts)]
    options = ["--labels", list_of(tmp_path, rows), "--split", "1,0,0", "--out", tmp_path / "out.h5"]
    done = call("import_alerts", tmp_path / "night.avro", *options)
    assert (
        done.returncode == 0 and f"1 object with real and with bogus alerts ({alerts[0][1]})" in done.stderr
    )
    assert sorted(columns(tmp_path / "out.h5", "label")[0]) == [0] * 4 + [1] * 5


def test_one_object_is_too_few_for_three_splits(tmp_path):
    alerts = night(tmp_path, 6)
    labels = list_of(tmp_path, [(alerts[0][0], 1)])
    done = call("import_alerts", tmp_path / "night.avro", "--labels", labels, "--out", tmp_path / "out.h5")
    assert_refused(done, "1 object is too few for --split")


def test_labels_that_match_no_alert_are_counted(tmp_path):
    alerts = night(tmp_path, 12)
    rows = [*((number, number % 2) for number, _ in alerts), (7, "real"), (8, "real"), (9, "")]
    options = ["--labels", list_of(tmp_path, rows), "--split", "1,0,0", "--out", tmp_path / "out.h5"]
    done = call("import_alerts", tmp_path / "night.avro", *options)
    assert done.returncode == 0
    assert "no alert matches 2 of 14 labels (7, 8)" in done.stderr
    assert "1 row without a label passed over" in done.stderr


NONE_MATCHES = {
    "others": ([(1, "real")], "id,label", "no alert matches 1 of 1 label (1)"),
    "object ids": ([("ZTF26aaaaaa", "real")], "id,label", "name their column object_id"),
    "candidate ids": ([(FIRST, "real")], "object_id,label", "name their column id"),
    "rounded": ([(2475433850015010000, "real")], "id,label", "have it keep ids as text"),
}


@pytest.mark.parametrize("case", NONE_MATCHES)
def test_a_list_of_other_alerts_is_refused_and_leaves_nothing(tmp_path, case):
    rows, header, words = NONE_MATCHES[case]
    night(tmp_path, 6)
    labels = list_of(tmp_path, rows, header)
    before = set(tmp_path.iterdir())
    options = ["--labels", labels, "--out", tmp_path / "out.h5"]
    assert_refused(call("import_alerts", tmp_path / "night.avro", *options), "labels.csv", words)
    assert set(tmp_path.iterdir()) == before


def test_too_few_objects_for_the_splits_are_refused_and_leave_nothing(tmp_path):
    alerts = night(tmp_path, 12)
    labels = list_of(tmp_path, [(number, 1) for number, _ in alerts[:9]])
    before = set(tmp_path.iterdir())
    done = call("import_alerts", tmp_path / "night.avro", "--labels", labels, "--out", tmp_path / "out.h5")
    assert_refused(done, "3 objects are too few for --split 0.8,0.1,0.1", "'test' gets no stamps")
    assert set(tmp_path.iterdir()) == before


def test_labelled_alerts_without_pixels_are_left_out_and_told(tmp_path):
    records = [ztf(f"ZTF26{i:07d}", i, [None, *sky(63, i)[1:]] if i < 3 else sky(63, i)) for i in range(1, 9)]
    write_avro(tmp_path / "night.avro", ZTF, records)
    labels = list_of(tmp_path, [(i, i % 2) for i in range(1, 9)])
    options = ["--labels", labels, "--split", "1,0,0", "--out", tmp_path / "out.h5"]
    done = call("import_alerts", tmp_path / "night.avro", *options)
    assert done.returncode == 0 and "2 labelled alerts left out" in done.stderr
    assert sorted(columns(tmp_path / "out.h5", "candidate_id")[0]) == list("345678")
    write_avro(tmp_path / "night.avro", ZTF, records[:2])
    options = ["--labels", labels, "--out", tmp_path / "other.h5"]
    done = call("import_alerts", tmp_path / "night.avro", *options)
    assert_refused(done, "none of its 2 alerts has pixels in every channel", "2 missing_cutout")


def test_an_alert_that_comes_twice_is_in_one_split_and_told(tmp_path):
    """Also where only one of the two files knows its object."""
    cutouts = np.stack([sky(63, i) for i in range(1, 41)])
    write_parquet(tmp_path / "b.parquet", cutouts, np.ones((40, 63, 63)), np.arange(1, 41))
    write_avro(tmp_path / "a.avro", ZTF, [ztf("", i, sky(63, i)) for i in range(1, 41)], sync_interval=200000)
    labels = list_of(tmp_path, [(i, i % 2) for i in range(1, 41)])
    done = call("import_alerts", tmp_path, "--labels", labels, "--out", tmp_path / "out.h5")
    assert "40 alerts came again; each counts" in done.stderr
    ids, splits = columns(tmp_path / "out.h5", "candidate_id")
    assert len(ids) == 80 and len(set(zip(ids, splits, strict=True))) == 40


@pytest.mark.parametrize(
    "option", [("--split", "1,0,0"), ("--seed", "1"), ("--real", "sn"), ("--bogus", "x")]
)
def test_options_of_labels_need_labels(tmp_path, option):
    night(tmp_path, 3)
    done = call("import_alerts", tmp_path / "night.avro", *option, "--out", tmp_path / "out.h5")
    assert_refused(done, option[0], "needs --labels")


def test_an_old_store_of_unlabelled_alerts_goes_when_all_have_labels(tmp_path):
    alerts, apart = night(tmp_path, 6), tmp_path / "out-unlabelled.h5"
    given = ["import_alerts", tmp_path / "night.avro", "--split", "1,0,0", "--out", tmp_path / "out.h5"]
    for count in (3, 6):
        labels = list_of(tmp_path, [(number, number % 2) for number, _ in alerts[:count]])
        done = call(*given, "--labels", labels, "--overwrite")
        assert done.returncode == 0, done.stderr
        assert (f"{apart}: removed" in done.stdout) == (count == 6)
        assert apart.exists() == (count == 3)


def test_neither_store_is_overwritten(tmp_path):
    alerts = night(tmp_path, 6)
    labels = list_of(tmp_path, [(number, 1) for number, _ in alerts[:3]])
    (tmp_path / "out-unlabelled.h5").write_text("mine")
    options = ["--labels", labels, "--split", "1,0,0", "--out", tmp_path / "out.h5"]
    assert_refused(
        call("import_alerts", tmp_path / "night.avro", *options), "out-unlabelled.h5: exists already"
    )
    assert not (tmp_path / "out.h5").exists()


def test_real_alerts_with_labels(real_data, tmp_path):
    """Of ten surveys; a framed message costs its own alert only."""
    alerts = real_data / "alerts"
    done = call("import_alerts", alerts, "--out", tmp_path / "plain.h5")
    assert done.returncode == 0
    assert "it names schema 900 (Rubin's 9.0, in lsst-alert-packet)" in done.stderr
    names, _ = columns(tmp_path / "plain.h5", "object_id")
    ids, _ = columns(tmp_path / "plain.h5", "candidate_id")
    rows = [(one, ("real", "bogus")[i % 2]) for i, one in enumerate(ids) if i % 5]
    options = ["--labels", list_of(tmp_path, rows), "--out", tmp_path / "out.h5"]
    done = call("import_alerts", alerts, *options)
    assert done.returncode == 0, done.stderr
    found, splits = columns(tmp_path / "out.h5", "candidate_id")
    label, _ = columns(tmp_path / "out.h5", "label")
    known = {one: int(word == "real") for one, word in rows}
    assert len(found) > 140 and label.tolist() == [known[one] for one in found]
    of = dict(zip(ids, names, strict=True))
    pairs = {(of[one], split) for one, split in zip(found, splits, strict=True)}
    assert len(pairs) == len({name for name, _ in pairs})


def packed(folder, *options, **arrays):
    np.savez(folder / "in.npz", **arrays)
    done = call("pack", folder / "in.npz", "--out", folder / "out.h5", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pack_takes_words_and_ids(tmp_path):
    stamps = np.random.default_rng(0).normal(size=(40, 5, 5, 1))
    word = np.array(["sn", "agn", "bogus", "bogus"] * 10)
    objects = np.arange(40) // 4 + 2**62
    told = packed(tmp_path, "--real", "sn,agn", stamps=stamps, label=word, object_id=objects,
                  candidate_id=[f"c{i}" for i in range(40)])  # fmt: skip
    assert "train: 32 stamps (16 candidates, 16 artifacts) of 8 objects" in told
    ids, splits = columns(tmp_path / "out.h5", "candidate_id")
    rows = [int(one[1:]) for one in ids]
    names, _ = columns(tmp_path / "out.h5", "object_id")
    assert names.tolist() == [str(objects[row]) for row in rows]
    assert len(set(zip(names, splits, strict=True))) == 10
    with StampStore(tmp_path / "out.h5") as store:
        assert store.kinds == ["agn", "bogus", "sn"]
    assert columns(tmp_path / "out.h5", "label")[0].tolist() == [int(word[row] != "bogus") for row in rows]


def test_pack_keeps_images_and_objects_together(tmp_path):
    stamps, label = np.random.default_rng(0).normal(size=(60, 5, 5, 1)), np.arange(60) % 2
    image = np.array([f"field{i // 2}" for i in range(60)])
    objects = np.array([f"o{i // 3}" if i < 30 else "0" for i in range(60)])  # 0: a broker's null
    told = packed(tmp_path, stamps=stamps, label=label, image=image, object_id=objects)
    assert "groups" in told
    splits = columns(tmp_path / "out.h5", "image")[1]
    for name in ("image", "object_id"):
        values = columns(tmp_path / "out.h5", name)[0]
        known = values != "0"
        assert len(set(zip(values[known], splits[known], strict=True))) == len(set(values[known]))


def test_arrays_with_labels_in_words_are_read_everywhere(tmp_path, store):
    options = ["--arch", "cap-mini", "--iterations", 4, "--validate-every", 2, "--out", tmp_path / "run"]
    assert call("train", "--data", store, *options).returncode == 0
    with StampStore(store) as opened:
        split = opened.split("test")
        word = np.where(split.label == 1, "real", "bogus")
        np.savez(tmp_path / "a.npz", stamps=split.raw(0, len(split)), label=word)
    done = call("evaluate", tmp_path / "run", tmp_path / "a.npz")
    assert done.returncode == 0 and "15 candidates, 15 artifacts" in done.stdout, done.stderr
    np.savez(tmp_path / "b.npz", stamps=np.ones((2, 13, 13, 1)), label=["real", "agn"])
    assert_refused(call("evaluate", tmp_path / "run", tmp_path / "b.npz"), "b.npz: label: the label 'agn'")
    np.savez(tmp_path / "c.npz", stamps=np.ones((2, 13, 13, 1)), label=[0, 1], object_id=[1.5e18, 2.5e18])
    done = call("pack", tmp_path / "c.npz", "--out", tmp_path / "c.h5")
    assert_refused(done, "object_id holds float64, not whole numbers or texts")
