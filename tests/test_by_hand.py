"""The course's page: each number is the engine's, also after sliders were moved; it is used in a browser."""

import re
from fractions import Fraction

import numpy as np
import pytest
from worked import K, of_ledger, of_network

from rotinv.lrp import composites
from rotinv.lrp.viewer.by_hand import START, by_hand_page
from rotinv.nn.linear import Dense
from rotinv.nn.network import Network

NETWORK = Network([composites.with_fractions(Dense(2, slope=0.0)), composites.with_fractions(Dense(1))], (2,))
PARAMETERS = ("w_11", "w_12", "w_21", "w_22", "b_1", "b_2", "v_1", "v_2", "c")
RULES = {
    "zero": "zero",
    "epsilon": "epsilon:eps={eps}",
    "alpha-beta": "alpha-beta:alpha={alpha},beta={beta}",
    "gamma": "gamma:gamma={gamma}",
    "zplus": "zplus",
}
DRAWN = [{}, *range(6)]  # the numbers at the start, and random ones


@pytest.fixture
def page(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(by_hand_page(), "utf-8")
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(path)
    yield browser
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert browser.errors == []
    assert browser.requests == [path.as_uri()]


def numbers(drawn):
    """The sliders' numbers: those at the start, or halves drawn by a seed."""
    given = {name: Fraction(text) for name, text in START.items()}
    if drawn == {}:
        return given
    rng = np.random.default_rng(drawn)
    given |= {name: Fraction(int(rng.integers(-8, 9)), 2) for name in ("x_1", "x_2", *PARAMETERS)}
    return given | {"eps": Fraction(3, 4), "alpha": Fraction(5, 2), "gamma": Fraction(1, 4)}


def move(page, given):
    """Put the sliders to these numbers, as a hand would."""
    for name, value in given.items():
        page.run(
            f"(() => {{ const s = document.querySelector('input[name={name}]'); s.value = {float(value)};"
            " s.dispatchEvent(new Event('input')); })()"
        )


def choose(page, rule):
    page.run(f"document.querySelector('input[value=\"{rule}\"]').click()")


def shown(page):
    """The fraction and the decimal of each named number."""
    told = page.run(
        "[...document.querySelectorAll('[data-name]')].map((e) =>"
        " [e.dataset.name, e.dataset.fraction, +e.dataset.value])"
    )
    return {name: (Fraction(fraction), value) for name, fraction, value in told}


@pytest.mark.parametrize("drawn", DRAWN)
def test_every_number_is_the_engines(page, drawn):
    """In fractions to the last digit, and the decimals to 1e-12, by every rule."""
    given = numbers(drawn)
    move(page, given)
    params = K.asarray([given[name] for name in PARAMETERS])
    x = K.asarray([[given["x_1"], given["x_2"]]])
    for rule, text in RULES.items():
        choose(page, rule)
        values = {"beta": given["alpha"] - 1, **given}
        text = text.format(**{name: float(value) for name, value in values.items()})
        expected = of_network(NETWORK, params, x) | of_ledger(NETWORK, params, x, composites.named(text))
        found, compared = shown(page), 0
        for name, (fraction, value) in found.items():
            engine = name.replace("bias_positive", "bias⁺").replace("bias_negative", "bias⁻")
            if engine in expected:
                assert fraction == expected[engine], (rule, name)
                assert abs(value - float(fraction)) <= 1e-12 * abs(float(fraction))
                compared += 1
            elif name.startswith("closing"):
                assert fraction == 0
        assert compared >= 24


# One unit, as in docs/course/libraries.md; the output hands all on, for its weight is 1 and its bias 0.
EXAMPLES = [
    ("gamma", "captum", (1, -1, 1), [1, Fraction(-1, 2)]),
    ("epsilon", "autolrp", (3, -1, -1), [1, Fraction(-1, 3)]),
    ("zplus", "autolrp", (3, -1, -1), [Fraction(2, 3), 0]),
]


@pytest.mark.parametrize("rule, library, unit, theirs", EXAMPLES)
def test_other_libraries_are_those_of_the_course(page, rule, library, unit, theirs):
    w_1, w_2, b = unit
    zeros = dict.fromkeys(("w_12", "w_22", "b_2", "v_2", "c", "eps"), 0)
    move(page, {**zeros, "x_1": 1, "x_2": 1, "w_11": w_1, "w_21": w_2, "b_1": b, "v_1": 1, "gamma": 1})
    choose(page, rule)
    found = shown(page)
    for i, expected in enumerate(theirs):
        assert found[f"{library}_{i + 1}"][1] == pytest.approx(float(expected), abs=1e-6)
    marks = page.run("[...document.querySelectorAll('mark')].map((m) => m.textContent)")
    assert marks and all(marks)


def test_innvestigate_divides_by_its_stabiliser(page):
    """M of the table: the negative side is 0 but for 1e-7; the output, one-sided, doubles both."""
    zeros = dict.fromkeys(("w_12", "w_22", "b_2", "v_2", "c"), 0)
    move(page, {**zeros, "x_1": 1, "x_2": 1, "w_11": 3, "w_21": -1, "b_1": 1, "v_1": 1, "alpha": 2})
    choose(page, "alpha-beta")
    found = shown(page)
    assert found["iNNvestigate_1"][1] == pytest.approx(2 * 4.5, rel=1e-6)
    assert found["iNNvestigate_2"][1] == pytest.approx(2 * 3e7, rel=1e-6)


def test_by_keyboard(page):
    """Tab to the rules, an arrow for the next; tab to a slider, an arrow for a step."""
    page.press("Tab")
    page.press("ArrowRight")
    assert page.run("document.querySelector('input[name=rule]:checked').value") == "epsilon"
    page.press("Tab")
    assert page.run("document.activeElement.name") == "eps"
    page.press("ArrowRight")
    assert shown(page)["stabiliser_a"][0] == Fraction(9, 4) / (2 + Fraction(9, 4)) * 2
    page.press("Tab")
    assert page.run("document.activeElement.name") == "x_1"
    page.press("ArrowLeft", 2)
    assert shown(page)["z_11"][0] == 0
    page.run("document.querySelector('button').click()")
    assert shown(page)["z_11"][0] == 3


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window(page, width):
    page.resize(width, 800)
    for rule in RULES:
        choose(page, rule)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_dark_mode_has_light_ink(page):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    ink, paper = (
        [int(part) for part in re.findall(r"\d+", page.run(f"getComputedStyle({what}).{which}"))[:3]]
        for what, which in (
            ("document.querySelector('.by-hand td')", "color"),
            ("document.body", "backgroundColor"),
        )
    )
    assert min(ink) > 90 + max(paper)


def test_the_page_stands_alone():
    outside = re.sub(r'<script type="application/json">.*?</script>', "", by_hand_page(), flags=re.DOTALL)
    assert set(re.findall(r"https?://[^\"]+", outside)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=|url\(|@import|fetch\(|XMLHttp|import\(", outside)


def test_signs_are_not_told_by_colour_only(page):
    """Lines below 0 are dashed, and the page says so."""
    look = "(l) => [l.classList[0], getComputedStyle(l).strokeDasharray]"
    dashes = page.run(f"[...document.querySelectorAll('svg line')].map({look})")
    assert {tuple(one) for one in dashes} >= {("plus", "none"), ("minus", "8px, 4px")}
    assert "blue and dashed below" in page.run("document.querySelector('.shown').textContent")
    names = page.run("[...document.querySelectorAll('svg text')].map((t) => t.textContent)")
    assert {"x_1", "x_2", "a_1", "a_2", "y"} < set(names)
