"""sigma-bar (Eqs. 5, 6), its moments and fits, and rotinv.invariance: Table III, Fig. 5, bad input."""

import csv
import itertools
import json
from types import SimpleNamespace

import h5py
import looks
import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays
from scipy import integrate, stats

from rotinv import import_weights, invariance, pack
from rotinv.lrp import composites, heatmaps, sigma_bar, sigma_bar_figures, sigma_bar_tables
from rotinv.metrics import noncentral_t
from rotinv.nn import architectures
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model, write_weights
from rotinv.system.errors import UserError

LRP = composites.named("alpha2beta1")
CHANNELS = ["difference"]


def sigma_bars(k, network, params, x, scale="max-abs", method="lrp"):
    blocks = heatmaps.of_rotations(k, network, k.asarray(params), x, method, LRP)
    maps = heatmaps.scaled(np.float64(np.concatenate([maps for _, maps in blocks])), scale)
    return sigma_bar.sigma_bar(heatmaps.turned_back(maps), heatmaps.average(maps))


def test_by_hand():
    """Two pixels, maps (4, 0), (0, 0), (0, 0), (0, 4): mu is (1, 1), the variances are 5, 1, 1, 5."""
    back = np.zeros((1, 4, 2, 1, 1))
    back[0, 0, 0] = back[0, 3, 1] = 4
    found = sigma_bar.sigma_bar(back, back.mean(axis=1))
    np.testing.assert_allclose(found, [[(2 * np.sqrt(5) + 2) / 4]], rtol=1e-15)


def test_against_a_slow_loop(rng):
    maps = rng.normal(size=(2, 4, 5, 5, 3))
    found = sigma_bar.sigma_bar(heatmaps.turned_back(maps), heatmaps.average(maps))
    for n in range(2):
        for c in range(3):
            h = [np.rot90(maps[n, i, :, :, c], -i) for i in range(4)]
            mu = sum(h) / 4
            total = 0.0
            for i in range(4):
                total += np.sqrt(sum((h[i][p, q] - mu[p, q]) ** 2 for p in range(5) for q in range(5)) / 25)
            np.testing.assert_allclose(found[n, c], total / 4, rtol=1e-13)


@pytest.mark.parametrize("scale", heatmaps.SCALES)
def test_caps_does_not_change_when_the_stamp_turns(k, rng, scale):
    network = architectures.build("cap", 13, 2)
    params = network.initial("he", 3) + 0.05 * rng.normal(size=network.size)
    x = np.float32(rng.uniform(size=(4, 13, 13, 2)))
    upright = sigma_bars(k, network, params, x, scale)
    assert (upright > 0).all()
    for turns in (1, 2, 3):
        turned = sigma_bars(k, network, params, np.rot90(x, turns, axes=(1, 2)), scale)
        np.testing.assert_allclose(turned, upright, rtol=1e-6, atol=0)


def test_deep_hits_does(reference, rng):
    network = architectures.build("deephits", 13, 2)
    params, x = network.initial("he", 3), rng.uniform(size=(4, 13, 13, 2))
    upright, turned = (sigma_bars(reference, network, params, s) for s in (x, np.rot90(x, axes=(1, 2))))
    assert (np.abs(turned - upright) > 1e-3 * upright).any()


def test_maps_that_agree_have_none():
    one = np.random.default_rng(0).normal(size=(2, 1, 5, 5, 1))
    assert not sigma_bar.sigma_bar(np.repeat(one, 4, axis=1), one[:, 0]).any()


def test_authors_cap_on_real_alerts(cpu, real_data, tmp_path):
    """The range that is known of the first 12 alerts' difference channel: .018 to .057."""
    source = real_data / "authors_cap_3channel.h5"
    channels = "template,science,difference"
    assert import_weights.main([str(source), "--out", str(tmp_path / "run"), "--channels", channels]) == 0
    model = load_model(tmp_path / "run")
    with h5py.File(source) as file:
        x = np.moveaxis(file["check/rubin_input_nchw"][:12], 1, 3)
    found = sigma_bars(cpu, model.network, model.params, np.ascontiguousarray(x, dtype=np.float32))[:, 2]
    np.testing.assert_allclose([found.min(), found.max()], [0.018, 0.057], atol=5e-4)


def test_sample_moments(rng):
    x = rng.gamma(2, size=500)
    found = noncentral_t.sample_moments(x)
    expected = [x.mean(), x.var(ddof=0), stats.skew(x), stats.kurtosis(x)]
    np.testing.assert_allclose([getattr(found, name) for name in noncentral_t.MOMENTS], expected, rtol=1e-12)
    constant = noncentral_t.sample_moments(np.full(5, 0.1))
    assert (constant.variance, constant.skewness, constant.kurtosis) == (0.0, None, None)
    assert set(constant.reasons) == {"skewness", "kurtosis"}
    assert set(noncentral_t.sample_moments(x[:0]).reasons) == set(noncentral_t.MOMENTS)


@pytest.mark.parametrize("df,nc", [(0.6, 3), (1.5, -2), (4.2, 0), (8, 5), (30, -20), (200, 0.5)])
def test_density_and_distribution_are_scipys(df, nc):
    x = nc + np.linspace(-3, 8, 60)
    expected = stats.nct.pdf(x, df, nc)
    if not np.isfinite(expected).all():
        pytest.skip("this SciPy's own density is infinite here (1.12 is)")
    np.testing.assert_allclose(np.exp(noncentral_t.log_density(x, df, nc)), expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        noncentral_t.cumulative(x, df, nc), stats.nct.cdf(x, df, nc), rtol=0, atol=1e-6
    )


def test_far_tails_are_finite():
    x = np.array([-1e3, -40, 40, 1e6])
    for df, nc in ((0.5, 50), (1000, -50), (1000, 2)):
        assert np.isfinite(noncentral_t.log_density(x, df, nc)).all()


@pytest.mark.parametrize("df,nc", [(4.5, 1), (6, -8), (30, 50), (900, 3)])
def test_moments_by_numerical_integration(df, nc):
    """Of T given V, a normal: moments over u = log(V / df) instead of over T's long tails."""

    def over_v(g):
        def term(u):
            log_v = u + np.log(df)
            return g(np.exp(-u / 2)) * np.exp(stats.chi2.logpdf(np.exp(log_v), df) + log_v)

        width = np.sqrt(2 / df)
        ends = [-10 * width - 100 / (df - 4), -10 * width, 0, 10 * width]
        parts = [integrate.quad(term, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in itertools.pairwise(ends)]
        return sum(parts)

    mean = over_v(lambda w: w * nc)
    m2 = over_v(lambda w: w**2 + (nc * w - mean) ** 2)
    m3 = over_v(lambda w: (nc * w - mean) ** 3 + 3 * (nc * w - mean) * w**2)
    m4 = over_v(lambda w: (nc * w - mean) ** 4 + 6 * (nc * w - mean) ** 2 * w**2 + 3 * w**4)
    found = noncentral_t.nct_moments(df, nc, loc=2.0, scale=3.0)
    values = [found.mean, found.variance, found.skewness, found.kurtosis]
    np.testing.assert_allclose(
        values, [2 + 3 * mean, 9 * m2, m3 / m2**1.5, m4 / m2**2 - 3], rtol=1e-6, atol=1e-8
    )
    assert not found.reasons


def test_moments_that_do_not_exist():
    for df, exist in ((0.7, 0), (1, 0), (1.5, 1), (2, 1), (3, 2), (3.1, 3), (4, 3), (4.1, 4)):
        found = noncentral_t.nct_moments(df, 2.0)
        values = [getattr(found, name) for name in noncentral_t.MOMENTS]
        assert [value is not None for value in values] == [True] * exist + [False] * (4 - exist)
        assert list(found.reasons) == list(noncentral_t.MOMENTS[exist:])


def test_derivatives_of_the_density():
    h = 1e-5
    for df, nc in ((0.6, 3.0), (3.0, -2.0), (30.0, 20.0)):
        x = nc + np.linspace(-4, 6, 30)
        _, *slopes = noncentral_t._log_density(x, df, nc)
        for place, slope in enumerate(slopes):
            point, step = np.array([0, df, nc]), h * np.eye(3)[place]
            above, below = (noncentral_t.log_density(x + d, f, c) for d, f, c in (point + step, point - step))
            np.testing.assert_allclose(slope, (above - below) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("df,nc", [(3, 1), (8, 2), (12, -3)])
def test_the_fit_finds_what_was_drawn(rng, df, nc):
    x = stats.nct.rvs(df, nc, loc=0.05, scale=0.01, size=3000, random_state=rng)
    fit = noncentral_t.fit_noncentral_t(x)
    assert fit.status == "converged"
    assert fit.log_likelihood > stats.nct.logpdf(x, df, nc, 0.05, 0.01).sum()
    np.testing.assert_allclose(
        fit.log_likelihood, stats.nct.logpdf(x, fit.df, fit.nc, fit.loc, fit.scale).sum(), rtol=1e-6
    )
    assert fit.distance < 1.63 / np.sqrt(len(x))  # passes at 1%
    true = noncentral_t.nct_moments(df, nc, 0.05, 0.01)
    np.testing.assert_allclose(fit.df, df, rtol=0.4)
    np.testing.assert_allclose(fit.moments().mean, true.mean, rtol=0.02)
    np.testing.assert_allclose(fit.moments().variance, true.variance, rtol=0.2)
    expected = stats.kstest(x, lambda v: noncentral_t.cumulative((v - fit.loc) / fit.scale, fit.df, fit.nc))
    np.testing.assert_allclose(fit.distance, expected.statistic, rtol=1e-9)
    around = np.linspace(x.min() - 1, x.max() + 1, 200_001)
    np.testing.assert_allclose(integrate.trapezoid(fit.density(around), around), 1, atol=2e-3)


def test_a_fit_does_not_depend_on_the_unit(rng):
    x = stats.nct.rvs(6, 2, size=500, random_state=rng)
    one, other = noncentral_t.fit_noncentral_t(x), noncentral_t.fit_noncentral_t(1e-6 * x)
    np.testing.assert_allclose([1e6 * other.scale, other.df], [one.scale, one.df], rtol=1e-3)
    np.testing.assert_allclose(other.log_likelihood, one.log_likelihood + 500 * np.log(1e6), rtol=1e-6)


def test_fits_that_fail_say_so(rng, monkeypatch):
    assert "too few" in noncentral_t.fit_noncentral_t(rng.normal(size=noncentral_t.FEWEST - 1))
    assert "all equal" in noncentral_t.fit_noncentral_t(np.full(100, 0.3))
    assert "not finite" in noncentral_t.fit_noncentral_t(np.r_[np.ones(50), np.nan, np.zeros(50)])
    bimodal = np.r_[rng.normal(size=300), rng.normal(8, 1, 300)]
    assert noncentral_t.fit_noncentral_t(bimodal).status.startswith("no maximum within the limits: nc")
    minimize = noncentral_t.optimize.minimize
    short = {"maxiter": 2}
    monkeypatch.setattr(
        noncentral_t.optimize, "minimize", lambda *a, **kw: minimize(*a, **{**kw, "options": short})
    )
    assert noncentral_t.fit_noncentral_t(bimodal).status.startswith("did not converge")
    broken = noncentral_t.optimize.OptimizeResult(fun=np.nan, success=True)
    monkeypatch.setattr(noncentral_t.optimize, "minimize", lambda *a, **kw: broken)
    assert "not finite from any start" in noncentral_t.fit_noncentral_t(bimodal)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [make_run(folder / "deephits", "deephits"), make_run(folder / "cap")]


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    path = tmp_path_factory.mktemp("stamps") / "stamps.npz"
    np.savez(path, **toy_arrays(n=60))
    return path


def document(capsys, *arguments):
    assert invariance.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_table_csv_and_json_agree(models, stamps, tmp_path, capsys):
    """48 stamps: 24 of each class, enough for a fit."""
    found = document(capsys, *models, stamps, "--count", 48, "--csv", tmp_path / "t.csv")
    assert invariance.main([*map(str, models), str(stamps), "--count", "48"]) == 0
    text = capsys.readouterr().out
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["model"], r["class"]) for r in rows] == [
        (model, name) for model in ("deephits", "cap") for name in ("artifact", "candidate")
    ]
    assert found["index"] == list(range(48))
    label = np.array(found["label"])
    for row, entry in zip(rows, found["table"], strict=True):
        values = np.array(found["sigma_bar"][entry["model"]]["difference"])
        values = values[label == (entry["class"] == "candidate")]
        assert len(values) == entry["n"] == int(row["n"]) == 24
        np.testing.assert_allclose(entry["sample"]["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(entry["sample"]["kurtosis"], stats.kurtosis(values), rtol=1e-9)
        assert f"{values.mean():.4g}" in text
        assert row["status"] == entry["fit"]["status"]
        assert row["status"] in text
        for what in ("sample", "fit"):
            for name in noncentral_t.MOMENTS:
                cell, value = row[f"{what}_{name}"], entry[what][name]
                assert (cell == "undefined" and name in entry[what]["undefined"]) if value is None else (
                    float(cell) == value
                )  # fmt: skip


def test_the_program_measures_what_the_module_does(cpu, models, stamps, capsys):
    found = document(capsys, models[1], stamps, "--count", 5, "--scale", "min-max", "--method", "gradient")
    model = load_model(models[1])
    x = np.load(stamps)["stamps"][:5]
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    expected = sigma_bars(
        cpu, model.network, model.params, (x - low) / (high - low), "min-max", method="gradient"
    )
    np.testing.assert_allclose(found["sigma_bar"]["cap"]["difference"], expected[:, 0], rtol=1e-3)
    assert [entry["fit"]["df"] for entry in found["table"]] == [None, None]
    assert "too few" in found["table"][0]["fit"]["status"]


def test_turned_stamps_measure_alike_for_cap(models, stamps, tmp_path, capsys):
    arrays = dict(np.load(stamps))
    arrays["stamps"] = np.rot90(arrays["stamps"], axes=(1, 2))
    np.savez(tmp_path / "turned.npz", **arrays)
    one, other = (
        document(capsys, *models, path, "--count", 20)["sigma_bar"]
        for path in (stamps, tmp_path / "turned.npz")
    )
    np.testing.assert_allclose(other["cap"]["difference"], one["cap"]["difference"], rtol=1e-6)
    assert not np.allclose(other["deephits"]["difference"], one["deephits"]["difference"], rtol=1e-3)


def test_without_labels_all_stamps_are_one_class(models, stamps, tmp_path, capsys):
    np.save(tmp_path / "bare.npy", np.load(stamps)["stamps"])
    found = document(capsys, models[1], tmp_path / "bare.npy")
    assert [(entry["class"], entry["n"]) for entry in found["table"]] == [("all", 60)]
    assert found["label"] is None


def test_a_channel_by_name_and_the_scale_over_all(tmp_path, capsys):
    channels = ["science", "snr_difference"]
    arrays = toy_arrays(n=30, channels=2)
    np.savez(tmp_path / "s.npz", **arrays)
    pack.main([str(tmp_path / "s.npz"), "--out", str(tmp_path / "s.h5"), "--channels", ",".join(channels)])
    model = make_run(tmp_path / "two", channels=channels)
    capsys.readouterr()
    both = document(capsys, model, tmp_path / "s.h5")["sigma_bar"]["two"]
    one = document(capsys, model, tmp_path / "s.h5", "--channel", "snr_difference")
    assert list(both) == channels
    assert one["sigma_bar"]["two"] == {"snr_difference": both["snr_difference"]}
    with pytest.raises(UserError, match=r"channel 'red'.*science, snr_difference"):
        invariance.main([str(model), str(tmp_path / "s.h5"), "--channel", "red"])


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_the_picture(models, stamps, tmp_path, capsys, ending):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"fig5.{ending}"
    assert invariance.main([*map(str, models), str(stamps), "--out", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"%PDF")


def test_the_curve_lies_over_the_bars(rng):
    """Its area is the bars': the number of stamps times the bins' width."""
    figure = pytest.importorskip("matplotlib.figure")

    values = stats.nct.rvs(9, 1, size=400, random_state=rng)
    panel = sigma_bar_figures.Panel(
        "m", {"artifact": values}, {"artifact": noncentral_t.fit_noncentral_t(values)}
    )
    bins = sigma_bar_figures._bins([panel])
    axes = figure.Figure().subplots()
    assert sigma_bar_figures.draw_histogram(panel, bins, axes) is axes
    x, y = axes.lines[0].get_data()
    counts, edges, _ = axes.patches[0].get_data()
    bars = (counts * np.diff(edges)).sum()
    np.testing.assert_allclose(bars, 400 * (bins[1] - bins[0]), rtol=1e-9)
    np.testing.assert_allclose(integrate.trapezoid(y, x), bars, rtol=0.03)


def test_bins_go_by_the_number_of_stamps(rng):
    for count, bins in ((30, 10), (400, 20), (10_000, 100), (90_000, 100)):
        panel = sigma_bar_figures.Panel("m", {"artifact": rng.normal(size=count)}, {})
        assert len(sigma_bar_figures._bins([panel])) - 1 == bins


def test_the_classes_are_told_apart_without_colour(rng):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(7, 4), layout="constrained")
    values = {name: stats.nct.rvs(9, 1, size=300, random_state=rng) for name in ("artifact", "candidate")}
    fits = {name: noncentral_t.fit_noncentral_t(one) for name, one in values.items()}
    panel = sigma_bar_figures.Panel("cap-1, snr_difference", values, fits)
    axes = sigma_bar_figures.draw_histogram(panel, ax=figure.subplots())
    assert len({patch.get_hatch() for patch in axes.patches}) == 2
    assert len(set(looks.looks(axes.get_lines()))) == 2
    assert looks.over_the_edge(figure) < 0.01


@pytest.mark.parametrize(("peak", "whole"), [(2.5, True), (50, False)])
def test_a_fit_that_is_narrower_than_a_bin_is_drawn_whole(peak, whole):
    """But one that goes to infinity leaves the bars to be seen."""
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    values, width = np.repeat(np.arange(10) / 10, [40, 5, 3, 1, 1, 1, 1, 1, 0, 1]), 0.09
    density = peak * 40 / len(values) / width
    fit = SimpleNamespace(df=3, nc=0, converged=True, density=lambda x: np.where(x < width / 2, density, 0))
    panel = sigma_bar_figures.Panel("m", {"candidate": values}, {"candidate": fit})
    sigma_bar_figures.draw_histogram(panel, ax=axes)
    assert axes.lines[0].get_ydata().max() == pytest.approx(peak * 40)
    assert (axes.get_ylim()[1] > peak * 40) == whole
    assert axes.get_ylim()[1] < 5 * 40


def test_the_tables_head_has_room_beside_a_short_name(rng):
    values = {"cap": rng.normal(size=(40, 1))}
    groups = list(sigma_bar_tables.groups(values, {"d": 0}, np.arange(40) % 2))
    head = next(line for line in sigma_bar_tables.lines(groups) if "channel" in line)
    assert head.split()[:3] == ["model", "channel", "class"]


def test_bad_pixels(models, tmp_path, capsys):
    arrays = toy_arrays(n=10)
    arrays["stamps"][3, 2, 2, 0] = np.nan
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UserError, match=r"s\.npz.*--on-bad drop"):
        invariance.main([str(models[1]), str(tmp_path / "s.npz")])
    found = document(capsys, models[1], tmp_path / "s.npz", "--on-bad", "drop", "--count", 5)
    assert found["index"] == [0, 1, 2, 4, 5]


def test_weights_that_are_not_numbers_are_told(models, stamps, tmp_path):
    config = read_config(models[1])
    (tmp_path / "run").mkdir()
    write_weights(tmp_path / "run", config, np.full(config.network().size, 1e38))
    with np.errstate(all="ignore"), pytest.raises(UserError, match="not numbers"):
        invariance.main([str(tmp_path / "run"), str(stamps), "--count", "2"])


def test_blank_maps_are_told(models, stamps, tmp_path, capsys):
    config = read_config(models[1])
    (tmp_path / "run").mkdir()
    write_weights(tmp_path / "run", config, np.zeros(config.network().size))
    assert invariance.main([str(tmp_path / "run"), str(stamps), "--count", "40"]) == 0
    printed = capsys.readouterr()
    assert "run: the maps of 40 stamps are 0 everywhere" in printed.err
    assert "no fit: the values are all equal" in printed.out


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--rule", "magic"], ["'magic'", "alpha2beta1"]),
        (["--target", "7"], ["target 7"]),
        (["--target", "loud"], ["'loud'"]),
        (["--scale", "log"], ["--scale"]),
        (["--count", "0"], ["--count"]),
        (["--channel", "red"], ["'red'", "difference"]),
        (["--out", "fig.svg"], ["fig.svg", ".pdf"]),
        (["--csv", "mine.csv"], ["mine.csv", "exists already"]),
    ],
)
def test_bad_options_are_refused_in_one_line(models, stamps, tmp_path, monkeypatch, arguments, words):
    (tmp_path / "mine.csv").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert_refused(call("invariance", models[1], stamps, *arguments), *words)
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
