"""Gradients with all taps in one block (conv2d_gradients_whole.cu) on the emulated GPU."""

import numpy as np
import pytest
from cuda_emulation.device import ORDERS, EmulatedDevice, EmulationError
from test_cuda import PRECISION, needs_emulator

from rotinv.kernels.cuda import conv2d, launch
from rotinv.nn.devices import get_kernels

pytestmark = needs_emulator
FAMILY = "conv2d_gradients_whole"
IMAGES = 5


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    """Two blocks for five images: each has one on its way while it multiplies another."""
    monkeypatch.setattr(conv2d, "_WHOLE_BLOCKS", 2)


def drawn(c):
    rng = np.random.default_rng(5)
    return (np.float32(rng.normal(size=(IMAGES, 12, 12, channels))) for channels in (c, 64))


def gradients(on, x, dz):
    dw, db = on.empty((3, 3, x.shape[3], 64)), on.empty((64,))
    conv2d.backward_params(on, on.asarray(x), on.asarray(dz), 1, dw, db)
    return dw, db


@pytest.mark.parametrize("c", [32, 64])
def test_gradients_of_several_images_a_block_in_every_order(c):
    x, dz = drawn(c)
    exact = np.empty((3, 3, c, 64)), np.empty(64)
    get_kernels("reference").conv2d.backward(
        np.float64(x), np.zeros((3, 3, c, 64)), np.float64(dz), None, np.float64(dz), 1, 1.0, *exact, False
    )
    on, first = EmulatedDevice("tf32"), None
    for on.order in ORDERS:
        found = gradients(on, x, dz)
        first = first or found
        for one, same in zip(found, first, strict=True):
            np.testing.assert_array_equal(one, same)
    assert f"{FAMILY}_{c}" in on.launched
    np.testing.assert_allclose(first[0], exact[0], rtol=0, atol=PRECISION["tf32"] * np.abs(exact[0]).max())
    np.testing.assert_allclose(first[1], exact[1], rtol=0, atol=1e-5 * np.abs(exact[1]).max())  # not rounded


def test_other_sizes_and_smaller_gpus_take_the_general_kernel():
    x, dz = drawn(64)
    for on in (EmulatedDevice("tf32", most_shared=163 * 1024), EmulatedDevice("fp32")):
        gradients(on, x, dz)
        assert not any("whole" in name for name in on.launched)
    assert not conv2d._fits_whole(EmulatedDevice("tf32"), x[:, :11], dz, 1, np.empty((3, 3, 64, 64)))


@pytest.mark.parametrize("c", [32, 64])
def test_no_bank_of_shared_memory_is_met_twice(c):
    on, (x, dz) = EmulatedDevice("tf32"), drawn(c)
    lines = launch.source(FAMILY).splitlines()
    counts = on.counted(FAMILY, lambda: gradients(on, x, dz))
    assert sum("load_word" in lines[line - 1] for line in counts) >= 2
    for line, count in counts.items():
        assert count.found == count.least or "parts + thread" in lines[line - 1], (lines[line - 1], count)


# As in test_cuda_chain.py.
EVERY, BY_WARPS = set(ORDERS), set(ORDERS[3:])
DEFECTS = {
    "no wait for the copies": ("        wait_for_copies<0>();\n", "", EVERY),
    "one group of copies too few": ("wait_for_copies<0>", "wait_for_copies<1>", EVERY),
    "no barrier for an image": (
        "        __syncthreads();  // all see the image, and are done with the one before\n",
        "",
        EVERY,
    ),
    "the next image over this one": (
        "fetch(image + gridDim.x, side ^ 1);",
        "fetch(image + gridDim.x, side);",
        EVERY,
    ),
    "a border that is not zeros": ("column == 0 || column == 13)", "column == 0)", EVERY),
    "db of the wrong threads": ("slab / 2 * 8 + of_eight", "slab / 2 * 8 + 1 + of_eight", EVERY),
    "operands that are not rounded": ("store_four_words(cell, rounded_words(v));", "", EVERY),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_which_orders_of_threads_notice_a_defect(name):
    text, other, orders = DEFECTS[name]
    x, dz = drawn(32)
    right, source = gradients(EmulatedDevice("tf32"), x, dz), launch.source(FAMILY)
    assert source.count(text) == 1
    on, noticed = EmulatedDevice("tf32", changed={FAMILY: source.replace(text, other)}), set()
    for on.order in ORDERS:
        try:
            found = gradients(on, x, dz)
        except EmulationError:
            noticed.add(on.order)
            continue
        if not all(map(np.array_equal, found, right)):
            noticed.add(on.order)
    assert noticed == orders
