"""The course, docs/course/: its Python is run, its working computed anew by the program."""

import re
from fractions import Fraction

import pytest
from programs import ROOT
from worked import NUMBER, K, blocks, check_working, of_ledger, of_network, run_python

from rotinv.lrp import composites
from rotinv.lrp.ledger import ledger
from rotinv.lrp.relevance import descend, relevance
from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox
from rotinv.nn.cyclic import CyclicMean
from rotinv.nn.linear import Dense

PAGES = {
    name: (ROOT / "docs" / "course" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("rules", "targets", "exercises")
}


def rules_values():
    names = run_python(PAGES["rules"], "docs/course/rules.md")
    network, params, x = (names[name] for name in ("network", "params", "x"))

    def of(rule):
        return of_ledger(network, params, x, composites.named(rule))

    given = of_network(network, params, x)
    box = ZBox(0, 4).terms(x, network.views(params)[0]["w"], network.views(params)[0]["b"])
    q = sum(a.T * w for a, w, _ in box)
    corners = {f"q_{i + 1}{j + 1}": q[i, j] for i in (0, 1) for j in (0, 1)}
    rules = composites.as_fractions(composites.named("flat"))
    pixel = K.asarray([[[[5]]]])
    _, entries = ledger(K, K, names["padded"], K.asarray([1] * 9 + [0]), pixel, rules)
    top, low = entries[0], entries[-1]
    crop = {"p": pixel.item(), "z": top.received[0], "R": top.received[0], "share": low.received[0] / 9}
    return {
        "network": given,
        "gamma": {**given, "gamma": 1, **of("gamma:gamma=1")},
        "zplus": of("zplus"),
        "zbox": {"low": 0, "high": 4, **corners, **of("zero; dense 1=zbox:low=0,high=4")},
        "wsquare": of("zero; dense 1=wsquare"),
        "flat": of("zero; dense 1=flat"),
        "crop": {**crop, "R_p": low.passed[0], "crop": low.lines["crop"][0], "received": low.received[0]},
    }


def targets_values():
    names = run_python(PAGES["targets"], "docs/course/targets.md")
    network, params, a = (names[name] for name in ("network", "params", "a"))
    p = network.views(params)[0]
    logits = network.forward(K, params, a)[0]
    given = {"a_1": a[0, 0], "a_2": a[0, 1], "y_0": logits[0], "y_1": logits[1]}
    for letter, column in (("u", 0), ("v", 1)):
        given |= {f"{letter}_{i + 1}": p["w"][i, column] for i in (0, 1)}
    given |= {"d": p["b"][0], "c": p["b"][1]}

    def of(target):
        rule = composites.as_fractions(composites.named("zero"))
        trail = relevance(K, network, params, a, rule, target)
        _, (entry,) = ledger(K, K, network, params, a, rule, target)
        top, (r_1, r_2) = trail.relevance[1][0], trail.relevance[0][0]
        bias = entry.lines["bias_positive"][0] + entry.lines["bias_negative"][0]
        found = {"R": top.sum(), "R_1": r_1, "R_2": r_2, "R_y0": top[0], "R_y1": top[1]}
        return {**found, "bias": bias, "received": entry.received[0]}

    below = names["below"]
    negative = {"c": network.views(below)[0]["b"][1], "alpha": 2, "beta": 1}
    for text, called in (("zero", "zero"), ("alpha2beta1", "apart")):
        rule = composites.as_fractions(composites.named(text))
        (step,) = descend(K, network, below, a, rule, K.asarray([[0, -2]]))
        z_pos, z_neg = step.saved.z_pos[0, 1], step.saved.z_neg[0, 1]
        products = {f"s_{i + 1}": a[0, i] * p["w"][i, 1] for i in (0, 1)}
        negative |= {**products, "y": z_pos + z_neg, "R": step.received[0, 1]}
        negative |= {f"{called}_{i + 1}": step.passed[0, i] for i in (0, 1)}
        if called == "apart":
            negative |= {"s⁺": z_pos, "s⁻": z_neg}
    units = K.asarray([[0], [0], [3], [1]])
    mean, saved = CyclicMean().forward(K, {}, units, None)
    means = {f"a_{i + 1}": units[i, 0] for i in range(4)} | {"m": mean[0, 0]}
    shares = {}
    for name in ("zero", "flat"):
        shared = CyclicMean().relevance(K, {}, saved, mean, composites.named(name).dense).ravel()
        parts = {f"R_{i + 1}": shared[i] for i in range(4)}
        shares[name] = {**means, "R": mean[0, 0], **parts, "received": shared.sum()}
    return {
        "logits": given,
        **{target: of(target) for target in ("predicted", "one", "difference")},
        "negative": negative,
        "proportional": shares["zero"],
        "equal": shares["flat"],
    }


def one_unit(x, w, b, r, rule):
    """What a rule makes of one unit: its sums, R of its inputs, and the lines that take the rest."""
    layer, rule = composites.with_fractions(Dense(1)), composites.with_fractions(rule)
    x, p = K.asarray([x]), {"w": K.asarray(w)[:, None], "b": K.asarray([b])}
    _, saved = layer.forward_signed(K, p, x)
    z = saved.z_pos[0, 0] + saved.z_neg[0, 0]
    received = K.asarray([[z if r is None else r]])
    shared = layer.share(K, p, saved, received, rule)
    taken = rule.account(shared.z_pos, shared.z_neg, shared.r, shared.c_pos, shared.c_neg)
    passed = layer.redistribute(K, shared)[0]
    (_, _, used), *_ = shared.terms
    bias = (used.clip(0, None) * shared.c_pos + used.clip(None, 0) * shared.c_neg)[0, 0]
    lines = {"stabiliser": taken.stabiliser, "one_sided": taken.one_sided, "dead": taken.dead}
    lines = {name: line[0, 0] for name, line in lines.items()}
    assert passed.sum() + bias + sum(lines.values()) == received[0, 0]
    found = {"x_1": x[0, 0], "x_2": x[0, 1], "w_1": p["w"][0, 0], "w_2": p["w"][1, 0], "b": b, "z": z}
    found |= {
        "z⁺": saved.z_pos[0, 0],
        "z⁻": saved.z_neg[0, 0],
        "R": received[0, 0],
        "received": received[0, 0],
    }
    return {**found, "R_1": passed[0], "R_2": passed[1], "bias": bias, **lines}


def exercises_values():
    box = ZBox(0, 1)
    corners = [(a * w[:, 0]).ravel() for a, w, _ in box.terms(*map(K.asarray, ([[0, 1]], [[2], [-1]], [3])))]
    units = K.asarray([[2], [0], [0], [2]])
    mean, saved = CyclicMean().forward(K, {}, units, None)
    shared = CyclicMean().relevance(K, {}, saved, mean, Epsilon(0.0)).ravel()
    quarter = Fraction(1, 4)
    layer = composites.with_fractions(Dense(1))
    p = {"w": K.asarray([[quarter]] * 4), "b": K.asarray([0])}
    _, signed = layer.forward_signed(K, p, units.T)
    doubled = layer.relevance(K, p, signed, mean, composites.with_fractions(AlphaBeta()))
    return {
        "gamma-below-zero": {"gamma": 1, **one_unit([1, 2], [1, -2], 1, None, Gamma(1.0))},
        "alpha3beta2": {"alpha": 3, "beta": 2, **one_unit([1, 1], [3, -1], -1, 4, AlphaBeta(3.0, 2.0))},
        "literal": {"alpha": 2, "beta": 1, **one_unit([1, 1], [1, 2], 0, 3, AlphaBeta())},
        "conserve": one_unit([1, 1], [1, 2], 0, 3, AlphaBeta(one_sided="conserve")),
        "half": {"eps": 1, **one_unit([1, 1], [3, -2], 0, 1, Epsilon(1.0))},
        "worst": {
            **{"low": 0, "high": 1, "q_1": sum(corners)[0], "q_2": sum(corners)[1]},
            **one_unit([0, 1], [2, -1], 3, 5, box),
        },
        "squares": one_unit([7, -1], [3, 4], 2, 25, WSquare()),
        "mean": {
            **{f"u_{i + 1}": units[i, 0] for i in range(4)},
            **{"alpha": 2, "R": mean[0, 0], "as_a_layer": doubled.sum()},
            **{"R_1": shared[0], "R_4": shared[3], "received": shared.sum()},
        },
    }


VALUES = {"rules": rules_values, "targets": targets_values, "exercises": exercises_values}


@pytest.fixture(scope="module")
def values():
    return {name: make() for name, make in VALUES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_the_working(values, name):
    check_working(PAGES[name], values[name])


@pytest.mark.parametrize("name", PAGES)
def test_any_other_number_in_the_working_fails(values, name):
    page, count = PAGES[name], 0
    for _, body, start in blocks(page, "worked"):
        for found in NUMBER.finditer(body):
            first, last = start + found.start(), start + found.end()
            text = f"{page[:first]}{int(page[first:last]) + 1}{page[last:]}"
            with pytest.raises((AssertionError, KeyError, ZeroDivisionError)):
                check_working(text, values[name])
            count += 1
    assert count > 70


def test_exercises_state_what_the_answers_begin_with():
    """The numbers of an exercise's `name = value` are those of its answer."""
    exercises, answers = PAGES["exercises"].split("## Answers")
    asked = re.split(r"^\d+\. ", exercises, flags=re.MULTILINE)[1:]
    told = re.split(r"^\*\*\d+\.\*\* ", answers, flags=re.MULTILINE)[1:]
    assert len(asked) == len(told) == 7
    for question, answer in zip(asked, told, strict=True):
        for name, value in re.findall(r"`(\w+) = (-?\d+)`", question):
            assert f"\n{name} = {value}\n" in answer
        for name, one, other in re.findall(r"`([xw]) = \((-?\d+), (-?\d+)\)`", question):
            assert f"\n{name}_1 = {one}\n{name}_2 = {other}\n" in answer


def test_flat_is_the_composites_first_rule():
    """As the table of composites has it."""
    table = [line for line in PAGES["rules"].splitlines() if line.startswith("| `")]
    kinds = {Flat: "flat", ZBox: "z^B"}
    for line in table:
        name, first, *_ = (cell.strip(" `") for cell in line.strip("|").split("|"))
        assert kinds[type(composites.named(name).first)] == first
    assert len(table) == 4
