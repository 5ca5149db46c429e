"""Relevance: right against frozen reference maps, then timed beside zennit."""

import importlib.util
import os

import frozen
import interleave
import numpy as np
import pytest

from rotinv import rules
from rotinv.backend import get_kernels

PEER = interleave.HERE / "peers" / "zennit_lrp.py"

# The largest deviation from the reference, of the largest relevance. Pruned nets have units whose z+ or z-
# is nearly empty, and rules that divide by z = z+ + z- cancel: both enlarge what float32 rounds.
TOLERANCE = {"trained": 1e-5, "compact": 2e-5, "pruned": 2e-4}
CANCELS = {"zero": 2e-3, "epsilon": 2e-3}
# Where a stamp is constant, the maxima of pooling tie but for rounding. A rule that is blind to its inputs
# may then give a pixel's relevance to its neighbour: both answers are right.
TIES = {("compact", "wsquare"), ("compact", "flat")}


@pytest.fixture(scope="module")
def maps():
    with np.load(frozen.FILE) as file:
        return dict(file)


def deviation(found, exact):
    return np.abs(found - exact).max() / np.abs(exact).max()


def test_the_frozen_maps_can_be_made_again(maps):
    again = frozen.maps()
    assert again.keys() == maps.keys()
    for name, exact in maps.items():
        assert deviation(again[name], exact) < 1e-6, name


@pytest.mark.parametrize("rule", rules.COMPOSITES)
@pytest.mark.parametrize("net", frozen.NETS)
def test_relevance_against_the_reference(maps, net, rule):
    if (net, rule) in TIES:
        pytest.skip("pooling ties are broken by rounding, and this rule is blind to its inputs")
    network, params, stamp = frozen.cases()[net]
    cpu = get_kernels("cpu")
    trail = network.relevance(cpu, cpu.asarray(params), cpu.asarray(stamp), rules.named(rule))
    assert deviation(trail.relevance[0], maps[f"{net} {rule}"]) < CANCELS.get(rule, TOLERANCE[net])


@pytest.mark.parametrize("threads", sorted({1, min(2, os.cpu_count() or 1)}, reverse=True))
def test_time_beside_zennit(timings, rounds, threads):
    if importlib.util.find_spec("zennit") is None:
        pytest.skip("zennit is not installed (the extra `bench`)")
    row = interleave.compare("cap alpha2beta1", threads, interleave.HERE / "ours.py", PEER, rounds)
    assert row["ms"] > 0 and row["peer_ms"] > 0
    timings.append(row)
