"""The program rotinv.explain: its maps, table, pictures, layers, disagreements of two models, bad input."""

import csv
import dataclasses
import json
import shutil
import subprocess

import h5py
import looks
import numpy as np
import pytest
from programs import ENVIRONMENT, assert_refused, call, command, make_run, run, toy_arrays

from rotinv import explain, score
from rotinv.lrp import attribution, composites, heatmaps, map_figures, trust
from rotinv.lrp.study import study as ask
from rotinv.lrp.subjects import runs
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import load_model, open_models, open_stamps_for, stamps_as_read
from rotinv.runs.predictions import score_stamps
from rotinv.system import pictures
from rotinv.system.errors import UserError

CHANNELS = ["science", "difference"]
SIDE = 13
INDICES = [3, 0, 38]
LRP = composites.named("alpha2beta1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [
        make_run(folder / f"{arch}-{seed}", arch, seed, channels=CHANNELS)
        for arch, seed in (("deephits", 2), ("cap", 1))
    ]


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    path = tmp_path_factory.mktemp("stamps") / "stamps.npz"
    np.savez(path, **toy_arrays(n=40, side=SIDE, channels=2))
    return path


def explained(*arguments):
    assert explain.main([str(a) for a in arguments]) == 0


def read(path):
    """The attributes and arrays of a file of maps."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {}))
        layers = {name: group.attrs["layer"] for name, group in file["models"].items()}
        return dict(file.attrs), found, layers


def prepared(folder, path, indices=INDICES):
    model = load_model(folder)
    return model, stamps_as_read(model, open_stamps_for(model, path), np.array(indices))


def study(models, stamps, indices, layer=None):
    loaded = open_models(models)
    split = open_stamps_for(loaded[0], stamps)
    return ask(runs(get_kernels("cpu"), loaded), split, np.array(indices), attribution.Question(layer=layer))


def texts(figure):
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def drawn(figure):
    """The images of a page as (array, least, largest), in the order in which they were drawn."""
    from matplotlib.image import AxesImage

    return [(np.asarray(one.get_array()), *one.get_clim()) for one in figure.findobj(AxesImage)]


def test_maps_are_those_of_heatmaps(cpu, models, stamps, tmp_path):
    explained(models[0], stamps, "--index", *INDICES, "--compare", models[1], "--maps", tmp_path / "m.h5",
              "--scale", "min-max")  # fmt: skip
    attributes, found, layers = read(tmp_path / "m.h5")
    assert attributes["method"] == "lrp" and attributes["rule"] == "alpha2beta1"
    assert attributes["target"] == "predicted" and attributes["scale"] == "none"
    assert layers == {"deephits-2": "stamps", "cap-1": "stamps"}
    np.testing.assert_array_equal(found["indices"], INDICES)
    np.testing.assert_array_equal(found["label"], np.load(stamps)["label"][INDICES])
    for folder in models:
        model, x = prepared(folder, stamps)
        logits, maps = next(
            heatmaps.of_rotations(cpu, model.network, cpu.asarray(model.params), x, "lrp", LRP)
        )
        group = f"models/{folder.name}/"
        np.testing.assert_array_equal(found[group + "maps"], maps)
        np.testing.assert_array_equal(found[group + "average"], heatmaps.average(maps))
        np.testing.assert_array_equal(found[group + "logits"], logits)
        p = score_stamps(cpu, model.network, cpu.asarray(model.params), x)
        np.testing.assert_array_equal(found[group + "probability"], p)


def test_table_agrees_with_score_and_with_the_maps(models, stamps, tmp_path, capsys):
    explained(models[1], stamps, "--index", 5, "--maps", tmp_path / "m.h5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("LRP alpha2beta1 of the predicted class's logit")
    assert lines[2].startswith("stamp 5, candidate, SNR")
    assert lines[3].split() == ["model", "class", "p(candidate)", *CHANNELS, "all"]
    name, predicted, p, *sums = lines[4].split()
    row = scores(models[1], stamps, tmp_path)[5]
    assert (name, predicted) == ("cap-1", ["artifact", "candidate"][int(row["class"])])
    assert float(p) == pytest.approx(float(row["probability"]), rel=1e-3)
    maps = read(tmp_path / "m.h5")[1]["models/cap-1/maps"][0]
    each = maps.sum(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(np.float64(sums), [*each, each.sum()], rtol=1e-3)


@pytest.mark.parametrize("method", ["lrp", "guided"])
def test_caps_average_turns_with_the_stamp(models, stamps, tmp_path, method):
    arrays = dict(np.load(stamps))
    np.savez(tmp_path / "turned.npz", **{**arrays, "stamps": np.rot90(arrays["stamps"], axes=(1, 2))})
    averages = []
    for path in (stamps, tmp_path / "turned.npz"):
        out = tmp_path / f"{path.stem}.h5"
        explained(models[1], path, "--index", *INDICES, "--maps", out, "--method", method)
        averages.append(read(out)[1]["models/cap-1/average"])
    np.testing.assert_array_equal(averages[1], np.rot90(averages[0], axes=(1, 2)))


def test_seed_and_rule_reach_the_maps(cpu, models, stamps, tmp_path):
    explained(
        models[1], stamps, "--index", 0, "--maps", tmp_path / "m.h5", "--target", 1, "--rule", "epsilon"
    )
    attributes, found, _ = read(tmp_path / "m.h5")
    assert attributes["target"] == "1" and attributes["rule"] == "epsilon"
    model, x = prepared(models[1], stamps, [0])
    params = cpu.asarray(model.params)
    asked = "lrp", composites.named("epsilon"), 1
    _, maps = next(heatmaps.of_rotations(cpu, model.network, params, x, *asked))
    np.testing.assert_array_equal(found["models/cap-1/maps"], maps)


LAYERS = [("convolution 2", 4, 4), ("Dense 1", 9, 10), ("input", 0, 0), ("dense 3", 14, 14)]


@pytest.mark.parametrize("layer,in_cap,in_deephits", LAYERS)
def test_a_layer_is_the_trails(cpu, models, stamps, tmp_path, layer, in_cap, in_deephits):
    explained(models[0], stamps, "--index", *INDICES, "--compare", models[1], "--maps", tmp_path / "m.h5",
              "--layer", layer, "--out", tmp_path / "page.pdf")  # fmt: skip
    _, found, layers = read(tmp_path / "m.h5")
    assert set(layers.values()) == {layer.lower()}
    for folder, number in zip(models, (in_deephits, in_cap), strict=True):
        model, x = prepared(folder, stamps)
        trail = heatmaps.trail(cpu, model.network, cpu.asarray(model.params), cpu.asarray(x), "lrp", LRP)
        maps, expected = found[f"models/{folder.name}/maps"], trail.relevance[number]
        assert maps.shape[1] == len(expected) // len(x)
        for i in range(len(x)):
            np.testing.assert_array_equal(maps[i], expected[i :: len(x)])
    assert pages(tmp_path / "page.pdf") == len(INDICES)


def test_a_layer_by_its_number(models, stamps, tmp_path):
    for name, layer in (("number", 4), ("name", "convolution 2")):
        explained(models[1], stamps, "--index", 0, "--maps", tmp_path / f"{name}.h5", "--layer", layer)
    one, other = (read(tmp_path / f"{name}.h5") for name in ("number", "name"))
    assert one[2] == other[2]
    np.testing.assert_array_equal(one[1]["models/cap-1/average"], other[1]["models/cap-1/average"])


def scores(folder, stamps, tmp_path):
    out = tmp_path / f"{folder.name}.csv"
    assert score.main([str(folder), str(stamps), "--out", str(out)]) == 0
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def test_disagreements_are_those_of_scores_table(models, stamps, tmp_path, capsys):
    first, second = (scores(folder, stamps, tmp_path) for folder in models)
    expected = {
        int(a["index"]): abs(float(a["probability"]) - float(b["probability"]))
        for a, b in zip(first, second, strict=True)
        if a["class"] != a["label"] == b["class"]
    }
    assert 2 < len(expected) < 38
    capsys.readouterr()
    explained(models[0], stamps, "--compare", models[1], "--disagreements", "--count", 2,
              "--maps", tmp_path / "m.h5")  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    candidates = sum(int(first[i]["label"]) for i in expected)
    assert lines[0] == (
        f"cap-1 is right and deephits-2 wrong on {len(expected)} of 40 stamps: "
        f"{candidates} candidates, {len(expected) - candidates} artifacts"
    )
    listed = [int(line.split()[1].rstrip(",")) for line in lines[1 : 1 + len(expected)]]
    assert sorted(listed) == sorted(expected)
    assert [expected[i] for i in listed] == sorted(expected.values(), reverse=True)
    np.testing.assert_array_equal(read(tmp_path / "m.h5")[1]["indices"], listed[:2])


def test_disagreements_leave_bad_stamps_out_when_told_to(models, stamps, tmp_path, capsys):
    arrays = dict(np.load(stamps))
    arrays["stamps"][7, 0, 0, 0] = np.nan
    np.savez(tmp_path / "bad.npz", **arrays)
    arguments = [*map(str, (models[0], tmp_path / "bad.npz", "--compare", models[1])), "--disagreements"]
    with pytest.raises(UserError, match="--on-bad drop"):
        explain.main(arguments)
    explained(*arguments, "--on-bad", "drop")
    dropped = capsys.readouterr().out.splitlines()
    explained(models[0], stamps, "--compare", models[1], "--disagreements")
    whole = capsys.readouterr().out.splitlines()
    assert "of 39 stamps" in dropped[0] and "of 40 stamps" in whole[0]
    listed = [line for line in whole if "p(candidate) 0" in line and not line.startswith("  stamp 7,")]
    assert listed == [line for line in dropped if "p(candidate) 0" in line]


def test_a_model_has_no_disagreements_with_its_copy(models, stamps, tmp_path, capsys):
    copy = shutil.copytree(models[0], tmp_path / "copy" / models[0].name)
    explained(models[0], stamps, "--compare", copy, "--disagreements", "--out", tmp_path / "none.png")
    assert "deephits-2-2 is right and deephits-2-1 wrong on 0 of 40 stamps" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def pages(path):
    return path.read_bytes().count(b"/Type /Page ")


def test_pictures(models, stamps, tmp_path):
    from matplotlib.image import imread

    both = (models[0], stamps, "--compare", models[1], "--index")
    explained(*both, 7, "--out", tmp_path / "one.png")
    explained(*both, *INDICES, 3, "--out", tmp_path / "more.png")
    explained(models[1], stamps, "--index", *INDICES, "--out", tmp_path / "more.pdf")
    names = {"one.png", "more-3.png", "more-0.png", "more-38.png", "more.pdf"}
    assert {path.name for path in tmp_path.iterdir()} == names
    width, height = map_figures.page(study(models, stamps, [7]), 0).get_size_inches() * map_figures.DPI
    for path in tmp_path.glob("*.png"):
        pixels = imread(path)
        assert pixels.shape[:2] == (round(height), round(width))
        assert pixels[..., :3].std() > 0.05
    assert pages(tmp_path / "more.pdf") == 3


def test_a_page_names_what_it_shows(models, stamps):
    found = texts(map_figures.page(study(models, stamps, INDICES), 1))
    for word in ("stamp 0, artifact, SNR", "deephits-2", "cap-1", *CHANNELS, "270°", "average", "divided by",
                 "LRP alpha2beta1"):  # fmt: skip
        assert word in found
    left, right = (found.index(folder.name) for folder in models)
    assert left < right


@pytest.mark.parametrize("realign", [False, True])
def test_a_page_draws_the_scaled_maps(models, stamps, realign):
    one = study(models[1:], stamps, INDICES)
    images = drawn(map_figures.page(one, 2, "max-abs", realign))
    maps = heatmaps.scaled(one.answers[0].maps[2:], "max-abs")
    rows = heatmaps.turned_back(maps) if realign else maps
    expected = [*rows[0], heatmaps.average(maps)[0]]
    for c in range(2):
        np.testing.assert_array_equal(images[c][0], one.stamps[2, ..., c])
    assert len(images) == 2 + 5 * 2
    for place, (image, low, high) in enumerate(images[2:]):
        np.testing.assert_array_equal(image, expected[place // 2][..., place % 2])
        assert (low, high) == (-1, 1)


def test_scales_of_a_page(models, stamps):
    one = study(models[1:], stamps, INDICES)
    largest = float(np.abs(one.answers[0].maps[0]).max())
    assert {image[1:] for image in drawn(map_figures.page(one, 0, "none"))[2:]} == {(-largest, largest)}
    assert {image[1:] for image in drawn(map_figures.page(one, 0, "min-max"))[2:]} == {(0, 1)}


def test_of_many_channels_the_strongest_are_drawn(models, stamps):
    one = study(models[1:], stamps, [0], "convolution 2")
    maps = one.answers[0].maps[0]
    strength = np.abs(maps).sum(axis=(0, 1, 2))
    page = map_figures.page(one, 0, "none")
    for channel in np.argsort(strength)[-map_figures.STRONGEST :]:
        assert f"channel {channel}" in texts(page).splitlines()
    np.testing.assert_allclose(drawn(page)[2][0], maps[0].sum(axis=-1), rtol=1e-4, atol=1e-6 * strength.max())


def test_each_channel_of_a_layer_has_its_own_scale(models, stamps):
    """One that is small beside the others is seen all the same; its size stands above it."""
    one = study(models[1:], stamps, [0], "convolution 2")
    maps = one.answers[0].maps[0]
    page = map_figures.page(one, 0)
    images = drawn(page)[2:]
    columns = 1 + map_figures.STRONGEST
    for column in range(columns):
        rows = [image for image, *_ in images[column::columns]][:4]  # the four rotations
        assert np.abs(rows).max() == pytest.approx(1)
    assert f"|R| ≤ {np.abs(maps.sum(axis=-1)).max():.3g}" in texts(page)
    assert "stands above it" in texts(page)


@pytest.mark.parametrize(
    "scale, unit", [("max-abs", "R / largest |R|"), ("min-max", "range of R"), ("none", "R")]
)
@pytest.mark.parametrize("layer", [None, "convolution 2", "dense 2"])
def test_a_page_names_its_scale_and_stays_within_its_edges(models, stamps, scale, unit, layer):
    chosen = models if scale == "max-abs" else models[1:]
    page = map_figures.page(study(chosen, stamps, [2], layer), 0, scale)
    map_figures.caution(page, "ONLY A TEST THAT IT RUNS: networks of 80 iterations (the paper's: 100,000)")
    assert looks.over_the_edge(page) < 0.01
    if layer != "dense 2":
        assert any(unit in axes.get_ylabel() for axes in page.axes)


BAD = {
    "no stamps chosen": ([], "--index or --disagreements"),
    "both": (["--index", 0, "--disagreements"], "--index or --disagreements"),
    "index": (["--index", 40], "no stamp 40"),
    "negative index": (["--index", -1], "at least 0"),
    "rule": (["--index", 0, "--rule", "alpha3"], "alpha3"),
    "method": (["--index", 0, "--method", "saliency"], "saliency"),
    "rule of another method": (
        ["--index", 0, "--method", "guided", "--rule", "epsilon"],
        "only --method lrp",
    ),
    "class": (["--index", 0, "--target", 2], "target 2"),
    "target": (["--index", 0, "--target", "loud"], "target 'loud'"),
    "layer": (["--index", 0, "--layer", "convolution"], "3 convolution 1 (16x16x32)"),
    "layer number": (["--index", 0, "--layer", 15], "14 dense 3 (2)"),
    "no second model": (["--disagreements"], "--compare"),
    "picture": (["--index", 0, "--out", "page.jpg"], ".png or .pdf"),
    "device": (["--index", 0, "--device", "abacus"], "abacus"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused_in_one_line(models, stamps, case, tmp_path, monkeypatch, capsys):
    options, word = BAD[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, SystemExit)) as refused:
        explain.main([str(a) for a in (models[1], stamps, *options)])
    told = capsys.readouterr().err if refused.type is SystemExit else str(refused.value)
    assert refused.type is UserError or refused.value.code == 2
    assert word in told and len(told.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_disagreements_need_labels(models, stamps, tmp_path):
    np.save(tmp_path / "stamps.npy", np.load(stamps)["stamps"])
    arguments = [models[0], tmp_path / "stamps.npy", "--compare", models[1], "--disagreements"]
    with pytest.raises(UserError, match=r"stamps\.npy: has no labels"):
        explain.main(list(map(str, arguments)))


def test_unlabelled_stamps_are_explained(models, stamps, tmp_path, capsys):
    np.save(tmp_path / "stamps.npy", np.load(stamps)["stamps"])
    explained(models[1], tmp_path / "stamps.npy", "--index", 4, "--out", tmp_path / "page.png")
    assert capsys.readouterr().out.splitlines()[2] == "stamp 4"


def test_what_does_not_fit_is_told(models, stamps, tmp_path):
    other = make_run(tmp_path / "other", "cap", 0, channels=["template", "science"])
    np.savez(tmp_path / "three.npz", **toy_arrays(n=4, side=SIDE, channels=3))
    np.savez(tmp_path / "nan.npz", stamps=np.full((4, SIDE, SIDE, 2), np.nan))
    for arguments, word in (
        ([models[0], stamps, "--compare", other], "channels"),
        ([models[0], tmp_path / "three.npz"], "three.npz"),
        ([models[0], tmp_path / "nan.npz"], "NaN"),
        ([tmp_path, stamps], r"config\.json"),
        ([models[0], stamps, "--maps", tmp_path / "m.npz"], "name the file .h5"),
    ):
        with pytest.raises(UserError, match=word):
            explain.main([*map(str, arguments), "--index", "0"])


@pytest.mark.parametrize("value,word", [(1e38, "not numbers"), (np.nan, "not finite")])
def test_weights_that_are_not_numbers_are_told(stamps, tmp_path, value, word):
    folder = make_run(tmp_path / "diverged", channels=CHANNELS, value=value)
    assert_refused(run("explain", folder, stamps, "--index", 0), "diverged", word)


def test_maps_that_deviate_from_the_reference_are_told(models, stamps, capsys, monkeypatch):
    monkeypatch.setattr(trust, "LARGEST_DEVIATION", 1)
    explained(models[1], stamps, "--compare", models[0], "--index", *INDICES)
    assert "rounding" not in capsys.readouterr().err
    monkeypatch.setattr(trust, "LARGEST_DEVIATION", 0)
    explained(models[1], stamps, "--compare", models[0], "--index", *INDICES)
    told = [line for line in capsys.readouterr().err.splitlines() if "rounding" in line]
    assert len(told) == 2 * len(INDICES)
    for index, line in zip([*INDICES, *INDICES], told, strict=True):
        assert f"stamp {index}: " in line and "rounding changes the map" in line
    explained(models[1], stamps, "--compare", models[0], "--index", *INDICES, "--method", "gradient-x-input")
    told = [line for line in capsys.readouterr().err.splitlines() if "rounding" in line]
    assert len(told) == 2 and all(f"stamp {', '.join(map(str, INDICES))} (" in line for line in told)


def test_what_is_told_of_each_map_is_what_audit_tells(models, stamps, capsys):
    explained(models[1], stamps, "--compare", models[0], "--index", *INDICES)
    told = capsys.readouterr().out
    for folder in models[:2]:
        audited = call("audit", folder, stamps, "--index", *INDICES)
        lines = [line for line in audited.stdout.splitlines() if line.startswith("the map holds")]
        assert len(lines) == len(INDICES) and all(line in told for line in lines)


def test_an_answer_in_python_tells_whether_its_maps_can_be_trusted(models, stamps):
    found = study(models, stamps, INDICES)
    for of, folder in enumerate(models):
        document = json.loads(call("audit", folder, stamps, "--index", *INDICES, "--json").stdout)
        for i, audited in enumerate(document["stamps"]):
            told = found.trust(i, of=of)
            assert told.share == pytest.approx(audited["trust"]["share"])
            assert (told.deviation, told.doubts) == (
                audited["trust"]["deviation"],
                audited["trust"]["doubts"],
            )
    assert found.trust(-1) == found.trust(len(INDICES) - 1)
    with pytest.raises(UserError, match="no network 2"):
        found.trust(0, of=2)
    gradients = dataclasses.replace(found, question=attribution.Question("gradient"))
    with pytest.raises(UserError, match="gradient have no ledger"):
        gradients.trust()


def test_deviations_are_those_of_the_maps(models, stamps):
    found = study(models[1:], stamps, INDICES)
    (model,), (answer,) = open_models(models[1:]), found.answers
    assert (attribution.deviations(model, found.stamps, found.question, answer) < 1e-4).all()
    answer.maps[1] *= np.float32(1.01)
    off = attribution.deviations(model, found.stamps, found.question, answer)
    assert off[1] == pytest.approx(0.01, rel=1e-2)
    assert (np.delete(off, 1) < 1e-4).all()


def test_nothing_is_overwritten(models, stamps, tmp_path):
    for name in ("page.png", "page.pdf", "page-0.png", "maps.h5"):
        (tmp_path / name).write_text("mine")
    for out in (["--out", "page.png"], ["--out", "page.pdf"], ["--maps", "maps.h5"]):
        option, name = out
        with pytest.raises(UserError, match="exists already"):
            explain.main([str(models[0]), str(stamps), "--index", "0", option, str(tmp_path / name)])
    (tmp_path / "page.png").unlink()
    with pytest.raises(UserError, match=r"page-0\.png: exists already"):
        explain.main([str(models[0]), str(stamps), "--index", "1", "0", "--out", str(tmp_path / "page.png")])
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_files_are_written_though_nobody_reads_the_tables(models, stamps, tmp_path):
    arguments = ("explain", models[1], stamps, "--index", 0, "--maps", tmp_path / "m.h5")
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, env=ENVIRONMENT,
                          stderr=subprocess.DEVNULL) as program:  # fmt: skip
        program.stdout.close()
    assert program.returncode == 0
    assert "models/cap-1/maps" in read(tmp_path / "m.h5")[1]


def test_without_matplotlib_a_picture_names_the_remedy(models, stamps, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "matplotlib_available", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'rotinv\[plot\]'"):
        explain.main([str(models[0]), str(stamps), "--index", "0", "--out", str(tmp_path / "page.png")])
    explained(models[0], stamps, "--index", 0)
