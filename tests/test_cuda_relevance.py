"""Relevance on a GPU as one graph, from the stamps to the maps (rotinv.lrp.relevance.prepared)."""

from dataclasses import replace

import numpy as np
import pytest
from cuda_emulation import fake_cupy
from cuda_emulation.device import ORDERS, emulated, why_not
from test_gpu_without_one import gpu  # noqa: F401  # a fixture

from rotinv.lrp import composites, heatmaps, targets
from rotinv.lrp.relevance import prepared, relevance
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.stamps.classes import Classes
from rotinv.system.errors import UserError

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


def drawn(arch="cap-mini", count=2, blocks=3):
    """A network, weights, and blocks of stamps."""
    network, rng = architectures.build(arch, 13, 2), np.random.default_rng(4)
    params = np.float32(network.initial("authors", 3))
    return network, params, [np.float32(rng.uniform(size=(count, *network.in_shape))) for _ in range(blocks)]


def on_host(k, trail):
    return [k.to_host(array) for array in (trail.logits, *trail.relevance)]


def assert_same(found, expected):
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


OF_CLASSES = targets.OfClasses("predicted", np.array([0, 1]))
AT = [
    targets.AtThreshold(name, Classes(("a", "b"), candidate=0), 0.48) for name in ("predicted", "difference")
]


@pytest.mark.parametrize("target", [*targets.TARGETS, 0, *AT, OF_CLASSES], ids=str)
def test_a_graph_gives_the_bits_of_the_pass_that_asks_the_host(target):
    """For the block that is run, the one that is captured, and one that is replayed."""
    network, params, blocks = drawn()
    k = emulated()
    there, rules = k.asarray(params), composites.named("alpha2beta1")
    run = prepared(k, network, there, rules, target)
    for x in blocks:
        expected = relevance(k, network, there, k.asarray(x), rules, target)
        assert_same(on_host(k, run(k.asarray(x))), on_host(k, expected))


@pytest.mark.parametrize("rule", composites.COMPOSITES)
def test_every_rule_gives_the_same_bits_as_a_graph(rule, gpu):  # noqa: F811
    """zbox asks the host for the range of the pixels, and so is never captured."""
    gpu()
    network, params, blocks = drawn()
    k, other, rules = get_kernels("cuda"), emulated(), composites.named(rule)
    run = prepared(k, network, k.asarray(params), rules)
    for x in blocks:
        fake_cupy.counted.clear()
        found = on_host(k, run(k.asarray(x)))
        assert_same(found, on_host(other, relevance(other, network, params, x, rules)))
    assert fake_cupy.counted["graphs"] == (0 if "box" in rule else 1)


@pytest.mark.parametrize("arch", ["cap", "deephits"])
def test_a_graph_is_one_launch_and_one_wait(gpu, arch):  # noqa: F811
    """Where a pass that asks the host for the class is more than 50 launches, and three waits."""
    gpu()
    network, params, blocks = drawn(arch, 1)
    k, rules = get_kernels("cuda"), composites.named("alpha2beta1")
    there, counts = k.asarray(params), []
    run = prepared(k, network, there, rules)
    ways = [lambda x: relevance(k, network, there, x, rules), run, run, run]
    for way, x in zip(ways, [blocks[0], *blocks], strict=True):
        stamps = k.asarray(x)
        fake_cupy.counted.clear()
        way(stamps)
        counts.append(dict(fake_cupy.counted))
    asking, eager, _, replayed = counts
    assert replayed == {"graphs": 1, "waits": 1}
    assert eager["waits"] == 1 and asking["waits"] == 3
    assert eager["launches"] == asking["launches"] == 51
    assert eager["kernels of CuPy's own"] == 1  # the border is cut off the stamps' relevance


@pytest.mark.parametrize("order", ORDERS)
def test_turned_stamps_and_a_stamp_alone_have_the_same_maps(order):
    network, params, (x, *_) = drawn(count=3, blocks=1)
    k = emulated(order=order)
    there, rules = k.asarray(params), composites.named("alpha2beta1")

    def maps(stamps):
        run = prepared(k, network, there, rules)
        for _ in range(2):  # the second is the graph's
            found = run(k.asarray(np.ascontiguousarray(stamps)))
        return heatmaps.as_seen(k, network, found.relevance)

    whole = maps(x)
    np.testing.assert_array_equal(maps(x[1:2]), whole[1:2])
    np.testing.assert_array_equal(maps(np.rot90(x, axes=(1, 2))), np.roll(whole, -1, axis=1))


def test_blocks_of_other_sizes_have_graphs_of_their_own(monkeypatch):
    """As the last block of many stamps; and a program's maps are those of the cpu's way."""
    monkeypatch.setattr(heatmaps, "BATCH", 2)
    network, params, blocks = drawn(count=7, blocks=1)
    k, rules = emulated(), composites.named("alpha2beta1")
    asked = k, network, k.asarray(params), blocks[0], "lrp", rules
    given = targets.explained_classes(k, network.forward(k, params, blocks[0]), "predicted")
    found, same = (
        list(heatmaps.of_rotations(*asked, t)) for t in ("predicted", targets.OfClasses("predicted", given))
    )
    assert [len(maps) for _, maps in found] == [2, 2, 2, 1]
    for one, two in zip(found, same, strict=True):
        assert_same(one, two)


def test_without_memory_for_a_graph_blocks_go_launch_by_launch():
    network, params, blocks = drawn()
    asked = []

    def repeated(function):
        def refused(*_):
            asked.append(function)
            raise MemoryError

        return refused

    k, rules = replace(emulated(), repeated=repeated), composites.named("alpha2beta1")
    there = k.asarray(params)
    run = prepared(k, network, there, rules)
    for x in blocks:
        expected = relevance(k, network, there, k.asarray(x), rules)
        assert_same(on_host(k, run(k.asarray(x))), on_host(k, expected))
    assert len(asked) == 1  # and not again for every block


def test_logits_that_are_no_numbers_are_told_all_the_same():
    network, params, blocks = drawn()
    k = emulated()
    run = prepared(k, network, k.asarray(params), composites.named("alpha2beta1"))
    with pytest.raises(UserError, match="not numbers"):
        run(k.asarray(np.full_like(blocks[0], np.nan)))
    with pytest.raises(UserError, match="target 5 is not known"):
        prepared(k, network, k.asarray(params), composites.named("epsilon"), 5)(k.asarray(blocks[0]))
