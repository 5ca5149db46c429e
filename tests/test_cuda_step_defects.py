"""Seeded defects in the kernels of a training step, and which orders of threads notice each.

Orders 1 to 3 let all warps advance together; the last two run a warp as far as it can go, so that they alone
notice some races between warps.
"""

import numpy as np
import pytest
from cuda_emulation.defects import BY_WARPS, EVERY, NOT_FROM_THE_LAST
from cuda_emulation.seeded import noticed_by
from test_cuda import needs_emulator

from rotinv.kernels.cuda import chain, conv2d, step, step_chain
from rotinv.nn import architectures

pytestmark = needs_emulator


def drawn(on, *shapes, seed=3):
    rng = np.random.default_rng(seed)
    return [on.asarray(rng.normal(size=shape)) for shape in shapes]


def winners(on, shape):
    return on._moved(np.random.default_rng(4).integers(0, 4, shape), np.uint8)


def weights_of(network):
    params = np.float32(network.initial("he", 1))
    return [(p["w"], p["b"]) for p in network.views(params) if p]


def forward(on):
    """One rotation of a stamp of four channels."""
    weights = weights_of(architectures.build("cap"))
    (x,) = drawn(on, (1, 21, 21, 4))
    packed, biases = chain.pack(on, weights[:5], 4, 1)
    sides = (27, 4), (24, 32), (12, 32), (12, 64), (12, 64), (6, 64)
    maps = [on.empty((side, side, channels)) for side, channels in sides]
    index = [on.empty(maps[i].shape, np.uint8) for i in (2, 5)]
    on.launch(
        "step_forward", 1, 192, x, packed, biases, *maps, *index, 0.0, 4, 1, shared=step_chain._KINDS[0][1]
    )
    return [*maps, *index]


def backward(on):
    """One image, with drawn maps."""
    weights = weights_of(architectures.build("cap"))
    sizes = (24, 24, 32), (12, 12, 32), (12, 12, 64), (12, 12, 64)
    convolved = [(None, y, None, y.shape[1:3]) for y in drawn(on, *((1, *size) for size in sizes))]
    convolved[1] = (None, convolved[1][1], winners(on, (1, 12, 12, 32)), (24, 24))
    (dz,) = drawn(on, (1, 12, 12, 64), seed=5)
    return step_chain.backward(on, 0.01, dz, weights, [*convolved, None])[:4]


def head(on):
    """Nine stamps, whose last maps have an odd line that no window has."""
    network, n = architectures.build("cap", 15, 1), 9
    y, (label, weight) = drawn(on, (4 * n, 4, 4, 64))[0], (np.arange(n) % 2, [1.0, 2.5])
    weights = [(on.asarray(w), on.asarray(b)) for w, b in weights_of(network)[5:]]
    last = step._Convolved(None, y, winners(on, y.shape), (9, 9))
    partials = [on.empty((times, w.size + b.size)) for times, (w, b) in zip((1, 3, 3), weights, strict=True)]
    numbers = on.number(3, np.uint64), on.number(4, np.uint64)
    given = weights, partials, on.asindex(label), on.asarray(weight), *numbers
    return [*step._head(on, network.form, last, *given), *partials]


def update(on):
    """Layers of few partial sums and of many."""
    counts, splits = (40, 300, 5, 7, 33, 2, 64, 3), (9, 2, 1, 20, 8, 7, 3, 12)
    partial, params = drawn(on, (sum(np.multiply(counts, splits)),), (sum(counts),))
    blocks = sum(map(step._update_blocks, counts, splits))
    on.launch("step_update", blocks, 256, partial, on.asarray([0.5]), params, *counts, *splits)
    return [params]


def dz_below(on):
    """Of a layer that pools maps of 9x9."""
    dz, w, y = drawn(on, (2, 4, 4, 8), (3, 3, 36, 8), (2, 4, 4, 36))
    below = conv2d.Below(y, winners(on, y.shape), 0.1, (9, 9))
    return [conv2d.backward_input(on, dz, w, 1, y.shape, below)]


def gradients(on):
    """Two images, with drawn maps."""
    weights, sides = weights_of(architectures.build("cap", channels=1))[:5], (27, 24, 12, 12, 12)
    inputs = drawn(on, *((2, side, side, w.shape[2]) for side, (w, _) in zip(sides, weights, strict=True)))
    outputs = drawn(
        on, *((2, side, side, len(b)) for side, (_, b) in zip((24, *sides[1:]), weights, strict=True))
    )
    convolved = [step._Convolved(x, None, None, None) for x in inputs]
    splits = [blocks * parts for blocks, parts in zip(step._blocks(2), step._PARTS, strict=True)]
    partials = [on.empty((times, w.size + b.size)) for times, (w, b) in zip(splits, weights, strict=True)]
    step._all_gradients(on, convolved, outputs, partials)
    return partials


STAGE = "        wait_for_copies<SLOTS - 2>();\n        __syncthreads();\n"
READ = "            __syncthreads();  // all have read the map that is now overwritten\n"
# By kernel and defect: the source's family, a text, what stands in its place, and the orders that notice.
DEFECTS = {
    (forward, "no barrier at a stage"): ("step_chain", STAGE, STAGE.split("\n")[0] + "\n", EVERY),
    (forward, "no barrier before the map covers the stamp"): (
        "step_chain",
        "            __syncthreads();  // all have read the stamp that is now overwritten\n",
        "",
        BY_WARPS,
    ),
    (forward, "no barrier before the first map is overwritten"): (
        "step_chain",
        READ + "            keep",
        "            keep",
        BY_WARPS,
    ),
    (forward, "no barrier before a later map is overwritten"): (
        "step_chain",
        "        __syncthreads();  // as above\n        const",
        "        const",
        BY_WARPS,
    ),
    (forward, "of like pixels the last wins"): (
        "step_chain",
        "other_pixel < my_pixel ? !beats(mine, other) : beats(other, mine)",
        "other_pixel > my_pixel ? !beats(mine, other) : beats(other, mine)",
        EVERY,
    ),
    (forward, "the winner of one column"): ("step_chain", "kept.join(given.of_lane_xor(4));", "", EVERY),
    (forward, "a layer's map in another's place"): (
        "step_chain",
        "layer == 3 ? y3 : y4",
        "layer == 4 ? y3 : y4",
        EVERY,
    ),
    (backward, "no barrier at a stage"): ("step_chain", STAGE, STAGE.split("\n")[0] + "\n", EVERY),
    (backward, "no barrier before a map is overwritten"): (
        "step_chain",
        READ + "            const float* const y",
        "            const float* const y",
        {"last warp"},  # the last tap reads to the right of what its warp writes
    ),
    (backward, "no barrier before the map is un-pooled"): (
        "step_chain",
        "        __syncthreads();  // as above\n        clear",
        "        clear",
        BY_WARPS,
    ),
    (backward, "a border that keeps the smaller map"): (
        "step_chain",
        "        clear_borders_24<Tf32>(map);\n",
        "",
        EVERY,
    ),
    (backward, "a window's pixels in columns"): (
        "step_chain",
        "2 * row + place / 2",
        "2 * row + place % 2",
        EVERY,
    ),
    (backward, "the mask of the layer above"): (
        "step_chain",
        "(layer == 5 ? y4 : y3)",
        "(layer == 5 ? y3 : y4)",
        EVERY,
    ),
    (backward, "a stage is sent before all are done with its slot"): (
        "step_chain",
        "        __syncthreads();\n        send();\n",
        "        send();\n        __syncthreads();\n",
        BY_WARPS,
    ),
    (backward, "a stage too many at a time"): (
        "step_chain",
        "weights + s * (STAGE / 2), BLOCK_32);\n            }\n        }\n        __sync",
        "weights, BLOCK_32);\n            }\n        }\n        __sync",
        EVERY,
    ),
    (head, "no barrier before the warps' sums are added"): (
        "step_head",
        "    __syncthreads();\n    for (int e = threadIdx.x; e < FIRST_ROWS",
        "    for (int e = threadIdx.x; e < FIRST_ROWS",
        EVERY,
    ),
    (head, "no barrier before the second layer"): (
        "step_head",
        "        first[r][o] = z;\n    }\n    __syncthreads();\n",
        "        first[r][o] = z;\n    }\n",
        EVERY,
    ),
    (head, "no barrier before the mean becomes its gradient"): (
        "step_head",
        "    __syncthreads();\n    mean[top][o] = dmean",
        "    mean[top][o] = dmean",
        EVERY,
    ),
    (head, "no barrier before the next rows"): (
        "step_head",
        "        __syncthreads();  // all are done with the rows before\n",
        "",
        BY_WARPS,
    ),
    (head, "stamps that there are not have a loss"): (
        "step_head",
        "            for (int c = 0; c < classes; ++c) dz3[s][c] = 0.0f;",
        "            ;",
        EVERY,
    ),
    (head, "an odd last line that is not written"): (
        "step_head",
        "line + 1 < height ? 2 : map_height - 2 * line",
        "2",
        EVERY,
    ),
    (head, "the neighbour's winner"): ("step_head", "place == winner1", "place == winner0", EVERY),
    (head, "operands that are not rounded"): (
        "step_head",
        "store4(&ds[e / 16][e % 16 * 4], rounded4(next_dz[i]));",
        "store4(&ds[e / 16][e % 16 * 4], next_dz[i]);",
        EVERY,
    ),
    (update, "no barrier before the warps' sums are added"): (
        "step_update",
        "        __syncthreads();\n        if (warp",
        "        if (warp",
        NOT_FROM_THE_LAST,
    ),
    (update, "a partial sum too few"): ("step_update", "split < splits;", "split < splits - 1;", EVERY),
    (update, "a layer's parameters in another's place"): (
        "step_update",
        "        to += counts[layer];\n",
        "",
        EVERY,
    ),
    (dz_below, "no barrier before the tile is overwritten"): (
        "conv2d_tf32",
        "    __syncthreads();\n#pragma unroll\n    for (int i = 0; i < 2; ++i)",
        "#pragma unroll\n    for (int i = 0; i < 2; ++i)",
        BY_WARPS,
    ),
    (dz_below, "no barrier before the sums are taken"): (
        "conv2d_tf32",
        "    __syncthreads();\n    forget(c);",
        "    forget(c);",
        EVERY,
    ),
    (dz_below, "a window's pixels in columns"): (
        "conv2d_tf32",
        "winner[e] == 2 * i + j",
        "winner[e] == 2 * j + i",
        EVERY,
    ),
    (dz_below, "an odd last line that is not written"): (
        "conv2d_tf32",
        "line + 1 < height ? 2 : map_height - 2 * line",
        "2",
        EVERY,
    ),
    (gradients, "no wait for the copies"): ("step_gradients", "        wait_for_copies<0>();\n", "", EVERY),
    (gradients, "one group of copies too few"): (
        "step_gradients",
        "wait_for_copies<0>",
        "wait_for_copies<1>",
        EVERY,
    ),
    (gradients, "no barrier for a tile"): (
        "step_gradients",
        "        __syncthreads();  // all see the tile, and with two buffers are done with the one before\n",
        "",
        EVERY,
    ),
    (gradients, "the next tile over this one"): (
        "step_gradients",
        "fetch(tile + blocks, side ^ 1);",
        "fetch(tile + blocks, side);",
        EVERY,
    ),
    (gradients, "the next tile before all are done with the one before"): (
        "step_gradients",
        """        __syncthreads();  // all see the tile, and with two buffers are done with the one before
        if (BUFFERS == 2) fetch(tile + blocks, side ^ 1);
""",
        "        if (BUFFERS == 2) fetch(tile + blocks, side ^ 1);\n        __syncthreads();\n",
        BY_WARPS,
    ),
    (gradients, "a border that is not zeros"): (
        "step_gradients",
        "column == 0 || column == PITCH - 1",
        "column == 0",
        EVERY,
    ),
    (gradients, "a half without its neighbour"): (
        "step_gradients",
        "row >= 0 && row < WIDTH",
        "row > 0 && row < WIDTH",
        EVERY,
    ),
    (gradients, "db of the wrong threads"): (
        "step_gradients",
        "slab / 2 * 8 + of_eight",
        "slab / 2 * 8 + 1 + of_eight",
        EVERY,
    ),
    (gradients, "operands that are not rounded"): (
        "step_gradients",
        "store_four_words(at + cell(e), rounded_words(v));",
        "",
        EVERY,
    ),
}


@pytest.mark.parametrize(
    "kernel, name",
    [
        pytest.param(*key, marks=() if "warps' sums" in key[1] and key[0] is update else pytest.mark.slow)
        for key in DEFECTS
    ],
)
def test_which_orders_of_threads_notice_a_defect(kernel, name, monkeypatch):
    monkeypatch.setattr(step, "_BLOCKS", (1, 1, 1, 1, 1))
    family, text, other, orders = DEFECTS[kernel, name]
    assert noticed_by(family, text, other, kernel, "tf32") == orders
