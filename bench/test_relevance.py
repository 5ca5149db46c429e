"""Relevance: checked against reference maps computed beforehand, then timed beside zennit."""

import frozen
import numpy as np
import operations
import pytest
from interleave import Peer

from rotinv.lrp import composites
from rotinv.lrp.relevance import relevance
from rotinv.nn.devices import get_kernels

# The largest deviation from the reference, of the largest relevance. Pruned nets have units whose z+ or z-
# is nearly empty, and rules that divide by z = z+ + z- cancel: both enlarge what float32 rounds.
TOLERANCE = {"trained": 1e-5, "compact": 2e-5, "pruned": 2e-4}
CANCELS = {"zero": 2e-3, "epsilon": 2e-3}


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


@pytest.mark.parametrize("rule", composites.COMPOSITES)
@pytest.mark.parametrize("net", frozen.NETS)
def test_relevance_against_the_reference(maps, net, rule):
    network, params, stamp = frozen.cases()[net]
    cpu = get_kernels("cpu")
    trail = relevance(cpu, network, cpu.asarray(params), cpu.asarray(stamp), composites.named(rule))
    assert deviation(trail.relevance[0], maps[f"{net} {rule}"]) < CANCELS.get(rule, TOLERANCE[net])


@pytest.mark.parametrize("name", operations.RELEVANCE)
def test_what_is_timed_is_a_relevance_pass(name):
    trail = operations.operation(get_kernels("cpu"), f"{name} 2").run()
    assert trail.relevance[0].shape == (2, 21, 21, 4)
    assert np.abs(trail.relevance[0]).max() > 0


@pytest.mark.parametrize("operation", operations.RELEVANCE)
def test_time_beside_zennit(time_beside, operation, threads):
    time_beside(operation, threads, Peer("zennit", "zennit_lrp.py"))
