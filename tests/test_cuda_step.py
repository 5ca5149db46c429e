"""Training steps of CAP and Deep-HiTS in few kernels (kernels/cuda/step.py) on the emulated GPU."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from cuda_emulation.device import ORDERS, EmulatedDevice, emulated
from test_cuda import needs_emulator
from test_cuda_chain import ON_SM_86

from rotinv.kernels.cuda import conv2d, launch, step
from rotinv.nn import architectures
from rotinv.nn.devices import cuda_kernels
from rotinv.runs import steps

pytestmark = needs_emulator
WEIGHT = [1.0, 2.5]  # of the classes' losses
PASSES = "forward", "backward_input", "gradients"


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    """Few blocks for the gradients of the convolutions, so that each goes through several tiles."""
    monkeypatch.setattr(step, "_BLOCKS", (2, 3, 1, 1, 2))


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
@pytest.mark.parametrize("c, map_size", [(8, None), (6, None), (36, (9, 9)), (5, (8, 9)), (70, (9, 8))])
def test_dz_of_the_layer_below_is_written_at_once(precision, c, map_size):
    """With the bits of two kernels, one after the other; of maps whose odd last line no window has, too."""
    rng, n, side, slope = np.random.default_rng(0), 2, 4, 0.1
    on = EmulatedDevice(precision)
    dz, w, y = (
        on.asarray(rng.normal(size=size)) for size in ((n, side, side, 7), (3, 3, c, 7), (n, side, side, c))
    )
    index = None if map_size is None else on._moved(rng.integers(0, 4, y.shape), np.uint8)
    map_size = map_size or (side, side)
    dx = conv2d.backward_input(on, dz, w, 1, y.shape)
    expected = conv2d.epilogue_backward(on, dx, y, index, slope, (n, *map_size, c))
    below = conv2d.Below(y, index, slope, map_size)
    for on.order in ORDERS:
        np.testing.assert_array_equal(conv2d.backward_input(on, dz, w, 1, y.shape, below), expected)


class Listing(EmulatedDevice):
    """An emulated GPU in tf32 that lists its launches."""

    def __init__(self):
        super().__init__("tf32")
        self.launches = []

    def launch(self, name, *args, **more):
        self.launches.append(name)
        super().launch(name, *args, **more)


class Training:
    """A network with weights, stamps and labels."""

    def __init__(self, arch, size, channels, stamps, **more):
        self.network = architectures.build(arch, size, channels, **more)
        self.params = np.float32(self.network.initial("he", 1))
        self.x = np.float32(np.random.default_rng(2).uniform(size=(stamps, *self.network.in_shape)))
        self.label = np.arange(stamps) % 2

    def step(self, on, in_few_kernels=True, rate=1.0, params=None):
        """The loss of each stamp, and what a step takes from the parameters."""
        k = cuda_kernels("cuda-emulated", on)
        k = k if in_few_kernels else replace(k, step=None)
        after = k.asarray((self.params if params is None else params).copy())
        parts = k, self.network, after, k.zeros((self.network.size,)), k.asarray(WEIGHT), 0
        loss = steps.one(*parts, k.asarray(self.x), k.asindex(self.label), 3, 4, rate)
        return k.to_host(loss), k.to_host(after) - self.params


def launches(arch, size):
    """Those of a step: 9 of stamps of 21x21, and 20 of others, whose gradients are a launch a layer."""
    middle = "step_head_middle_mean" if arch == "cap" else "step_head_middle_concat"
    head = "step_head_first", middle, "step_head_gradients"
    if size == 21:
        before, after = (
            ("chain_pack_tf32", "step_forward"),
            ("chain_pack_backward", "step_backward", "step_gradients"),
        )
        return [*before, *head, *after, "step_update"]
    wide, narrow = ([f"conv2d_{passed}_tf32_{columns}" for passed in PASSES] for columns in (64, 32))
    before = "pool2d_zero_pad", "cyclic_turn", *2 * narrow[:1], *3 * wide[:1]
    after = *2 * wide[1:2], *2 * narrow[1:2], *2 * narrow[2:], *3 * wide[2:]
    return [*before, *head, *after, "step_update"]


@pytest.mark.parametrize(
    "arch, size, channels, stamps", [("cap", 21, 3, 1), ("deephits", 21, 4, 1), ("deephits-relu", 15, 2, 2)]
)
def test_a_step_is_that_of_the_layers_one_by_one(arch, size, channels, stamps):
    """In every order of threads. Of the dense layers other products are rounded to tf32 here than there."""
    of, on = Training(arch, size, channels, stamps), Listing()
    loss, grads = of.step(on, in_few_kernels=False)
    on.launches.clear()
    found = of.step(on)
    assert on.launches == ["fill", *launches(arch, size)]  # before the step its gradients are cleared
    np.testing.assert_allclose(found[0], loss, rtol=0, atol=2e-3 * loss.max())
    pairs = zip(*map(of.network.views, (found[1], grads)), strict=True)
    for one, other in ((p[name], q[name]) for p, q in pairs for name in p):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-3 * np.abs(other).max())
    for on.order in ORDERS[1:]:
        for one, other in zip(of.step(on), found, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_gpu_of_small_blocks_gives_the_same_bits(channels):
    """sm_86 and sm_89 have half of the shared memory."""
    of, small = Training("cap", 21, channels, 1), EmulatedDevice("tf32", most_shared=ON_SM_86)
    for one, other in zip(of.step(small), of.step(EmulatedDevice("tf32")), strict=True):
        np.testing.assert_array_equal(one, other)
    own = {"step_forward_small", "step_backward_small", "step_gradients_one_buffer"}
    assert own <= small.launched and not small.launched & {"step_forward", "step_backward", "step_gradients"}


@pytest.mark.parametrize("size", [13, 21])
def test_a_loss_depends_on_its_stamp_only(size):
    """Turned, and anywhere in a batch, it has the same bits; a stamp with NaN has NaN, and so has a step."""
    of, on = Training("cap", size, 1, 2, dropout=0.0), EmulatedDevice("tf32")
    loss, _ = of.step(on)
    of.x[0], of.x[1] = np.rot90(of.x[1]), of.x[0].copy()
    of.label = of.label[::-1]
    moved, _ = of.step(on)
    np.testing.assert_array_equal(moved, loss[::-1])
    of.x[1, 2, 2, 0] = np.nan
    loss, grads = of.step(on)
    assert np.isnan(loss).tolist() == [False, True]
    assert all(np.isnan(p["w"]).any() for p in of.network.views(grads) if p)


def test_which_networks_take_their_steps_so():
    def takes(network, k):
        return k.step is not None and k.step.takes(network.form)

    k = emulated("tf32")
    assert all(takes(architectures.build(arch), k) for arch in ("cap", "deephits", "deephits-relu"))
    assert takes(architectures.build("cap", 63, 5, classes=64), k)
    assert not takes(architectures.build("cap", classes=65), k)
    assert not takes(architectures.build("cap-mini"), k) and not takes(architectures.build("cap"), emulated())
    layers = [layer for layer in architectures.build("cap").layers if layer.name != "dropout"]
    assert not takes(architectures.Network(layers, (21, 21, 4)), k)


@pytest.mark.parametrize("filters", [5, 8])
def test_a_network_of_any_number_of_filters_takes_a_step(filters):
    """Weights that do not lie at multiples of 16 bytes are not read by 16 bytes; a GPU would refuse to."""
    of = Training("cap", 13, 1, 1)
    layers = list(of.network.layers)
    layers[2] = replace(layers[2], filters=filters)
    of.network = architectures.Network(layers, of.network.in_shape)
    of.params, on = np.float32(of.network.initial("he", 1)), Listing()
    loss, grads = of.step(on)
    assert ("step_update" in on.launches) == (filters == 8)
    expected, _ = of.step(on, in_few_kernels=False)
    np.testing.assert_allclose(loss, expected, rtol=0, atol=2e-3 * expected.max())
    assert np.isfinite(grads).all() and grads.any()


def test_no_bank_of_shared_memory_is_met_twice():
    """But where a block adds up db, once, and in the stores of the second layer's pooling. Where lanes part,
    as at the end of the first layer's cells, the count is not exact."""
    of, on = Training("cap", 21, 4, 1), EmulatedDevice("tf32")
    counts = {}

    def count(family, run):
        counts[family] = on.counted(family, run)

    run = partial(of.step, on)
    for family in ("step_chain", "step_gradients", "step_head"):
        run = partial(count, family, run)
    run()
    assert len(counts) == 3 and all(counts.values())
    for family, of_lines in counts.items():
        lines = launch.source(family).splitlines()
        for line, count_of in of_lines.items():
            not_exact = any(text in lines[line - 1] for text in ("parts + thread", "at + e * 16"))
            pooling = 4 * 144 if "store_two_words(map" in lines[line - 1] else 0
            assert count_of.found <= count_of.least + pooling or not_exact, (lines[line - 1], count_of)
