"""docs/lrp.md, read and checked: its Python is run, its working and its tables are computed anew.

docs/paper.md, too: its lines are in the code, and its programs take the options that it names.
"""

import importlib
import inspect
import json
import re
import shlex
import sys
import textwrap
from fractions import Fraction
from importlib import metadata

import numpy as np
import pytest
from programs import ROOT, toy_arrays
from worked import (
    NUMBER,
    K,
    blocks,
    check_working,
    of_ledger,
    of_network,
    rows,
    run_python,
    vector,
    worked,
)

from rotinv import train
from rotinv.__main__ import PROGRAMS
from rotinv.lrp import composites, heatmaps
from rotinv.lrp.composites import Composite
from rotinv.lrp.ledger import ledger
from rotinv.lrp.relevance import relevance
from rotinv.lrp.rules import AlphaBeta, Epsilon, ZPlus
from rotinv.nn.linear import Dense
from rotinv.nn.network import Network
from rotinv.runs import folder, model

PAGE = (ROOT / "docs" / "lrp.md").read_text(encoding="utf-8")
LIBRARIES = (ROOT / "docs" / "course" / "libraries.md").read_text(encoding="utf-8")
COURSE = ("index", "rules", "targets", "libraries", "exercises")
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")

LITERAL = {"x": "(1, 1)", "W": "(1, -1)", "b": "-1", "R": "-1"}
POSITIVE_BIAS = {**LITERAL, "b": "1", "R": "1"}
NEGATIVE_INPUTS = {"x": "(-1, -2)", "W": "(1, -1)", "b": "0", "R": "1"}
SMALL_INPUTS = {**NEGATIVE_INPUTS, "x": "(1/1000000, 1/1000000)"}
ONE_SIDED = {"x": "(1, 1)", "W": "(1, 2)", "b": "0", "R": "3"}
NEGATIVE_BIAS = {"x": "(1, 1)", "W": "(3, -1)", "b": "-1", "R": "1"}
EXAMPLES = {
    "A": ("captum `Alpha1_Beta0_Rule()`", LITERAL),
    "B": ("captum `Alpha1_Beta0_Rule()`", NEGATIVE_INPUTS),
    "C": ("zennit `AlphaBeta(1, 0)`", SMALL_INPUTS),
    "D": ("zennit `ZPlus()`", POSITIVE_BIAS),
    "E": ("zennit `WSquare()`", POSITIVE_BIAS),
    "F": ("zennit `AlphaBeta(1, 0)`", LITERAL),
    "G": ("zennit `AlphaBeta(2, 1)`", LITERAL),
    "H": ("zennit `AlphaBeta(1, 0)`", NEGATIVE_INPUTS),
    "I": ("zennit `AlphaBeta(2, 1)`", ONE_SIDED),
    "J": ("captum `GammaRule(1)`", POSITIVE_BIAS),
    "K": ("autolrp `epsilon`", NEGATIVE_BIAS),
    "L": ("autolrp `zplus`", NEGATIVE_BIAS),
    "M": ("iNNvestigate `lrp.alpha_2_beta_1`", {**NEGATIVE_BIAS, "b": "1", "R": "3"}),
}

# The paper's, in the page's letters.
EQUATIONS = {
    "Eq. 1, conservation": ["sum_i R_i = sum_j R_j"],
    "Eq. 2, rule 0": ["R_i = sum_j z_ij / z_j R_j"],
    "Eq. 3, epsilon": ["R_i = sum_j z_ij / (z_j + eps sign(z_j)) R_j"],
    "Eq. 4, alpha-beta": [
        "R_i = sum_j (alpha z_ij⁺ / z⁺_j - beta z_ij⁻ / z⁻_j) R_j",
        "alpha - beta = 1",
    ],
}


# What the program computes.


@pytest.fixture(scope="module")
def values():
    """Each worked block's names with the program's values, from the networks that the page's Python makes."""
    names = run_python(PAGE)
    network, params, x = (names[name] for name in ("network", "params", "x"))
    literal, conserve = composites.named("alpha2beta1"), Composite.everywhere(AlphaBeta(one_sided="conserve"))
    black = Composite(ZPlus(), ZPlus(), Epsilon(0.0))
    weights = {"alpha": 2, "beta": 1}
    return {
        "network": of_network(network, params, x),
        "sides": of_network(network, params, x),
        "rule-0": of_ledger(network, params, x, Composite.everywhere(Epsilon(0.0))),
        "epsilon": {"eps": 2, **of_ledger(network, params, x, Composite.everywhere(Epsilon(2.0)))},
        "alpha2beta1": {**weights, **of_ledger(network, params, x, literal)},
        "conserve": {**weights, **of_ledger(network, params, x, conserve)},
        "dead": {**of_network(network, params, 0 * x), **of_ledger(network, params, 0 * x, black)},
        "cyclic": of_cyclic(names["cap"], names["weights"], names["stamp"]),
        "equal": of_mean_by_flat(names["cap"], names["weights"], names["stamp"]),
        "doubled": of_mean_by_alpha_beta(),
        "maps": of_cyclic(names["cap"], names["weights"], names["stamp"]),
    }


def of_cyclic(network, params, stamp):
    """The names of the cyclic network: pixels, units, their mean, relevance of units and of pixels."""
    rule = composites.as_fractions(composites.named("zero"))
    _, tape = network.record(K, params, stamp, None)
    mean = next(saved for layer, saved in zip(network.layers, tape, strict=True) if "average" in layer.name)
    logits, trail = relevance(K, network, params, stamp, rule)
    _, four = next(heatmaps.of_rotations(K, network, params, stamp, "lrp", rule))
    found = {"m": logits[0, 0], "R": trail[-1][0, 0], "w_1": params[0], "w_4": params[3]}
    found |= {f"p_{i + 1}": pixel for i, pixel in enumerate(stamp.ravel())}
    found |= {f"f_{q}": unit for q, unit in enumerate(mean.ravel())}
    found |= {f"R_{q}": r for q, r in enumerate(trail[3].ravel())}
    found |= {f"H_{i + 1}": r for i, r in enumerate(trail[0].ravel())}
    return {**found, "total": trail[0].sum(), "average": heatmaps.average(four).sum()}


def of_mean_by_flat(network, params, stamp):
    """What flat hands to the four units: the ledger's account of the cyclic mean."""
    _, entries = ledger(K, K, network, params, stamp, composites.as_fractions(composites.named("flat")))
    mean = next(entry for entry in entries if "average" in entry.layer)
    assert not mean.lines["dead"].any() and not mean.closing_error.any()
    return {"R": mean.received[0], "received": mean.passed[0]} | {
        f"E_{q}": r for q, r in enumerate(mean.below.ravel())
    }


def of_mean_by_alpha_beta():
    """A mean written as a dense layer, under Eq. 4."""
    network = Network([composites.with_fractions(Dense(1))], (4,))
    params, units = K.asarray([1 / 4] * 4 + [0]), K.asarray([[0, 0, 3, 1]])
    trail = relevance(K, network, params, units, composites.as_fractions(composites.named("alpha2beta1")))
    return {"alpha": 2, "R": trail.logits[0, 0], "doubled": trail.relevance[0].sum()}


def of_libraries(text):
    """The names that the table of libraries gives: what theirs answer (the slow test runs them)."""
    found = {"captum_eps": Fraction(1, 10**9), "zennit_eps": Fraction(1, 10**6), "x_C": Fraction(1, 10**6)}
    found |= {"keras_eps": Fraction(1, 10**7), "captum_gamma": 1}
    found |= {"z_K": 2, "b_K": 1, "kept_K": Fraction(2, 3)}
    for (letter, *_, theirs), *_ in rows(text, "| library"):
        if theirs != "same":
            found |= {f"{letter}_{i + 1}": value for i, value in enumerate(vector(theirs))}
    return found


# The page's tables.


def parts(example):
    """x, W, b and R of an example, as text."""
    return dict(re.findall(r"(\w) = (\([^)]*\)|[^,\s]+)", example))


def check_libraries(text):
    """Hold the table to the examples, to the equations, and to the working below it."""
    found, scope = of_libraries(text), {}
    for line in next(body for title, body, _ in blocks(text, "worked") if title == "libraries").splitlines():
        name, value = worked(line, scope)
        assert value == found[name], line
        scope[name] = value
    for (letter, theirs_is, example, equation, answer, theirs), *_ in rows(text, "| library"):
        assert (theirs_is, parts(example)) == EXAMPLES[letter]
        assert theirs == "same" or f"{letter}_1" in scope
        assert vector(answer) == by_equation(parts(example), equation.strip("`")), letter


def by_equation(case, rule):
    """R of the inputs of one unit by a rule of ours."""
    x, w, b, r = (K.asarray(vector(case[name])) for name in ("x", "W", "b", "R"))
    layer = composites.with_fractions(Dense(1))
    p = {"w": w[:, None], "b": b}
    _, traced = layer.forward_signed(K, p, x[None])
    return list(
        layer.relevance(K, p, traced, r[None], composites.as_fractions(composites.named(rule)).dense)[0]
    )


# The tests.


def test_python():
    run_python(PAGE)


def test_working(values):
    check_working(PAGE, values)


def test_libraries_against_the_equations():
    check_libraries(LIBRARIES)


def test_a_mean_of_branches():
    """By Eq. 2 as the program shares it, and by equal parts."""
    branches = {"u_1": 3, "u_2": 1, "R": 2, "theirs_1": 1, "theirs_2": 1}
    units = K.asarray([[3], [1], [0], [0]])  # the cyclic mean has four; those of 0 change nothing but the 4
    shared = K.cyclic.mean_relevance(units, K.asarray([[2]])).ravel()
    found = {**branches, "equation_1": shared[0], "equation_2": shared[1]}
    text = next(body for title, body, _ in blocks(LIBRARIES, "worked") if title == "branches")
    check_working(f"```worked branches\n{text}```", {"branches": found})


def changed(start, end, text=PAGE):
    """The page with the number there one larger, and which it was."""
    line = text.count("\n", 0, start) + 1
    return f"line {line}: {text[start:end]}", f"{text[:start]}{int(text[start:end]) + 1}{text[end:]}"


def unnoticed(cases, check, *arguments, text=PAGE):
    """Those of the changed pages that `check` lets pass; the page itself must pass."""
    check(text, *arguments)
    return [what for what, text in cases if passes(check, text, *arguments)]


def passes(check, *arguments):
    try:
        check(*arguments)
    except (AssertionError, KeyError):
        return False
    return True


def test_any_other_number_in_the_working_fails(values):
    cases = [
        changed(start + found.start(), start + found.end())
        for _, body, start in blocks(PAGE, "worked")
        for found in NUMBER.finditer(body)
    ]
    assert len(cases) > 400
    assert unnoticed(cases, check_working, values) == []


def test_any_other_number_in_what_the_python_prints_fails():
    cases = []
    for _, body, start in blocks(PAGE, "python"):
        for printed in re.finditer(r"^(?!>>>|\.\.\.).*$", body, re.MULTILINE):
            line = start + printed.start(), start + printed.end()
            cases += [changed(*found.span()) for found in NUMBER.finditer(PAGE, *line)]
    assert len(cases) > 50
    assert unnoticed(cases, run_python) == []


def test_any_other_number_in_the_table_of_libraries_fails():
    cases = []
    for _, start, length in rows(LIBRARIES, "| library"):
        places = NUMBER.finditer(LIBRARIES, start, start + length)
        cases += [changed(*found.span(), LIBRARIES) for found in places]
    assert len(cases) > 80
    assert unnoticed(cases, check_libraries, text=LIBRARIES) == []


def test_the_equations_are_the_papers():
    found = re.findall(r"^\*\*(Eq\. .+?)\.\*\* (.+)$", PAGE, re.MULTILINE)
    assert [name for name, _ in found] == list(EQUATIONS)
    for name, text in found:
        stated = re.findall(r"`([^`]+=[^`]+)`", text)
        assert stated[: len(EQUATIONS[name])] == EQUATIONS[name]


@pytest.mark.parametrize("name", ["lrp", *(f"course/{name}" for name in COURSE)])
def test_the_text_has_no_numbers_of_its_own(name):
    """Only those of equations, years, versions, headings and rules' names."""
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$|^\|.*?$|^#.*?$|^    .*?$", "", page, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`", "", text)
    known = (
        r"Eqs?\. [1-4](?:(?:, | and | to )[1-4])*|Equations 1 to 4|rule 0|0/0( = 0)?|sign\(0\)|\+1|\(2018\)"
    )
    libraries = r"zennit 1\.0\.0|captum 0\.9\.0|autolrp 0\.2\.0|LXT 2\.1|iNNvestigate 2\.1\.2|float64"
    known += r"|^(\*\*)?\d+\.(\*\*)? "  # exercises and their answers
    assert re.findall(r".*\d.*", re.sub(f"{known}|{libraries}", "", text, flags=re.MULTILINE)) == []


TOUR = [
    *rows(PAGE, "equation"),
    *rows(PAPER, "equation"),
    *rows(PAPER, "network or training"),
    *rows(PAPER, "table or figure"),
]


@pytest.mark.parametrize("row", TOUR, ids=lambda row: row[0][0])
def test_the_tour_quotes_the_code(row):
    (_, where, code, *_), *_ = row
    file, name = where.strip("`").split("::")
    module = file.removesuffix(".py").replace("/", ".")
    there = importlib.import_module(module if file.startswith("rotinv/") else f"rotinv.{module}")
    for part in name.split("."):
        there = getattr(there, part)
    source = inspect.getsource(there.fget if isinstance(there, property) else there)
    assert code.strip("`") in source


def test_the_paper_is_all_there():
    """Its equations, tables and figures each have a row, and no others are named."""
    named = " ".join(cells[0] for cells, *_ in TOUR[len(rows(PAGE, "equation")) :])
    found = re.findall(r"(Eq|Fig|Table)s?\.? (\w+)(?: and (\d))?", named)
    every = {(kind, number) for kind, *numbers in found for number in numbers if number}
    equations, figures = {("Eq", str(n)) for n in range(1, 7)}, {("Fig", str(n)) for n in range(1, 6)}
    assert every == equations | figures | {("Table", number) for number in ("I", "II", "III")}


def test_the_programs_take_the_options_that_the_paper_page_names():
    commands = [cells[3].strip("`").split() for cells, *_ in rows(PAPER, "table or figure") if cells[3]]
    assert len(commands) > 5
    for rotinv, program, *options in commands:
        module = importlib.import_module(f"rotinv.{program}")
        assert rotinv == "rotinv" and program in PROGRAMS
        for option in options:
            assert not option.startswith("--") or option in module._parser().format_help()


def test_readme_quotes_what_the_quick_training_printed(tmp_path, capsys):
    """The numbers are those of the run that README's pictures were made from."""
    pictures = ROOT / "docs" / "pictures"
    result = json.loads((pictures / "quick_training.json").read_text(encoding="utf-8"))
    train._print_metrics(tmp_path, result)
    printed = capsys.readouterr().out.strip()
    assert textwrap.indent(printed, "    ") in (ROOT / "README.md").read_text(encoding="utf-8")
    assert result["accuracy"] >= 0.988 and result["fnr_at_fpr"]["0.002"] < 0.12


def test_the_commands(tmp_path, monkeypatch, capsys):
    """Run as they stand, but for the training, of which only the options are read."""
    config = folder.Config("cap-mini", 13, ["difference"])
    (tmp_path / "runs" / "mini").mkdir(parents=True)
    model.write_weights(tmp_path / "runs" / "mini", config, config.network().initial("he", 0))
    np.savez(tmp_path / "stamps.npz", **toy_arrays(4))
    monkeypatch.chdir(tmp_path)
    ((_, commands, _),) = blocks(PAGE, "sh")
    for line in commands.splitlines():
        rotinv, program, *arguments = shlex.split(line)
        module = importlib.import_module(f"rotinv.{program}")
        assert rotinv == "rotinv"
        if program == "train":
            module._parser().parse_args(arguments)
        else:
            assert module.main(arguments) == 0, line
    assert capsys.readouterr().out.count("stamp 3") >= 3
    assert (tmp_path / "maps.h5").exists()


@pytest.mark.slow
@pytest.mark.parametrize("letter", EXAMPLES)
def test_the_libraries_give_what_the_page_says(letter, monkeypatch):
    """Where they are installed, in the versions that the page names."""
    torch = pytest.importorskip("torch")
    library, example = EXAMPLES[letter]
    name, rule = re.fullmatch(r"(\w+) `(.+)`", library).groups()
    if name == "iNNvestigate" or f"{name} {version(name)}" not in LIBRARIES:  # that one needs TensorFlow
        pytest.skip(f"{name} of the page's version is not installed")
    cells = next(cells for cells, *_ in rows(LIBRARIES, "| library") if cells[0] == letter)
    x, w, b, r = (torch.tensor(np.float64(vector(example[name]))) for name in ("x", "W", "b", "R"))
    unit = torch.nn.Linear(len(x), 1).double()
    unit.weight.data, unit.bias.data = w[None], b
    if name == "captum":
        found = by_captum(torch, rule, unit, x[None], r)
    elif name == "autolrp":
        found = by_autolrp(rule, unit, x[None], r)
    else:
        monkeypatch.syspath_prepend(ROOT / "bench")
        monkeypatch.syspath_prepend(ROOT / "bench" / "peers")
        found = by_zennit(torch, rule, unit, x[None], r)
    expected = np.float64(vector(cells[4] if cells[5] == "same" else cells[5]))
    tolerance = 1e-12 if letter in "ABCDE" else 2e-6  # the others' working leaves the stabiliser out
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0)


def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def by_captum(torch, rule, unit, x, r):
    """captum starts with the output itself: R is that, or what it is scaled by."""
    attr = importlib.import_module("captum.attr")
    made = importlib.import_module("captum.attr._utils.lrp_rules")
    output = unit(x).item()
    name, numbers = re.fullmatch(r"(\w+)\((.*)\)", rule).groups()
    unit.rule = getattr(made, name)(*map(float, filter(None, numbers.split(", "))))
    return attr.LRP(torch.nn.Sequential(unit)).attribute(x, target=0).detach().numpy()[0] * r.item() / output


def by_autolrp(rule, unit, x, r):
    """autolrp starts with the output itself, too."""
    autolrp = importlib.import_module("autolrp")
    x = autolrp.tensor(x)
    output = unit(x)[0, 0]
    output.lrp(rule={**autolrp.BASE, "AddmmBackward": rule})
    return x.relevance.detach().numpy()[0] * r.item() / output.item()


def by_zennit(torch, rule, unit, x, r):
    importlib.import_module("zennit_lrp").import_zennit()
    name, numbers = re.fullmatch(r"(\w+)\((.*)\)", rule).groups()
    made = getattr(sys.modules["zennit.rules"], name)(*map(float, filter(None, numbers.split(", "))))
    x.requires_grad_()
    made.register(unit)
    return torch.autograd.grad(unit(x), x, r[None])[0].numpy()[0]
