"""The program rotinv.pick: its catalogue, and the page on which a person labels stamps, in a browser."""

import csv
import json
import re
import shutil
import time

import h5py
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

from rotinv.stamps.store import CHANNELS, create_store

COUNT = 9
IDS = [str(2**62 + 1 + i) for i in range(30)]  # floats would round these


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs, and a store of alerts with ids; stamp 3 has none but its object's."""
    found = tmp_path_factory.mktemp("pick")
    for seed in range(2):
        make_run(found / f"cap-{seed}", "cap", seed, channels=CHANNELS)
    arrays = toy_arrays(n=30, channels=4)
    objects = [f'ZTF "{i // 2}", </script>' for i in range(30)]
    ids = [*IDS[:3], "0", *IDS[4:]]
    with create_store(found / "alerts.h5", channels=CHANNELS, size=13, labels=False, alerts=True) as store:
        store.append("test", arrays["stamps"], None, candidate_id=ids, object_id=objects, flags=np.zeros(30))
    np.savez(found / "stamps.npz", **arrays)
    return found


@pytest.fixture(scope="module")
def made(folder):
    """The page and the catalogue of a choice by two runs."""
    runs = (folder / "cap-0", folder / "cap-1")
    done = call("pick", *runs, folder / "alerts.h5", "--count", COUNT, "--out", folder / "mine")
    assert done.returncode == 0, done.stderr
    return folder / "mine.html", folder / "mine.csv"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def document(page):
    text = page.read_text("utf-8")
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_the_page_and_the_catalogue_have_the_same_stamps(made):
    page, table = made
    rows, shown = rows_of(table), document(page)["stamps"]
    assert [row["order"] for row in rows] == [str(i + 1) for i in range(COUNT)] and len(shown) == COUNT
    for row, stamp in zip(rows, shown, strict=True):
        assert stamp["object_id"] == row["object_id"]
        assert stamp["id"] == ("" if row["candidate_id"] == "0" else row["candidate_id"])
        reasons = dict(stamp["reasons"])
        assert reasons["near the threshold"] == f"{float(row['nearness']):.3f}"
        assert reasons["networks disagree"] == f"{float(row['networks']):.3f}"
        total = sum(float(row[name]) for name in ("nearness", "rotations", "networks"))
        assert float(row["doubt"]) == pytest.approx(total)
    about = json.loads((table.parent / "mine.csv-metadata.json").read_text())
    assert about["model_1"] == "cap-0" and "entropy" in about["columns"][2]["description"]


def test_the_page_does_not_tell_what_the_networks_think(made):
    page, table = made
    for row, stamp in zip(rows_of(table), document(page)["stamps"], strict=True):
        assert row["probability"] not in json.dumps(stamp)
        assert not {"probability", "survey_score", "label"} & set(stamp)


def test_the_page_needs_nothing_else(made):
    text = made[0].read_text("utf-8")
    assert text.count("</script>") == 2
    outside = re.sub(r'<script type="application/json">.*?</script>', "", text, flags=re.DOTALL)
    assert re.findall(r"https?://[^\"]+", outside) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"\bsrc=|url\(|@import|fetch\(|XMLHttp|import\(", outside)


def test_stamps_without_ids_go_by_their_index(folder, tmp_path):
    done = call("pick", folder / "cap-0", folder / "stamps.npz", "--count", 5, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    rows, shown = rows_of(tmp_path / "p.csv"), document(tmp_path / "p.html")["stamps"]
    assert [stamp["id"] for stamp in shown] == [row["index"] for row in rows]
    assert all(stamp["object_id"] == "" and stamp["title"] == f"stamp {stamp['id']}" for stamp in shown)
    assert "5 stamps without an id: the id in LABELS.csv is the index" in done.stderr


def test_what_is_labelled_already_is_left_out(folder, tmp_path):
    """By candidate or by object, as import_alerts reads the list; the ids are exact."""
    labels = tmp_path / "LABELS.csv"
    objects = [f'"ZTF ""{i}"", </script>"' for i in range(15)]
    rows = [f"{IDS[0]},real,", f",bogus,{objects[3]}", f"{int(IDS[2]) + 100},real,"]
    labels.write_text("\n".join(["id,label,object_id", *rows]))
    arguments = (folder / "cap-0", folder / "alerts.h5", "--count", 30, "--labelled", labels)
    done = call("pick", *arguments, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert "LABELS.csv: 3 stamps of 30 are labelled already" in done.stderr
    left = {int(row["index"]) for row in rows_of(tmp_path / "p.csv")}
    assert left == set(range(30)) - {0, 6, 7}
    labels.write_text("id,label\n1,maybe\n")
    assert_refused(call("pick", *arguments, "--out", tmp_path / "q"), "LABELS.csv", "maybe")
    np.savetxt(labels, np.arange(29), "%d,real", header="id,label", comments="")
    done = call(
        "pick", folder / "cap-0", folder / "stamps.npz", "--labelled", labels, "--out", tmp_path / "i"
    )
    assert [row["index"] for row in rows_of(tmp_path / "i.csv")] == ["29"]


def test_fewer_stamps_than_wanted_are_told(folder, tmp_path):
    done = call("pick", folder / "cap-0", folder / "stamps.npz", "--out", tmp_path / "p")
    assert done.returncode == 0 and "--count 200: only 30 stamps" in done.stderr
    assert len(rows_of(tmp_path / "p.csv")) == 30


def test_the_threshold_is_the_runs_own(folder, tmp_path):
    arguments = (folder / "cap-0", folder / "stamps.npz", "--count", 4, "--at-fpr", 0.1)
    assert_refused(call("pick", *arguments, "--out", tmp_path / "p"), "no thresholds", "evaluate")
    run = tmp_path / "run"
    shutil.copytree(folder / "cap-0", run)
    assert call("evaluate", run, folder / "stamps.npz", "--fpr", 0.1).returncode == 0
    done = call("pick", run, *arguments[1:], "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "p.csv-metadata.json").read_text())
    assert about["threshold_fpr"] == 0.1 and about["threshold"] != 0.5


def test_what_is_refused(folder, tmp_path):
    out = ("--out", tmp_path / "p")
    run, stamps = folder / "cap-0", folder / "stamps.npz"
    assert_refused(call("pick", run, *out), "cap-0", "no stamps are named")
    assert_refused(call("pick", stamps, *out), "stamps.npz", "holds no run")
    assert_refused(call("pick", run, run, stamps, *out), "cap-0", "is named twice")
    assert_refused(call("pick", run, tmp_path / "absent.h5", *out), "absent.h5", "no such file")
    assert_refused(call("pick", run, stamps, "--count", 0, *out), "at least 1")
    assert_refused(call("pick", run, stamps, "--out", "."), "--out .", "is a folder")
    (tmp_path / "p.html").write_text("mine")
    for named in ("p", "p.html", "p.csv"):
        assert_refused(call("pick", run, stamps, "--out", tmp_path / named), "p.html", "exists already")
    assert (tmp_path / "p.html").read_text() == "mine" and not (tmp_path / "p.csv").exists()


# In a browser.


@pytest.fixture
def page(browser, made, tmp_path):
    """The page, just opened, with an empty storage; what it saves comes into tmp_path."""
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.resize(1280, 900)
    browser.open(made[0])
    browser.run("localStorage.clear()")
    browser.requests.clear()
    browser.open(made[0])
    yield browser
    assert browser.errors == []
    others = [url for url in browser.requests if not url.startswith(("data:", "blob:"))]
    assert set(others) == {made[0].as_uri()}


def press(page, keys):
    for key in keys:
        page.run(
            f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', "
            f"{{key: {json.dumps(key)}, bubbles: true, cancelable: true}}))"
        )


def text(page, selector):
    return page.run(f"document.querySelector({json.dumps(selector)}).textContent")


def current(page):
    """The number of the stamp that is shown, from 1."""
    return int(text(page, "h2").split(".")[0])


def signs(page):
    return page.run("[...document.querySelectorAll('.sign')].map((sign) => sign.textContent).join('')")


def saved(page, folder):
    """LABELS.csv as the page saves it, as text."""
    page.run("[...document.querySelectorAll('button')].find((b) => b.textContent.startsWith('Save')).click()")
    for _ in range(500):
        page.run("0")  # lets the browser go on
        found = list(folder.glob("LABELS*.csv"))
        if found and not list(folder.glob("*.crdownload")):
            content = found[0].read_bytes().decode()
            found[0].unlink()
            return content
        time.sleep(0.01)
    raise AssertionError("no file was saved")


def test_labelling_by_keyboard(page, made, tmp_path):
    press(page, ["r", "b", " ", "R", "s"])
    assert signs(page) == "RB–R–" and current(page) == 6
    assert text(page, ".counts") == f"5 of {COUNT}: 2 real, 1 bogus, 2 skipped"
    press(page, ["u", "u"])
    assert signs(page) == "RB–" and current(page) == 4
    press(page, ["ArrowLeft", "ArrowLeft", "ArrowLeft", "b"])  # the first is bogus after all
    assert signs(page) == "BB–" and current(page) == 4
    press(page, ["u"])
    assert signs(page) == "RB–" and current(page) == 1
    press(page, ["ArrowRight"] * 20)
    assert current(page) == COUNT
    rows = rows_of(made[1])
    content = saved(page, tmp_path)
    assert content.splitlines()[0] == "id,label,object_id" and content.endswith("\n")
    (tmp_path / "kept.csv").write_text(content)
    expected = [
        {"id": row["candidate_id"].replace("0", "", row["candidate_id"] == "0"), "label": word}
        | {"object_id": row["object_id"]}
        for row, word in zip(rows, ("real", "bogus"), strict=False)
    ]
    assert rows_of(tmp_path / "kept.csv") == expected


def test_a_closed_tab_loses_nothing(page, made, tmp_path):
    press(page, ["r", "s", "b"])
    before = saved(page, tmp_path)
    other = made[0].with_name("other.html")
    other.write_text("<!DOCTYPE html><title>another page</title>")
    page.open(other)
    page.requests.clear()
    page.open(made[0])
    assert signs(page) == "R–B" and current(page) == 4
    assert "3 labels of before" in text(page, ".told")
    assert saved(page, tmp_path) == before
    press(page, ["u", "u", "u", "u"])
    assert signs(page) == "" and current(page) == 1
    assert saved(page, tmp_path) == "id,label,object_id\n"


def test_from_alerts_to_a_store_to_train_on(browser, tmp_path):
    """What the page saves is what import_alerts reads: every label at its alert, by ids of 64 bits."""
    packets = pytest.importorskip("alert_packets")
    night = tmp_path / "night"
    night.mkdir()
    alerts = [packets.ztf(f"ZTF18aa{i}", int(IDS[i]), packets.sky(63, i)) for i in range(12)]
    packets.write_avro(night / "a.avro", packets.ZTF, alerts)
    run = make_run(tmp_path / "run", "cap-mini", channels=["difference"])
    assert call("pick", run, night, "--count", 10, "--out", tmp_path / "next").returncode == 0
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open(tmp_path / "next.html")
    press(browser, "rbrbrbrbsr")
    (tmp_path / "mine.csv").write_text(saved(browser, tmp_path))
    rows = rows_of(tmp_path / "next.csv")
    words = {row["candidate_id"]: i % 2 == 0 or i == 9 for i, row in enumerate(rows) if i != 8}
    arguments = ("--labels", tmp_path / "mine.csv", "--split", "0.4,0.3,0.3", "--out", tmp_path / "store.h5")
    done = call("import_alerts", night, *arguments)
    assert done.returncode == 0, done.stderr
    found = {}
    with h5py.File(tmp_path / "store.h5") as file:
        for split in ("train", "validate", "test"):
            ids = file[f"{split}/candidate_id"].asstr()[:]
            found |= dict(zip(ids, file[f"{split}/label"][:] == 1, strict=True))
    assert found == words


def test_all_stamps_are_labelled(page, tmp_path):
    press(page, ["ArrowRight", *"b" * (COUNT - 1)])
    assert current(page) == 1  # the one that is left
    press(page, ["r"])
    assert "That was the last one" in text(page, ".told")
    assert signs(page) == "R" + "B" * (COUNT - 1)
    assert page.run("document.querySelector('progress').value") == COUNT
    assert len(saved(page, tmp_path).splitlines()) == COUNT + 1


def test_a_key_that_is_held_labels_one_stamp(page):
    page.run(
        "for (const repeat of [false, true, true]) document.body.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'r', repeat, bubbles: true}))"
    )
    assert signs(page) == "R"
    page.run(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', ctrlKey: true, bubbles: true}))"
    )
    assert signs(page) == "R"  # Ctrl-R is the browser's


def test_by_mouse(page):
    """A click leaves no button behind that the space bar would press again."""
    real = "document.querySelector('.keys .real')"
    page.click(real)
    page.click(real)
    press(page, [" "])
    assert signs(page) == "RR–"
    page.click("document.querySelectorAll('.thumbnail')[6]")
    assert current(page) == 7
    assert page.run("document.querySelectorAll('[aria-current]').length") == 1


def test_clearing_asks_first(page):
    press(page, ["r", "b"])
    clear = "[...document.querySelectorAll('button')].find((b) => b.textContent === 'Clear all').click()"
    page.run(f"window.confirm = () => false; {clear}")
    assert signs(page) == "RB"
    page.run(f"window.confirm = () => true; {clear}")
    assert signs(page) == "" and current(page) == 1


def test_where_there_is_no_storage_leaving_is_asked_about(page, tmp_path):
    """Until the labels are saved as a file."""
    leave = "(() => { const e = new Event('beforeunload', {cancelable: true}); dispatchEvent(e);"
    leave += " return e.defaultPrevented; })()"
    press(page, ["r"])
    assert not page.run(leave)
    page.run("Storage.prototype.setItem = () => { throw new Error('full'); }; 0")
    press(page, ["b"])
    assert signs(page) == "RB" and page.run(leave)
    assert len(saved(page, tmp_path).splitlines()) == 3
    assert not page.run(leave)


def test_another_tab_of_the_page_is_heard(page):
    press(page, ["r"])
    page.run(
        "(() => { const key = Object.keys(localStorage)[0];"
        " localStorage.setItem(key, JSON.stringify({labels: [[0, 'bogus'], [1, 'real']], history: []}));"
        " dispatchEvent(new StorageEvent('storage', {key})); })()"
    )
    assert signs(page) == "BR"


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window(page, width):
    page.resize(width, 800)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_controls_have_names_for_screen_readers(page):
    press(page, ["r"])
    nodes = [node for node in page.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    names = {}
    for node in nodes:
        names.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert all(names["button"]) and "stamp 1, real" in names["button"]
    assert names["image"] == ["template", "science", "difference", "SNR difference"]
    assert len(names["status"]) == 2
