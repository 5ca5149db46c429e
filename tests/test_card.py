"""Model cards tell what is in a run's folder, and what was measured on stamps."""

import html.parser
import json

import numpy as np
import pytest
from programs import assert_refused, call, make_run, toy_arrays

from rotinv.runs.model import load_model, weights_digest
from rotinv.stamps.classes import Classes


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    run = tmp_path_factory.mktemp("card") / "net"
    done = call(
        "train", "--arch", "cap-mini", "--data", store, "--out", run, "--iterations", 200, "--seed", 5
    )
    assert done.returncode == 0, done.stderr
    return run


def test_a_card_of_a_run_alone(trained, store):
    done = call("card", trained, "--licence", "CC-BY-4.0")
    assert done.returncode == 0, done.stderr
    card = done.stdout
    assert card.startswith("# Model card: net\n")
    metrics = json.loads((trained / "metrics.json").read_text())
    for text in (
        f"| accuracy | {metrics['accuracy']:.3%} |",
        f"| SHA-256 of the weights | {weights_digest(load_model(trained))} |",
        "| licence | CC-BY-4.0 |",
        "| seed | 5 |",
        str(store),
        "## Thresholds",
        "without intervals",
    ):
        assert text in card


def test_a_card_with_stamps_has_intervals_failures_and_explanations(trained, store, tmp_path):
    files = tmp_path / "card.md", tmp_path / "card.html"
    done = call("card", trained, store, "--split", "train", "--out", *files)
    assert done.returncode == 0, done.stderr
    found = json.loads(call("evaluate", trained, store, "--split", "train", "--no-keep", "--json").stdout)
    card = files[0].read_text()
    low, high = found["intervals"]["accuracy"]
    assert f"| accuracy | {found['accuracy']:.3%} | [{100 * low:.3f}, {100 * high:.3f}] |" in card
    assert "candidates of SNR" in card and ": lost |" in card
    assert "Of 20 stamps at random" in card and "A map holds" in card
    page = files[1].read_text()
    html.parser.HTMLParser().feed(page)
    assert page.count("<h2>") == card.count("\n## ") == 8 and "http" not in page
    assert_refused(call("card", trained, "--out", files[0]), "card.md", "exists")


def test_cards_of_more_classes_and_of_weights_from_elsewhere(tmp_path):
    classes = Classes.of(("bogus", "SN", "asteroid"), "SN")
    run = make_run(tmp_path / "net", "cap-mini", classes=classes)
    arrays = toy_arrays(60)
    np.savez(tmp_path / "s.npz", **{**arrays, "label": np.arange(60) % 3})
    done = call("card", run, tmp_path / "s.npz")
    assert done.returncode == 0, done.stderr
    assert "## Each class against the rest" in done.stdout and "| asteroid | 20 |" in done.stdout
    assert "the candidate is SN" in done.stdout and "trained elsewhere" in done.stdout
    assert "None are kept" in done.stdout


def test_a_card_is_markdown_or_html(trained, tmp_path):
    assert_refused(call("card", trained, "--out", tmp_path / "card.pdf"), "card.pdf", ".html")
    (trained / "metrics.json").write_text("{}")
    assert_refused(call("card", trained), "metrics.json")
