"""The LRP viewer: its numbers are those of explain and audit, and it works in a browser."""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
from importlib import resources

import h5py
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

from rotinv import explain
from rotinv.lrp import composites
from rotinv.lrp.ledger_report import COLUMNS
from rotinv.lrp.subjects import runs
from rotinv.lrp.viewer.page import viewer_fragment
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import load_model, open_models, open_stamps_for
from rotinv.system.errors import UserError

SIDE, CHANNELS, INDICES = 13, ["science", "difference"], [7, 2, 30]
NAMES = ["Deep-HiTS </script><b>", "CAP"]  # a name must not be able to end the script
RULES = ("alpha2beta1", "epsilon")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of random weights, and stamps."""
    found = tmp_path_factory.mktemp("viewer")
    for seed, arch in enumerate(("deephits", "cap")):
        make_run(found / arch, arch, seed, channels=CHANNELS)
    np.savez(found / "stamps.npz", **toy_arrays(n=40, side=SIDE, channels=2))
    return found


@pytest.fixture(scope="module")
def fragment(folder):
    models = open_models([folder / "deephits", folder / "cap"])
    split = open_stamps_for(models[0], folder / "stamps.npz")
    done = []
    kernels = get_kernels("cpu")
    html = viewer_fragment(
        runs(kernels, models, NAMES), split, INDICES, rule_names=RULES, progress=done.append
    )
    assert sum(done) == len(INDICES) * len(RULES) * 2
    return html


@pytest.fixture(scope="module")
def document(fragment):
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', fragment, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def explained(folder, tmp_path_factory):
    """A function of model, rule and layer that gives the arrays that the program explain writes."""
    out = tmp_path_factory.mktemp("maps")

    def group(model, rule, layer):
        path = out / f"{rule}-{layer}.h5"
        if not path.exists():
            options = [] if layer == "stamps" else ["--layer", layer]
            with contextlib.redirect_stdout(io.StringIO()):
                arguments = [folder / "deephits", folder / "stamps.npz", "--compare", folder / "cap"]
                arguments += ["--index", *INDICES, "--rule", rule, "--maps", path, *options]
                assert explain.main([str(a) for a in arguments]) == 0
        with h5py.File(path) as file:
            return {name: item[()] for name, item in file[f"models/{model}"].items()}

    return group


def unpacked(document, layer):
    """An array of the document, as the page's JavaScript reads it."""
    whole = np.frombuffer(base64.b64decode(document["blobs"][layer["blob"]]), "<i2")
    return whole.reshape(layer["shape"]) * layer["largest"] / 32767


def assert_as_kept(found, expected):
    """Equal but for the half of a 32767th of the largest magnitude that 16 bits cost."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=largest * (0.5 / 32767 + 1e-6))


def each_answer(document):
    for i, by_model in enumerate(document["answers"]):
        for model, by_rule in zip(("deephits", "cap"), by_model, strict=True):
            for rule, answer in zip(RULES, by_rule, strict=True):
                yield i, model, rule, answer


def test_maps_are_those_that_explain_writes(document, explained):
    for i, model, rule, answer in each_answer(document):
        layer = answer["layers"][0]
        expected = explained(model, rule, "stamps")
        assert layer["name"] == "stamps" and not layer["summed"]
        assert_as_kept(unpacked(document, layer), expected["maps"][i])
        assert answer["probability"] == f"{expected['probability'][i]:.4g}"
        each = [*expected["maps"][i], expected["average"][i]]
        sums = [[*one.sum(axis=(0, 1), dtype=np.float64), one.sum(dtype=np.float64)] for one in each]
        np.testing.assert_allclose(np.float64(layer["sums"]), sums, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["input", "convolution 2", "flatten", "dense 1", "dense 3"])
def test_layers_are_those_that_explain_writes(document, explained, name):
    for i, model, rule, answer in each_answer(document):
        (layer,) = (one for one in answer["layers"] if one["name"] == name)
        maps = explained(model, rule, name)["maps"][i]
        assert layer["summed"] == (maps.shape[-1] if maps.ndim == 4 else 0)
        expected = maps.sum(axis=-1, keepdims=True, dtype=np.float64) if maps.ndim == 4 else maps
        assert_as_kept(unpacked(document, layer), expected)
        sums = [one.sum(dtype=np.float64) for one in expected]
        np.testing.assert_allclose(np.float64(layer["sums"])[: len(sums), 0], sums, rtol=1e-3, atol=1e-6)


def test_every_layer_is_there(document, folder):
    for _, model, _, answer in each_answer(document):
        names = [layer["name"] for layer in answer["layers"]]
        network = load_model(folder / model).network
        assert names == ["stamps", "input", *network.names]
        assert [row[0] for row in answer["ledger"]] == network.names[::-1]


def audited(folder, model, rule):
    """The cells of the tables that the program audit prints, by stamp."""
    result = call("audit", folder / model, folder / "stamps.npz", "--index", *INDICES, "--rule", rule)
    assert result.returncode == 0, result.stderr
    tables = []
    for block in result.stdout.strip().split("\n\n"):
        title, _, *lines = block.splitlines()
        doubts = [line.removeprefix("doubtful: ") for line in lines if line.startswith("doubtful: ")]
        *lines, trust = lines[: len(lines) - len(doubts)]
        cells = [re.fullmatch(r"(.+?)" + r"\s+(\S+)" * (len(COLUMNS) - 1), line).groups() for line in lines]
        tables.append((title, [list(row) for row in cells], trust, doubts))
    return tables


def test_ledgers_are_those_that_audit_prints(document, folder):
    for model in ("deephits", "cap"):
        for rule in RULES:
            tables = audited(folder, model, rule)
            for i, (title, cells, trust, doubts) in enumerate(tables):
                answer = document["answers"][i][("deephits", "cap").index(model)][RULES.index(rule)]
                assert answer["ledger"] == cells
                assert (answer["trust"], answer["doubts"]) == (trust, doubts)
                assert f"100% is {answer['output']}," in title
                assert f"predicted {answer['predicted']}, " in title


def test_equal_arrays_are_kept_once(document):
    blobs = {
        name: set() for name in ("convolution 5", "flatten", "cyclic concatenation", "dense 1", "dropout 1")
    }
    for layer in document["answers"][0][0][0]["layers"]:
        blobs.get(layer["name"], set()).add(layer["blob"])
    assert blobs["flatten"] == blobs["cyclic concatenation"] != blobs["convolution 5"]
    assert blobs["dense 1"] == blobs["dropout 1"]
    assert len(document["blobs"]) == len(set(document["blobs"]))


def test_the_fragment_stands_alone(fragment):
    assert fragment.count("</script>") == 2
    outside = re.sub(r'<script type="application/json">.*?</script>', "", fragment, flags=re.DOTALL)
    assert re.findall(r"https?://[^\"]+", outside) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"\b(src|href)=|url\(|@import|fetch\(|XMLHttp|import\(", outside)


def test_what_is_refused(folder, tmp_path):
    page = tmp_path / "page.html"
    arguments = ("view", folder / "cap", folder / "stamps.npz", "--out", page)
    assert_refused(call(*arguments, "--rule", "alpha3"), "alpha3", "alpha2beta1")
    assert_refused(call(*arguments, "--index", 40), "no stamp 40")
    assert not page.exists()
    page.write_text("mine")
    assert_refused(call(*arguments), "page.html", "exists already")
    assert page.read_text() == "mine"
    model = load_model(folder / "cap")
    split = open_stamps_for(model, folder / "stamps.npz")
    with pytest.raises(UserError, match="alpha3"):
        viewer_fragment(runs(get_kernels("cpu"), [model]), split, [0], rule_names=["alpha2beta1", "alpha3"])


def test_the_programs_page(folder, tmp_path):
    result = call(
        "view", folder / "cap", folder / "stamps.npz", "--out", tmp_path / "page.html", "--rule", "flat"
    )
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>") and "Relevance: cap on stamps.npz" in page
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    document = json.loads(text)
    assert [stamp["index"] for stamp in document["stamps"]] == list(range(12))
    assert [rule["name"] for rule in document["rules"]] == ["flat"] and "flat" in composites.COMPOSITES


# In a browser.


@pytest.fixture
def page(browser, fragment, tmp_path):
    """The fragment on a page, twice, just opened; the tests use the first."""
    path = tmp_path / "page.html"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    path.write_text(f'<!DOCTYPE html><html lang="en">{meta}<title>test</title>{fragment}{fragment}', "utf-8")
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(path)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]


def shown(page, script):
    """The value of an expression in which `v` is the first viewer."""
    return page.run(f"(() => {{ const v = document.querySelector('.lrp-viewer'); return {script}; }})()")


def picked(page):
    """The numbers of the stamp, model, rule and rotation that are picked, and the layer's name."""
    groups = ", ".join(
        f"+v.querySelector('.{name} input:checked').value" for name in ("stamp", "model", "rule", "rotation")
    )
    return shown(page, f"[{groups}, v.querySelector('select').value]")


def focused(page):
    """The focused control: its group or tag, and whether one sees that it has the focus."""
    return page.run(
        "(() => { const e = document.activeElement;"
        " const seen = e.type === 'radio' ? e.nextElementSibling : e;"
        " const where = e.closest('fieldset') ?? e;"
        " return [where.className || e.tagName, getComputedStyle(seen).outlineStyle]; })()"
    )


def readout(page):
    """The numbers of the value that is read out: for each channel the pixel and R."""
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", said(page))]


def as_shown(largest):
    """What three decimals of the largest magnitude cost, and the 16 bits."""
    return 0.5e-3 * 10 ** np.floor(np.log10(largest)) + largest / 65000


def said(page):
    return shown(page, "v.querySelector('output').textContent")


def test_by_keyboard_alone(page, document, explained, folder):
    """Tab from control to control, arrows within; the values are then explain's, the ledger audit's."""
    for stop, key, times in [
        ("stamp", "ArrowRight", 2),
        ("model", "ArrowRight", 1),
        ("rule", "ArrowDown", 1),
        ("SELECT", "ArrowDown", 0),
        ("rotation", "ArrowRight", 1),
    ]:
        page.press("Tab")
        assert focused(page) == [stop, "solid"]
        page.press(key, times)
    assert picked(page) == [2, 1, 1, 1, "stamps"]
    assert shown(page, "v.querySelector('.verdict').textContent").startswith(f"stamp {INDICES[2]}, ")
    page.press("Tab")
    assert focused(page) == ["row maps", "solid"]
    page.press("ArrowRight")  # to the middle of the map, then further
    page.press("ArrowRight", 2)
    page.press("ArrowUp")
    row, column = SIDE // 2 - 1, SIDE // 2 + 2
    assert said(page).startswith(f"row {row}, column {column}: science ")
    maps = explained("cap", "epsilon", "stamps")["maps"][2]
    pixels = np.rot90(unpacked(document, document["stamps"][2]))[row, column]
    found, tolerance = readout(page), as_shown(np.abs(maps).max())
    np.testing.assert_allclose(found[::2], pixels, rtol=0, atol=as_shown(1))
    np.testing.assert_allclose(found[1::2], maps[1, row, column], rtol=0, atol=tolerance)
    assert ledger(page) == audited(folder, "cap", "epsilon")[2][1]
    page.press("Tab")
    assert focused(page) == ["ledger", "solid"]
    page.press("Tab", 5, shift=True)
    assert focused(page)[0] == "model"


def ledger(page):
    return shown(
        page, "[...v.querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )


def test_layers_by_keyboard(page, document):
    shown(page, "v.querySelector('select').focus()")
    names = [layer["name"] for layer in document["answers"][0][0][0]["layers"]]
    for name in names[1:]:
        page.press("ArrowDown")
        assert picked(page)[-1] == name
        current = shown(page, "v.querySelector('[aria-current]')?.dataset.layer ?? ''")
        assert current == ("" if name == "input" else name)


def test_by_mouse(page, explained):
    page.click("document.querySelectorAll('.stamp label')[1]")
    page.click("document.querySelectorAll('.model label')[1]")
    page.click("document.querySelectorAll('.rotation label')[4]")
    assert picked(page) == [1, 1, 0, 4, "stamps"]
    page.point("document.querySelectorAll('.maps canvas')[1]", 0.5 / SIDE, (SIDE - 0.5) / SIDE)
    assert said(page).startswith(f"row {SIDE - 1}, column 0: ")
    found = explained("cap", "alpha2beta1", "stamps")
    expected = found["average"][1, SIDE - 1, 0]
    largest = np.abs(found["maps"][1]).max()
    np.testing.assert_allclose(readout(page)[1::2], expected, rtol=0, atol=as_shown(largest))
    page.click("document.querySelector('.lrp-viewer tr[data-layer=\"convolution 2\"]')")
    assert picked(page)[-1] == "convolution 2"
    assert "summed over its 32 channels" in shown(page, "v.querySelector('.says').textContent")
    assert shown(page, "v.querySelectorAll('.maps canvas').length") == 1


def test_two_viewers_on_a_page_are_apart(page):
    page.click("document.querySelectorAll('.lrp-viewer')[1].querySelectorAll('.stamp label')[2]")
    assert picked(page)[0] == 0
    page.click("document.querySelectorAll('.lrp-viewer')[0].querySelectorAll('.stamp label')[1]")
    checked = "[...document.querySelectorAll('.stamp input:checked')].map((input) => input.value)"
    assert page.run(checked) == ["1", "2"]


PAINTED = (
    "[...v.querySelectorAll('.maps canvas')].map((c) =>"
    " [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
)


def test_colours(page, explained):
    """White at 0, red above and blue below, one scale for the rotations and the channels."""
    page.click("document.querySelectorAll('.rotation label')[2]")
    maps = explained("deephits", "alpha2beta1", "stamps")["maps"][0]
    painted = np.array(shown(page, PAINTED)).reshape(2, SIDE, SIDE, 4)
    share = np.moveaxis(maps[2], -1, 0) / np.abs(maps).max()
    red, green, blue, alpha = np.moveaxis(painted, -1, 0).astype(int)
    assert (alpha == 255).all() and (share > 0.02).any() and (share < -0.02).any()
    assert ((red > blue) == (share > 0))[np.abs(share) > 0.02].all()
    weak = np.abs(share) < 1e-5
    assert (painted[weak] == 255).all()
    order = np.argsort(np.abs(share), axis=None)
    assert (np.diff(green.ravel()[order]) <= 60).all()  # the stronger the darker, but for the two hues' ways
    ticks = shown(page, "[...v.querySelectorAll('.ticks span')].map((s) => +s.textContent)")
    np.testing.assert_allclose(ticks, np.abs(maps).max() * np.linspace(-1, 1, 5), rtol=1e-3)
    told = shown(page, "v.querySelector('.trust').textContent")
    assert told.startswith("Of the stamp: the map holds ")
    note = shown(page, "v.querySelector('.note').textContent")
    assert "The scale is one for the four rotations and all channels" in note


def test_vectors_are_bars(page, document):
    shown(page, "v.querySelector('select').focus()")
    page.press("End")
    assert picked(page)[-1] == "dense 3"
    assert shown(page, "v.querySelector('.rotation').disabled")
    assert shown(page, "[...v.querySelectorAll('.ends span')].map((s) => s.textContent)") == [
        "artifact",
        "candidate",
    ]
    answer = document["answers"][0][0][0]
    page.point("document.querySelector('.bars')", 0.25 if answer["predicted"] == "artifact" else 0.75, 0.5)
    assert said(page).startswith(f"{answer['predicted']}: R ")
    (value,) = readout(page)
    assert value == pytest.approx(unpacked(document, answer["layers"][-1]).sum(), rel=1e-3)


def test_controls_have_names_for_screen_readers(page):
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    by_role = {}
    for node in nodes:
        if not node["ignored"]:
            by_role.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(by_role["radio"]) == 2 * (len(INDICES) + 2 + len(RULES) + 5)
    for role in ("radio", "group", "combobox", "application", "table", "image"):
        assert by_role[role] and all(by_role[role]), role
    assert {"Stamp", "Model", "Rule", "Rotation"} <= set(by_role["group"])
    assert by_role["combobox"] == ["Layer", "Layer"]
    assert NAMES[0] in by_role["radio"]


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window(page, width):
    page.resize(width, 800)
    for row in ("", "convolution 1", "flatten"):
        if row:
            shown(page, f"v.querySelector('tr[data-layer=\"{row}\"]').click()")
        assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_large_stamps_are_painted(tmp_path):
    """401 x 401 pixels are more than a call's arguments may be."""
    tools = resources.files("rotinv.lrp.viewer").joinpath("viewer_tools.js").read_text("utf-8")
    script = tmp_path / "paint.js"
    script.write_text(f"""
const data = {{ blobs: [] }};
{tools}
let painted;
const context = {{ createImageData: (w, h) => ({{ data: new Uint8ClampedArray(4 * w * h) }}),
                    putImageData: (image) => {{ painted = image; }} }};
const values = Float64Array.from({{ length: 401 * 401 }}, (_, i) => i);
paintStamp({{ getContext: () => context }}, {{ side: 401, values }});
console.log(painted.data[0], painted.data[4 * 401 * 401 - 4], painted.data.length);
""")
    done = subprocess.run(["node", script], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "255", str(4 * 401 * 401)], done.stderr
