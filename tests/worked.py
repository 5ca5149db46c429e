"""Pages that work LRP by hand, as the tests read them: their Python is run, their working computed anew.

A line of working reads `name = formula = the same formula with its numbers = value`; a given has no formula.
"""

import doctest
import re
from fractions import Fraction
from functools import cache

from rotinv.lrp import composites
from rotinv.lrp.ledger import LINES, ledger
from rotinv.nn.devices import exact_kernels

NAME = re.compile(r"\b(?!max\b)[A-Za-z]\w*[⁺⁻]?\w*")
NUMBER = re.compile(r"(?<![\w⁺⁻])\d+")
K = exact_kernels()


def blocks(text, kind):
    """(title, body, where the body starts) of each fenced block ```kind title."""
    fences = re.finditer(rf"^```{kind} ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [(fence[1], fence[2], fence.start(2)) for fence in fences]


def rows(text, header):
    """The cells of the table whose header starts so, and where each row starts."""
    start = text.index(f"\n| {header}") + 1
    found = []
    for line in text[start:].split("\n\n")[0].splitlines(keepends=True):
        found.append(([cell.strip() for cell in line.split("|")[1:-1]], start, len(line)))
        start += len(line)
    return found[2:]


def run_python(text, name="docs/lrp.md"):
    """The names that the page's examples leave behind; AssertionError if one prints something else."""
    source = "".join(body for _, body, _ in blocks(text, "python"))
    examples = doctest.DocTestParser().get_doctest(source, {}, name, None, 0)
    said = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(examples, out=said.append, clear_globs=False)
    assert runner.failures == 0, "".join(said)
    return examples.globs


def check_working(text, values):
    """Hold each line to its own arithmetic, and each name to `values`, {block: {name: Fraction}}."""
    scope = {}
    for title, body, _ in blocks(text, "worked"):
        for line in filter(None, body.splitlines()):
            name, value = worked(line, scope)
            assert value == values[title][name], line
            scope[name] = value


def worked(line, scope):
    """The name and the value of `name = formula = the same with numbers = value`; a given has no formula."""
    name, *formula, value = line.split(" = ")
    value = number(value)
    if formula:
        with_numbers = NAME.sub(lambda found: written(scope[found[0]]), formula[0])
        assert formula[1:] == [with_numbers] or NAME.fullmatch(formula[0]), line
        assert evaluate(with_numbers) == value, line
    return name, value


def written(value):
    return f"({value})" if value < 0 or value.denominator > 1 else str(value)


@cache
def number(text):
    assert str(Fraction(text)) == text, text
    return Fraction(text)


@cache
def evaluate(text):
    """The arithmetic of integers, +, -, ·, / and max, in fractions."""
    source = NUMBER.sub(r"Fraction(\g<0>)", text.replace("·", "*"))
    return eval(source, {"__builtins__": {}, "Fraction": Fraction, "max": max})


def of_network(network, params, x):
    """The names of the network of two inputs and two units, and of its two sides."""
    first, last = network.views(params)
    low, top = network.record_signed(K, params, x)
    found = {"c": last["b"][0], "y": top.z_pos[0, 0] + top.z_neg[0, 0]}
    found |= {"s⁺": top.z_pos[0, 0], "s⁻": top.z_neg[0, 0]}
    for j in (0, 1):
        unit = {"b": first["b"][j], "v": last["w"][j, 0], "a": top.a[0, j]}
        unit |= {"z⁺": low.z_pos[0, j], "z⁻": low.z_neg[0, j], "z": low.z_pos[0, j] + low.z_neg[0, j]}
        unit |= {"s": unit["a"] * unit["v"], "x": x[0, j]}
        found |= {f"{name}_{j + 1}": value for name, value in unit.items()}
        for i in (0, 1):
            w = first["w"][i, j]
            found |= {f"w_{i + 1}{j + 1}": w, f"z_{i + 1}{j + 1}": x[0, i] * w}
    return found


def of_ledger(network, params, x, rule):
    """R at the output, at `a` and at `x`, and the lines of both layers."""
    _, (top, low) = ledger(K, K, network, params, x, composites.as_fractions(rule))
    found = {"R": top.received[0]}
    for entry, below in ((top, "a"), (low, "x")):
        assert entry.closing_error[0] == 0
        found |= {f"R_{below}{i + 1}": entry.below[0, i] for i in (0, 1)}
        found[f"received_{below}"] = entry.received[0]
        for line in LINES:
            name = line.replace("bias_positive", "bias⁺").replace("bias_negative", "bias⁻")
            found[f"{name}_{below}"] = entry.lines[line][0]
    return found


def vector(cell):
    return [Fraction(part) for part in cell.strip("()").split(", ")]
