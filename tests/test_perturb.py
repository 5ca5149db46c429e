"""Region perturbation: AOPC by hand on a linear network, pairing, and the program."""

import csv
import json

import looks
import numba
import numpy as np
import pytest
from programs import assert_refused, call, make_run, run, toy_arrays
from scipy import integrate

from rotinv.lrp import composites, heatmaps
from rotinv.lrp.quality import figures, perturbation, ways
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model, write_weights
from rotinv.stamps.pixels import prepare
from rotinv.system import pictures
from rotinv.system.errors import UserError


def linear(weights):
    """A score of two classes: the weighted sum of a stamp's pixels, and half of it."""
    return lambda x: np.stack(
        [(x * weights).sum(axis=(1, 2, 3)), (x * weights).sum(axis=(1, 2, 3)) / 2], axis=1
    )


def test_aopc_by_hand():
    """Pixels 1, 2, 3, 4 of weight 1, blanked from the largest: the score falls by 4, 7, 9, 10 of 10."""
    x = np.array([[1.0, 2], [3, 4]])[None, :, :, None]
    regions = perturbation.region_of_pixels(2, 1)
    order = perturbation.ranks(x, regions, "lrp")
    np.testing.assert_array_equal(order, [[3, 2, 1, 0]])
    drops = perturbation.drops(linear(1.0), x, order, regions, np.zeros_like(x), 4)
    np.testing.assert_array_equal(drops, [[0, 4, 7, 9, 10]])
    backwards = perturbation.drops(linear(1.0), x, order[:, ::-1], regions, np.zeros_like(x), 4)
    np.testing.assert_array_equal(backwards, [[0, 1, 3, 6, 10]])


def test_the_contributions_own_order_is_the_best(rng):
    """Of a linear score, against every other order of six regions drawn, at every number of steps."""
    weights, x = rng.normal(size=(6, 6, 2)), rng.uniform(size=(5, 6, 6, 2))
    x *= np.sign((x * weights).sum(axis=(1, 2, 3)))[:, None, None, None]  # class 0 is predicted
    regions, nothing = perturbation.region_of_pixels(6, 2), np.zeros_like(x)
    best = perturbation.drops(
        linear(weights), x, perturbation.ranks(x * weights, regions, "lrp"), regions, nothing, 9
    )
    for seed in range(20):
        order = perturbation.random_ranks(np.arange(5), 9, seed)
        other = perturbation.drops(linear(weights), x, order, regions, nothing, 9)
        assert (best >= other - 1e-12).all()
    np.testing.assert_allclose(best[:, -1], (x * weights).sum(axis=(1, 2, 3)))


def test_unsigned_methods_rank_by_magnitude():
    maps = np.array([[-5.0, 1], [2, 3]])[None, :, :, None]
    regions = perturbation.region_of_pixels(2, 1)
    assert perturbation.ranks(maps, regions, "gradient")[0, 0] == 0
    assert perturbation.ranks(maps, regions, "gradient-x-input")[0, -1] == 0


@pytest.mark.parametrize("size, side", [(21, 3), (21, 4), (13, 5), (5, 7)])
def test_regions_tile_the_stamp(size, side):
    regions = perturbation.region_of_pixels(size, side)
    across = -(-size // side)
    assert set(regions.ravel()) == set(range(across**2))
    for number in range(across**2):
        rows, columns = np.nonzero(regions == number)
        assert np.ptp(rows) < side and np.ptp(columns) < side
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_draws_are_a_stamps_own():
    """Whatever other stamps are perturbed with it."""
    alone = perturbation.noise(np.array([7]), (5, 5, 2), 3)
    among = perturbation.noise(np.arange(9), (5, 5, 2), 3)
    np.testing.assert_array_equal(alone[0], among[7])
    assert 0 <= among.min() and among.max() < 1 and len(np.unique(among)) == among.size
    np.testing.assert_array_equal(
        perturbation.random_ranks(np.array([7]), 9, 3)[0], perturbation.random_ranks(np.arange(9), 9, 3)[7]
    )


def test_each_draw_is_another():
    indices = np.arange(3)
    one, other = (perturbation.noise(indices, (5, 5, 2), 3, draw) for draw in (0, 1))
    assert not np.isclose(one, other).all(axis=(1, 2, 3)).any()
    orders = [perturbation.random_ranks(indices, 49, 3, draw) for draw in (0, 1)]
    assert (orders[0] != orders[1]).any(axis=1).all()


def test_what_is_no_number_is_told(rng):
    x = rng.uniform(size=(2, 4, 4, 1))
    regions = perturbation.region_of_pixels(4, 2)
    with pytest.raises(UserError, match="maps are not numbers"):
        perturbation.ranks(np.where(x == x.max(), np.nan, x), regions, "lrp")
    order = perturbation.ranks(x, regions, "lrp")
    with pytest.raises(UserError, match="scores are not numbers"):
        perturbation.drops(linear(np.inf), x, order, regions, x, 4)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("perturb")
    make_run(folder, "cap-mini")
    np.savez(folder / "stamps.npz", **toy_arrays(70))
    return folder


def perturb(mini, *arguments):
    """What the program prints."""
    done = call("perturb", mini, mini / "stamps.npz", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_text_json_and_csv_tell_the_same(mini, tmp_path):
    options = ["--count", 60, "--steps", 5, "--methods", "lrp,gradient", "--rule", "epsilon", "zplus"]
    document = json.loads(perturb(mini, *options, "--json", "--csv", tmp_path / "t.csv"))
    table = {row["method"]: row for row in document["table"] if row["class"] == "all"}
    assert list(table) == ["lrp epsilon", "lrp zplus", "gradient", "random"]
    assert all(row["stamps"] == 60 for row in table.values())
    assert table["random"]["above_random"] == 0
    for name, row in table.items():
        assert row["aopc"] == pytest.approx(np.mean(document["mean_drop"][name]))
        assert row["above_random"] == pytest.approx(row["aopc"] - table["random"]["aopc"])
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["class"] == "all":
            assert float(row["aopc"]) == table[row["method"]]["aopc"]
    assert [float(row["aopc"]) for row in rows] == [row["aopc"] for row in document["table"]]
    text = perturb(mini, *options, "--threads", 1)
    whole, *by_class = text.split("\n\n")
    assert by_class and all(part.startswith("predicted ") for part in by_class)
    for line in whole.splitlines()[2:]:
        name = line[:30].strip()
        assert float(line[30:42]) == pytest.approx(table[name]["aopc"], abs=1e-4)


def test_rules_with_commas_of_their_own(mini):
    """Numbers and layers as explain and audit take them; a network without the layer is told at once."""
    rules = ["alpha-beta:alpha=3,beta=2", "convolution=flat; dense 2=epsilon:eps=0.01"]
    options = ["--count", 5, "--steps", 2, "--methods", "lrp"]
    table = json.loads(perturb(mini, *options, "--rule", *rules, "--json"))["table"]
    assert [row["method"] for row in table if row["class"] == "all"] == [
        *(f"lrp {rule}" for rule in rules),
        "random",
    ]
    text = perturb(mini, *options, "--rule", *rules)
    assert any(line.startswith(f"lrp {rules[1]} ") for line in text.splitlines())
    done = call("perturb", mini, mini / "stamps.npz", *options, "--rule", "dense 9=flat")
    assert_refused(done, "dense 9", "dense 2")


def test_an_overflow_of_float32_is_named(mini, tmp_path):
    """With its layer, as explain names it; float64 has room for it."""
    options = [
        "--count",
        1,
        "--steps",
        2,
        "--methods",
        "lrp",
        "--rule",
        "alpha-beta:alpha=1e9,beta=999999999",
    ]
    command = "perturb", make_run(tmp_path / "run"), mini / "stamps.npz", *options
    assert_refused(call(*command), "in 'convolution", "--device reference")
    done = call(*command, "--device", "reference")
    assert done.returncode == 0, done.stderr


def test_a_stamps_drops_do_not_depend_on_the_others(mini):
    alone, among = (
        json.loads(perturb(mini, "--index", *index, "--json", "--methods", "lrp"))
        for index in ([5], [5, 5, 5])
    )
    assert alone["mean_drop"] == among["mean_drop"]
    assert alone["table"][0]["error"] is None


def test_a_run_repeats_to_the_last_bit(mini):
    """On any number of threads; another seed is another run."""
    options = ["--count", 20, "--steps", 4, "--methods", "lrp,guided", "--json"]
    threads = ["--threads", 1], ["--threads", numba.config.NUMBA_NUM_THREADS]
    one, all_threads, other = (
        json.loads(perturb(mini, *options, *more)) for more in (*threads, ["--seed", 1])
    )
    assert one == all_threads
    assert all(one["mean_drop"][name] != other["mean_drop"][name] for name in one["mean_drop"])


def test_draws_are_averaged_stamp_by_stamp(mini, cpu):
    """Of each draw the noise and the random order are those of the library, the maps' order stays."""
    model = load_model(mini)
    params = cpu.asarray(model.params)
    stamps = prepare(np.load(mini / "stamps.npz")["stamps"][:6])[0]
    indices, regions = np.arange(6), perturbation.region_of_pixels(13, 3)
    found = heatmaps.trail(cpu, model.network, params, stamps, "guided", composites.named("zero"))
    order = perturbation.ranks(found.relevance[0], regions, "guided")
    expected = {"guided": [], "random": []}
    for draw in range(3):
        noise = perturbation.noise(indices, stamps.shape[1:], 0, draw)
        orders = {"guided": order, "random": perturbation.random_ranks(indices, 25, 0, draw)}
        for name, ranks in orders.items():
            drops = perturbation.drops(
                lambda x: model.network.forward(cpu, params, x), stamps, ranks, regions, noise, 4
            )
            expected[name].append(drops.mean(axis=0))
    options = ["--index", *indices, "--methods", "guided", "--steps", 4, "--draws", 3, "--json"]
    document = json.loads(perturb(mini, *options))
    for name, drops in expected.items():
        np.testing.assert_allclose(document["mean_drop"][name], np.mean(drops, axis=0), rtol=1e-12)


@pytest.mark.parametrize("ending, begins", [("png", b"\x89PNG"), ("PDF", b"%PDF")])
def test_the_picture(mini, tmp_path, ending, begins):
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"aopc.{ending}"
    options = ["--count", 5, "--methods", "lrp", "--of", "probability"]
    perturb(mini, *options, "--out", picture)
    assert picture.read_bytes().startswith(begins)


def test_curves_are_told_apart_without_colour(rng):
    """By line and marker; each has the band of its standard error, and the largest AOPC stands on top."""
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(8.5, 4.5), layout="constrained")
    names = [f"lrp rule {i}" for i in range(9)] + [ways.RANDOM]
    drops = {name: rng.normal(i, 1, (40, 6)) for i, name in enumerate(names)}
    axes = figures.draw_drops(drops, "logit", figure.subplots())
    lines = axes.get_lines()[: len(names)]
    assert len(set(looks.looks(lines))) == len(names)
    assert [text.get_text().split(" (")[0] for text in axes.get_legend().get_texts()] == names[::-1]
    assert looks.over_the_edge(figure) < 0.01
    band = axes.collections[-1].get_paths()[0].vertices  # of the last that is drawn, the least AOPC
    error = drops[names[0]][:, 3].std(ddof=1) / np.sqrt(40)
    assert np.ptp(band[band[:, 0] == 3][:, 1]) == pytest.approx(2 * error)


def test_no_two_styles_are_alike():
    found = [pictures.style(place) for place in range(36)]
    assert len({(str(one.line), one.marker) for one in found}) == 36
    assert len({one.colour for one in found[:7]}) == 7


def test_weights_that_overflow_are_told(mini, tmp_path):
    config = read_config(mini)
    write_weights(tmp_path, config, np.full(config.network().size, 1e38))
    done = run("perturb", tmp_path, mini / "stamps.npz", "--count", 2, "--csv", tmp_path / "t.csv")
    assert_refused(done, "not numbers")
    assert not (tmp_path / "t.csv").exists()


def test_what_is_refused(mini, tmp_path):
    def refused(*arguments):
        return call("perturb", mini, mini / "stamps.npz", *arguments)

    assert_refused(refused("--methods", "lrp,saliency"), "saliency", "gradient")
    assert_refused(refused("--rule", "alpha3beta1"), "alpha3beta1", "alpha2beta1")
    assert_refused(refused("--steps", 26), "--steps 26", "25 regions")
    assert_refused(refused("--index", 70), "no stamp 70")
    assert_refused(refused("--draws", 0), "--draws")
    assert_refused(refused("--out", tmp_path / "aopc.svg"), "aopc.svg", ".pdf")
    for option, name in (("--csv", "t.csv"), ("--out", "aopc.png")):
        (tmp_path / name).write_text("precious")
        assert_refused(refused(option, tmp_path / name), "exists already")
        assert (tmp_path / name).read_text() == "precious"


def test_columns_of_huge_logits_stand_apart(mini, tmp_path):
    config = read_config(mini)
    params = config.network().initial("he", 0)
    config.network().views(params)[-1]["w"][:] *= 1e9
    write_weights(tmp_path, config, params)
    done = call("perturb", tmp_path, mini / "stamps.npz", "--count", 3, "--steps", 3, "--methods", "lrp")
    assert done.returncode == 0, done.stderr
    _, _, *rows = done.stdout.split("\n\n")[0].splitlines()
    for row in rows:
        cells = row[30:].split()
        assert len(cells) == 4 and abs(float(cells[0])) > 1e5
        assert all(row[at] == " " for at in (30, 42, 54, 69))


def test_rows_of_classes_add_up(mini):
    """The mean over all stamps is that of the classes' means, weighted by their stamps."""
    document = json.loads(perturb(mini, "--count", 30, "--steps", 4, "--methods", "lrp", "--json"))
    rows = [row for row in document["table"] if row["method"] == "lrp alpha2beta1"]
    whole, *parts = rows
    assert [row["class"] for row in rows] == ["all", "artifact", "candidate"]
    assert sum(row["stamps"] for row in parts) == whole["stamps"] == 30
    for key in ("aopc", "above_random"):
        weighted = sum(row[key] * row["stamps"] for row in parts) / 30
        assert weighted == pytest.approx(whole[key], rel=1e-12)


def test_insertion_and_deletion_by_hand():
    """Pixels 1 to 4 of weight 1: the score and its area while they go, or come back, from the largest."""
    x = np.array([[1.0, 2], [3, 4]])[None, :, :, None]
    regions, nothing, largest_first = (
        perturbation.region_of_pixels(2, 1),
        np.zeros_like(x),
        np.array([[3, 2, 1, 0]]),
    )
    arguments = (largest_first, regions, 4, np.array([0]))
    gone = perturbation.scores(linear(1.0), x, nothing, *arguments)
    back = perturbation.scores(linear(1.0), nothing, x, *arguments)
    np.testing.assert_array_equal(gone, [[10, 6, 3, 1, 0]])
    np.testing.assert_array_equal(back, [[0, 4, 7, 9, 10]])
    np.testing.assert_allclose(perturbation.areas(gone), (5 + 6 + 3 + 1 + 0) / 4)
    np.testing.assert_allclose(perturbation.areas(back), (0 + 4 + 7 + 9 + 5) / 4)


@pytest.mark.parametrize("measure", ["insertion", "deletion"])
def test_areas_are_those_of_the_curves(mini, measure):
    """Both orders start at one image and end at the other; a random order's areas are as likely large as
    small."""
    document = json.loads(
        perturb(mini, "--measure", measure, "--count", 40, "--methods", "occlusion", "--json")
    )
    assert document["steps"] == 25
    table = {row["method"]: row for row in document["table"] if row["class"] == "all"}
    for name, row in table.items():
        most, least = (np.array(document[f"mean_{order}_first"][name]) for order in ("most", "least"))
        np.testing.assert_allclose((most[0], most[-1]), (least[0], least[-1]), rtol=1e-6)
        assert row["most_first"] == pytest.approx(integrate.trapezoid(most) / 25, rel=1e-9)
        assert row["least_first"] == pytest.approx(integrate.trapezoid(least) / 25, rel=1e-9)
        sign = 1 if measure == "insertion" else -1
        assert row["between"] == pytest.approx(sign * (row["most_first"] - row["least_first"]), rel=1e-6)
    if measure == "deletion":  # what is covered here is what occlusion covers
        assert table["occlusion"]["between"] > 3 * table["occlusion"]["between_error"] > 0
    assert abs(table["random"]["between"]) < 4 * table["random"]["between_error"]


@pytest.mark.parametrize("measure", ["insertion", "deletion", "randomisation"])
def test_the_pictures_of_the_measures(mini, tmp_path, measure):
    """A line for each way and order, none over the edge, and text that is the JSON's table."""
    pytest.importorskip("matplotlib")
    options = ["--measure", measure, "--count", 12, "--methods", "lrp,gradient", "--out", tmp_path / "m.png"]
    text = perturb(mini, *options)
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(perturb(mini, *options[:-2], "--json"))
    whole = text.split("\n\n")[0].splitlines()
    assert measure in whole[0]
    rows = [row for row in document["table"] if row["class"] == "all"]
    assert len(whole) == 2 + len(rows)
    column = "ssim" if measure == "randomisation" else "between"
    for row in rows:
        assert any(line.startswith(row["method"]) and f" {row[column]:.4f} " in line for line in whole[2:])
    assert {len(line) for line in whole[1:]} == {len(whole[1])}


def test_smooth_is_of_randomisation(mini):
    refused = call("perturb", mini, mini / "stamps.npz", "--smooth", 5)
    assert_refused(refused, "--smooth", "randomisation", "aopc")


def test_insertion_starts_at_the_blurred_stamp(mini, cpu):
    """It keeps each channel's mean, loses nearly all its detail, and turns with the stamp."""
    x = prepare(np.load(mini / "stamps.npz")["stamps"][:4])[0]
    blurred = perturbation.blurred(x)
    assert blurred.dtype == x.dtype and blurred.shape == x.shape
    assert (blurred.std(axis=(1, 2)) < 0.25 * x.std(axis=(1, 2))).all()
    np.testing.assert_allclose(blurred.mean(axis=(1, 2)), x.mean(axis=(1, 2)), atol=0.05)
    np.testing.assert_allclose(
        perturbation.blurred(np.rot90(x, axes=(1, 2))), np.rot90(blurred, axes=(1, 2)), atol=1e-6
    )
    model = load_model(mini)
    (first,) = ways.ways(["gradient"], ["zero"])
    how = perturbation.How(steps=25)
    (found, _) = perturbation.insertion_or_deletion(cpu, model, x, np.arange(4), [first], how, insert=True)
    score = ways.score_function(cpu, model, cpu.asarray(model.params), "logit")
    classes = ways.predicted(score(x))
    for curves in found[1:]:
        np.testing.assert_allclose(curves[:, 0], score(blurred)[np.arange(4), classes], rtol=1e-5)
        np.testing.assert_allclose(curves[:, -1], score(x)[np.arange(4), classes], rtol=1e-5)
