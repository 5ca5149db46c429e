"""Rules by their names, by their numbers and by layer: what a text describes, and what is refused."""

import re

import numpy as np
import pytest
from programs import assert_refused, make_run, run

from rotinv.lrp import attribution, composites
from rotinv.lrp.composites import Composite
from rotinv.lrp.relevance import descend, relevance
from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from rotinv.nn.architectures import build
from rotinv.runs.model import load_model
from rotinv.system.errors import UserError

TEXTS = {
    "gamma": Composite.everywhere(Gamma(0.25)),
    "alpha-beta:alpha=3,beta=2": Composite.everywhere(AlphaBeta(3.0, 2.0)),
    "alpha-beta: one_sided=conserve": Composite.everywhere(AlphaBeta(2.0, 1.0, 0.0, "conserve")),
    "epsilon:eps=0.01": Composite.everywhere(Epsilon(0.01)),
    "gamma:gamma=.1, eps=1e-3": Composite.everywhere(Gamma(0.1, 1e-3)),
    "zbox:low=-1": Composite(ZBox(-1.0, 1.0), ZPlus(), ZPlus()),
    "convolution 1=zbox; dense 3=epsilon": Composite(
        AlphaBeta(), AlphaBeta(), AlphaBeta(), {"convolution 1": ZBox(), "dense 3": Epsilon()}
    ),
    "epsilon-plus-flat;Dense  1=alpha-beta:alpha=3,beta=2": Composite(
        Flat(), ZPlus(), Epsilon(), {"dense 1": AlphaBeta(3.0, 2.0)}
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_text_describes(text):
    assert composites.named(text) == TEXTS[text]


REFUSED = {
    "": "rule ''",
    "epsilom": "did you mean epsilon",
    "epsilon:eps=-1": "eps -1: must be a number from 0 to 1e+09",
    "epsilon:eps=nan": "eps nan",
    "gamma:gamma=1e38": "gamma 1e+38: must be",
    "alpha-beta:alpha=-1,beta=-2": "beta -2: must be",
    "epsilon:eps=much": "'eps=much' is no number",
    "epsilon:gamma=1": "'gamma=1' is nothing that it takes; it takes eps",
    "flat:eps=1": "it takes no number",
    "alpha-beta:alpha=3": "alpha - beta must be 1",
    "epsilon-gamma-box:gamma=.1": "is made of several",
    "dense 1=epsilon-plus-flat": "is made of several",
    "zbox:low=2": "low one must be below",
    "gamma; epsilon": "for which layer, as in 'dense 3=epsilon'",
    "dense 1=gamma; dense 1=flat": "'dense 1' twice",
    "dense 1=": "rule ''",
    "=flat": "'=flat' names no layer; write 'dense 3=flat'",
    "gamma; =flat": "'=flat' names no layer",
    "zbox:high=inf": "both from -1e+09 to 1e+09",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text):
    with pytest.raises(UserError, match=re.escape(REFUSED[text])):
        composites.named(text)


@pytest.mark.parametrize(
    "text, name, numbers",
    [
        ("zbox:low=.2,high=.5", "convolution", "from 0.2 to 0.5; these are from 0 to"),
        ("gamma; convolution=zbox:high=.5", "convolution", "from 0 to 0.5"),
        ("dense 2=zbox:high=.01", "dense 2", "from 0 to 0.01"),
    ],
)
def test_inputs_beyond_the_bounds_of_zbox_are_refused(k, text, name, numbers):
    """Of the stamps and of inner layers alike: its products would not all be positive there."""
    network = build("cap-mini", size=13, channels=1)
    params, x = network.initial("he", 0), np.random.default_rng(0).random((2, 13, 13, 1))
    own = k.asarray(params), k.asarray(x)
    with pytest.raises(UserError, match=f"{name}: rule zbox is for inputs {re.escape(numbers)}"):
        relevance(k, network, *own, composites.named(text))
    inner = relevance(k, network, *own, composites.named("dense 2=zbox:high=1000")).relevance[0]
    assert np.isfinite(k.to_host(inner)).all()


def test_each_layer_goes_by_its_own_rule(reference):
    network = build("cap-mini", size=13, channels=1)
    params, x = network.initial("he", 0), np.random.default_rng(0).random((2, 13, 13, 1))
    composite = composites.named("epsilon-plus-flat; dense 1=gamma:gamma=.5; convolution=zbox")
    steps = list(descend(reference, network, params, x, composite, np.array([[1.0, 0], [0, 1]])))
    rules = {step.name: step.rule for step in steps}
    assert rules["dense 1"] == Gamma(0.5) and rules["convolution"] == ZBox()
    assert rules["dense 2"] == rules["cyclic average pooling"] == Epsilon()
    for step in steps:
        again = step.layer.relevance(reference, step.p, step.saved, step.received, rules[step.name])
        np.testing.assert_array_equal(step.passed, again)
    with pytest.raises(UserError, match=r"layer 'dense 7' is not known .*dense 1"):
        relevance(reference, network, params, x, composites.named("dense 7=epsilon"))
    with pytest.raises(UserError, match="layer 'dropout' is not known"):
        relevance(reference, network, params, x, composites.named("dropout=epsilon"))


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """A folder with a run of two channels and stamps for it."""
    folder = tmp_path_factory.mktemp("composites")
    make_run(folder / "run", channels=("science", "difference"))
    x = np.random.default_rng(0).uniform(0, 100, (2, 13, 13, 2)).astype(np.float32)
    np.savez(folder / "stamps.npz", stamps=x, channels=["science", "difference"])
    return folder


def test_programs_take_them(mini):
    text = "gamma:gamma=.1; dense 3=epsilon:eps=0.01"
    for program, options in (("explain", ()), ("audit", ())):
        done = run(program, mini / "run", mini / "stamps.npz", "--index", 0, "--rule", text, *options)
        assert done.returncode == 0, done.stderr
    done = run("explain", mini / "run", mini / "stamps.npz", "--index", 0, "--rule", "dense 9=flat")
    assert_refused(done, "dense 9", "dense 3")


def test_an_overflow_of_float32_is_named(cpu, reference, mini):
    model = load_model(mini / "run")
    x = np.random.default_rng(0).random((1, 13, 13, 2), np.float32)
    question = attribution.Question(rule="alpha-beta:alpha=1000000,beta=999999")
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"in 'convolution.*--device reference"):
        list(attribution.explain(cpu, model, x, question))
    (found,) = attribution.explain(reference, model, x, question)
    assert np.isfinite(found.maps).all()
