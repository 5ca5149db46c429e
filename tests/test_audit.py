"""The audit program: its table, its JSON, its picture, and what it refuses."""

import dataclasses
import json
from dataclasses import replace

import looks
import numpy as np
import pytest
from programs import assert_refused, call, run, toy_arrays

from rotinv.lrp import attribution, composites, targets
from rotinv.lrp.ledger import LINES
from rotinv.lrp.ledger_report import audits
from rotinv.lrp.relevance import descend
from rotinv.lrp.rules import AlphaBeta
from rotinv.lrp.trust import trust
from rotinv.nn.devices import get_kernels
from rotinv.runs.folder import Config
from rotinv.runs.model import load_model, open_stamps_for, stamps_as_read, write_weights

KEYS = {"layer", "received", "passed", *LINES, "closing_error", "deviation"}


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """A run of random weights, small enough for fractions, and stamps for it."""
    folder = tmp_path_factory.mktemp("audit")
    config = Config("cap-mini", 13, ["difference"])
    network, rng = config.network(), np.random.default_rng(0)
    write_weights(folder, config, network.initial("he", 0) + 0.1 * rng.normal(size=network.size))
    np.savez(folder / "stamps.npz", **toy_arrays(20))
    return folder


def audit(mini, *arguments):
    return call("audit", mini, mini / "stamps.npz", *arguments)


def test_json_has_every_line_of_every_layer(mini):
    result = audit(mini, "--index", 3, 0, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert [stamp["index"] for stamp in document["stamps"]] == [3, 0]
    for stamp in document["stamps"]:
        assert len(stamp["layers"]) == 8
        assert stamp["output"] == pytest.approx(abs(max(stamp["logits"])))
        for row, below in zip(stamp["layers"], [*stamp["layers"][1:], None], strict=True):
            assert set(row) == KEYS
            taken = sum(row[line] for line in LINES)
            assert row["received"] - row["passed"] == pytest.approx(taken, abs=1e-12)
            assert abs(row["deviation"]) < 1e-5
            assert below is None or below["received"] == pytest.approx(row["passed"], abs=1e-12)


def test_layers_have_the_names_that_explain_takes(mini):
    """And what a layer received is the sum of its map there."""
    (stamp,) = json.loads(audit(mini, "--index", 3, "--json").stdout)["stamps"]
    names = [row["layer"] for row in stamp["layers"]]
    assert names[::-1][:3] == ["zero padding", "cyclic slice", "convolution"]
    assert {"dense 1", "dense 2"} <= set(names)
    model = load_model(mini)
    pixels = stamps_as_read(model, open_stamps_for(model, mini / "stamps.npz"), np.array([3]))
    for row in stamp["layers"]:
        question = attribution.Question(layer=row["layer"])
        (found,) = attribution.explain(get_kernels("cpu"), model, pixels, question)
        total = found.maps.sum(dtype=np.float64)
        assert total == pytest.approx(row["received"] * stamp["output"], rel=1e-6)


def test_the_table_tells_the_same(mini):
    stamp = json.loads(audit(mini, "--index", 3, "--json").stdout)["stamps"][0]
    result = run("audit", mini, mini / "stamps.npz", "--index", 3)
    assert result.returncode == 0, result.stderr
    title, header, *rows, trust = result.stdout.strip().splitlines()
    assert trust.startswith(f"the map holds {stamp['trust']['share']:.0%} of what is explained")
    assert title.startswith("stamp 3: predicted ")
    assert len(rows) == len(stamp["layers"])
    assert header.split()[:3] == ["layer", "received", "passed"]
    for text, row in zip(rows, stamp["layers"], strict=True):
        assert text.startswith(row["layer"])
        cells = text.removeprefix(row["layer"]).split()
        assert float(cells[0]) == pytest.approx(100 * row["received"], abs=1e-4)
        assert float(cells[2]) == pytest.approx(100 * row["bias_positive"], abs=1e-4)


def test_a_stamps_ledger_is_its_own(mini):
    """Whatever other stamps are audited with it, on the reference and in fractions alike."""
    for options in ([], ["--device", "reference"]):
        alone, among = (
            json.loads(audit(mini, "--index", *index, "--json", "--rule", "epsilon", *options).stdout)[
                "stamps"
            ]
            for index in ([7], range(15))
        )
        assert alone[0] == among[7]


def test_fractions_leave_no_rounding(mini):
    result = audit(mini, "--index", 3, "--exact", "--json")
    assert result.returncode == 0, result.stderr
    exact = json.loads(result.stdout)
    near = json.loads(audit(mini, "--index", 3, "--json", "--device", "reference").stdout)
    for one, other in zip(exact["stamps"][0]["layers"], near["stamps"][0]["layers"], strict=True):
        assert one["rounding"] == one["closing_error"] == 0
        assert one["passed"] == pytest.approx(other["passed"], abs=1e-12)


def test_the_picture(mini, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "waterfall.png"
    assert audit(mini, "--index", 3, "--out", out).returncode == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert_refused(audit(mini, "--index", 3, "--out", out), "waterfall.png", "exists already")
    assert audit(mini, "--index", 3, 4, "--out", out).returncode == 0
    assert (tmp_path / "waterfall-3.png").exists()
    assert (tmp_path / "waterfall-4.png").exists()


def test_the_pictures_title_stays_within_its_edges(mini):
    """A title of axes is as long as it is, and is centred over them, not over the picture."""
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(7, 5), layout="constrained")
    model = load_model(mini)
    pixels = stamps_as_read(model, open_stamps_for(model, mini / "stamps.npz"), np.array([3]))
    (found,) = audits(get_kernels("cpu"), model, pixels, attribution.Question())
    replace(found, model="a run with a name of fifty letters, as users have them").plot(figure.subplots())
    assert looks.over_the_edge(figure) < 0.01


def test_what_is_refused(mini, tmp_path):
    assert_refused(audit(mini, "--index", 20), "stamps.npz", "no stamp 20", "0 to 19")
    assert_refused(audit(mini, "--index", 3, "--rule", "alpha3beta1"), "alpha3beta1", "alpha2beta1")
    assert_refused(audit(mini, "--index", 3, "--target", "2"), "target 2", "0, 1")
    assert_refused(audit(mini, "--index", 3, "--target", "probability", "--exact"), "--exact", "--target")
    config = Config("cap", 13, ["difference"])
    network = config.network()
    write_weights(tmp_path, config, network.initial("he", 0))
    large = call("audit", tmp_path, mini / "stamps.npz", "--index", 3, "--exact")
    assert_refused(large, "--exact", "multiply-adds", "cap-mini")
    write_weights(tmp_path, config, np.full(network.size, np.nan))
    assert_refused(run("audit", tmp_path, mini / "stamps.npz", "--index", 3), "best.h5", "not finite")


def test_an_account_that_does_not_close_is_an_error(mini, monkeypatch, capsys):
    from rotinv import audit as program

    def forgetful(self, z_pos, z_neg, r, c_pos, c_neg):
        taken = original(self, z_pos, z_neg, r, c_pos, c_neg)
        return taken._replace(one_sided=taken.one_sided + 0.01 * r)

    original = AlphaBeta.account
    monkeypatch.setattr(AlphaBeta, "account", forgetful)
    assert program.main([str(mini), str(mini / "stamps.npz"), "--index", "3"]) == 1
    assert "does not close" in capsys.readouterr().err


# Whether a map can be trusted.


def test_what_is_told_of_a_map(mini):
    """The share is the map's sum, and what the three largest lines took is in the ledger."""
    model = load_model(mini)
    split = open_stamps_for(model, mini / "stamps.npz")
    pixels = stamps_as_read(model, split, np.arange(20))
    k, question = get_kernels("reference"), attribution.Question(rule="epsilon")
    (found,) = attribution.explain(k, model, pixels, question)
    for audited, maps in zip(audits(k, model, pixels, question), found.maps, strict=True):
        rows, told = audited.amounts(), audited.trust
        assert told.share == pytest.approx(maps.sum() / float(audited.entries[0].received[0]))
        sizes = sorted((abs(row[line]) for row in rows for line in LINES[:-1]), reverse=True)
        assert [abs(amount) for *_, amount in told.losses] == sizes[:3]
        for layer, line, amount in told.losses:
            (row,) = (row for row in rows if row["layer"] == layer)
            assert amount == pytest.approx(row[line] * np.sign(rows[0]["received"]))


def rows_of(share, bias=0.0, deviation=0.0, received=1.0):
    """The amounts of one layer with a bias, of an output of +-1."""
    nothing = dict.fromkeys(LINES, 0.0)
    passed = share * received
    return [
        {"layer": "dense", "received": received, "passed": passed, "deviation": deviation, **nothing}
        | {"bias_positive": bias * received}
    ]


@pytest.mark.parametrize("received", [1.0, -1.0])
def test_what_is_doubtful(received):
    def doubts(*case):
        return trust(rows_of(*case, received=received)).doubts

    assert doubts(0.77) == doubts(1.36, -0.36) == doubts(0.5, 0.5, 1e-4) == []
    (few,) = doubts(0.49, 0.51)
    assert "holds 49% of what is explained" in few
    against, bias = doubts(-1.05, 2.05)
    assert "holds -105%" in against and "dense's bias positive takes 205%" in bias
    (many,) = doubts(35.0, -0.5)
    assert "holds 3500%" in many
    (inexact,) = doubts(1.0, 0.0, 2e-4)
    assert "rounding changes the map by 0.0002" in inexact
    assert len(doubts(np.nan)) == 1


@pytest.mark.parametrize("target", ["logit", "one", "probability", "difference"])
@pytest.mark.parametrize("rule", ["alpha2beta1", "zplus", "epsilon", "gamma", "flat"])
def test_a_negative_logit_turns_signs_and_is_told(mini, rule, target):
    """A doubt is told if and only if what raises an explained logit, or lowers the runner-up's, gets less
    than nothing from the last layer."""
    model, k = load_model(mini), get_kernels("reference")
    split = open_stamps_for(model, mini / "stamps.npz")
    pixels = stamps_as_read(model, split, np.arange(12)).astype(np.float64)
    model = dataclasses.replace(model, params=model.params.copy())
    model.network.views(model.params)[-1]["b"][:] = (-3, -1)
    logits = model.network.forward(k, model.params, pixels)
    told = []
    for i, z in enumerate(logits):
        asked = int(z.argmin()) if target == "logit" else target
        (found,) = audits(k, model, pixels[i : i + 1], attribution.Question(rule=rule, target=asked))
        seed = targets.relevance(k, z[None], asked)
        step = next(descend(k, model.network, model.params, pixels[i : i + 1], composites.named(rule), seed))
        toward = np.sign(targets.gradient(k, z[None], "predicted" if target == "probability" else asked)[0])
        helps = [
            step.layer.share(k, step.p, step.saved, seed, step.rule).c_pos[0, j] * toward[j] for j in (0, 1)
        ]
        expected = rule != "flat" and min(helps) < 0
        doubts = [one for one in found.trust.doubts if "opposite signs" in one]
        assert len(doubts) == expected, (z, helps)
        told += doubts
    assert told or target != "logit" or rule not in ("alpha2beta1", "zplus")


def test_of_nothing_there_is_no_share():
    told = trust(rows_of(0.0, received=0.0))
    assert told.doubts == [str(told)] and "the relevance at the output is 0" in str(told)


def test_a_split_together(mini):
    """Each figure is a quantile over the single stamps' ledgers."""
    every = json.loads(audit(mini, "--index", *range(20), "--json").stdout)["stamps"]
    document = json.loads(audit(mini, "--json").stdout)
    assert document["count"] == 20
    found = {(row["layer"], row["line"]): row for row in document["rows"]}
    for layer, line in (("dense 2", "bias_positive"), ("convolution", "bias_negative")):
        values = [row[line] for stamp in every for row in stamp["layers"] if row["layer"] == layer]
        row = found[layer, line]
        assert [row["low"], row["median"], row["high"]] == pytest.approx(
            np.quantile(values, (0.05, 0.5, 0.95))
        )
        assert row["largest"] == pytest.approx(max(values, key=abs))
    shares = [stamp["trust"]["share"] for stamp in every]
    assert found["the map", "share"]["median"] == pytest.approx(np.median(shares))
    table = audit(mini).stdout
    assert table.startswith("20 stamps; ") and f"{100 * np.median(shares):.4f}" in table


def test_some_of_a_split_at_random(mini):
    one, again, other = (audit(mini, "--count", 5, "--seed", seed).stdout for seed in (1, 1, 2))
    assert one == again != other and one.startswith("5 stamps; ")


def test_a_limit_is_an_exit_status(mini):
    strict = run("audit", mini, mini / "stamps.npz", "--fail-above", 0)
    assert strict.returncode == 1 and "above --fail-above 0" in strict.stderr
    assert len(strict.stderr.splitlines()) == 1
    assert audit(mini, "--fail-above", 1000).returncode == 0


def test_choices_that_do_not_go_together(mini, tmp_path):
    assert_refused(audit(mini, "--index", 0, "--count", 3), "--index or --count")
    assert_refused(audit(mini, "--out", tmp_path / "a.png"), "--index")
    assert_refused(audit(mini, "--rule", "dense 9=flat"), "dense 9")
