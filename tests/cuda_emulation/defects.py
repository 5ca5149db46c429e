"""Defects that are seeded in the kernels, and which orders of threads notice each (schedule.h).

tests/test_cuda_defects.py runs them, and docs/cuda.md has the table that they make.
"""

from typing import NamedTuple

from cuda_emulation.device import ORDERS

EVERY = frozenset(ORDERS)
BY_WARPS = frozenset(ORDERS[3:])  # those that run a warp as far as it can go
NOT_FROM_THE_LAST = frozenset(
    {"forward", "random", "first warp"}
)  # the first warp reads what the others write


class Defect(NamedTuple):
    """`text` of a family's source with `other` in its place; the case that must notice, of CASES in
    tests/test_cuda.py or RUNS in tests/test_cuda_defects.py; and the orders of threads in which it does.

    `quick` ones, one of each kind, are run by default.
    """

    family: str
    text: str
    other: str
    case: str
    orders: frozenset[str] = EVERY
    quick: bool = False


DEFECTS = {
    # The products in float32 (tiles.cuh, conv2d.cu)
    "conv2d: no barrier for a tile": Defect(
        "conv2d",
        "        __syncthreads();\n        if (tile",
        "        if (tile",
        "conv2d_forward_64",
        quick=True,
    ),
    "conv2d: the next tile over this one": Defect(
        "conv2d", "store(side ^ 1);", "store(side);", "conv2d_forward_32"
    ),
    "conv2d: the halo's column too far": Defect(
        "conv2d",
        "(unsigned)column < (unsigned)t.width",
        "(unsigned)column <= (unsigned)t.width",
        "conv2d_forward_32",
    ),
    "conv2d: a tap too far": Defect(
        "conv2d",
        "row = y[r] + t.step * tap.i",
        "row = y[r] + 1 + t.step * tap.i",
        "conv2d_forward_32",
        quick=True,
    ),
    "conv2d: a lane's last number is the third": Defect(
        "conv2d",
        "as[side][4 * quad + 3][at] = v.w;",
        "as[side][4 * quad + 3][at] = v.z;",
        "conv2d_backward_input_8",
    ),
    "conv2d: weights of the wrong lane": Defect(
        "conv2d",
        "b[t % 4 * 4 + 1][t / 4] = v.y;",
        "b[t % 4 * 4 + 1][t / 4 ^ 1] = v.y;",
        "conv2d_backward_input_32",
    ),
    # z+ and z-, R (conv2d.cu, shares.cu, targets.cu)
    "contributions: no barrier between two products": Defect(
        "conv2d",
        "return MORE && __syncthreads_or(below);",
        "return MORE && below;",
        "conv2d_contributions_64",
    ),
    "redistribute: no barrier between two products": Defect(
        "conv2d",
        "return MORE && __syncthreads_or(below);",
        "return MORE && below;",
        "conv2d_redistribute_64",
        quick=True,
    ),
    "contributions: the negative x left out": Defect(
        "conv2d",
        "if (of_a == POSITIVE) below |=",
        "if (of_a == NEGATIVE) below |=",
        "one negative x",
    ),
    "contributions: each thread asks for its own negative x": Defect(
        "conv2d",
        "return MORE && __syncthreads_or(below);",
        "__syncthreads();\n    return MORE && below;",
        "one negative x",
    ),
    "contributions: the bias on the wrong side": Defect(
        "conv2d",
        "side ? negative(bias) : positive(bias)",
        "side ? positive(bias) : negative(bias)",
        "conv2d_contributions_32",
    ),
    "redistribute: x of the other sign": Defect(
        "conv2d",
        "if ((x[at] < 0.0f) == side) r[at]",
        "if ((x[at] < 0.0f) != side) r[at]",
        "conv2d_redistribute_8",
    ),
    "epilogue: the window across": Defect(
        "conv2d", "(place / 2 * q + place % 2) * o;", "(place % 2 * q + place / 2) * o;", "conv2d_epilogue"
    ),
    "epilogue: an odd last row is in a window": Defect(
        "conv2d", "place = row < 2 * down && column", "place = column", "conv2d_epilogue_backward"
    ),
    "sums: the halo's row too far": Defect(
        "conv2d", "row + i >= height) continue;", "row + i > height) continue;", "conv2d_sums"
    ),
    "shares: the side that is not there": Defect(
        "shares",
        "conserve && z_neg[i] == 0.0f ? 1.0f : to_pos",
        "conserve && z_pos[i] == 0.0f ? 1.0f : to_pos",
        "shares_apart",
    ),
    "targets: the runner-up may be the class itself": Defect(
        "targets",
        "what == 3 ? largest_of(logits, classes, chosen)",
        "what == 3 ? largest_of(logits, classes, -1)",
        "targets_relevance",
    ),
    # Tensor cores, general sizes (tensor.cuh, conv2d_tf32.cu)
    "tf32: no barrier for a tile": Defect(
        "conv2d_tf32",
        "        __syncthreads();\n        if (more) fetch();",
        "        if (more) fetch();",
        "conv2d_forward_tf32_64",
        quick=True,
    ),
    "tf32: no barrier before the sums lie over the tiles": Defect(
        "conv2d_tf32",
        "(column ^ row / 2 % 4 * 8); };\n    __syncthreads();",
        "(column ^ row / 2 % 4 * 8); };",
        "conv2d_backward_input_tf32_64",
        BY_WARPS,
    ),
    "tf32: no barrier before the sums are read": Defect(
        "conv2d_tf32",
        "    __syncthreads();\n    forget(c);",
        "    forget(c);",
        "conv2d_backward_input_tf32_32",
    ),
    "tf32: sums of the wrong lane": Defect(
        "conv2d_tf32",
        "place(top + j * 8 + e % 2, left",
        "place(top + j * 8 + (e + 1) % 2, left",
        "conv2d_backward_input_tf32_32",
    ),
    "tf32: rows of the wrong window": Defect(
        "conv2d_tf32", "(t.pool == 1 ? 2 : 4) * l", "2 * l", "conv2d_forward_tf32_64"
    ),
    # Gradients (gradients.cuh, conv2d_gradients.cu)
    "gradients in tf32: no barrier for a tile": Defect(
        "conv2d_tf32",
        "        __syncthreads();\n        if (more) fetch(m",
        "        if (more) fetch(m",
        "conv2d_gradients_tf32_64",
    ),
    "gradients: no barrier for a tile": Defect(
        "conv2d_gradients",
        "        __syncthreads();\n        if (m",
        "        if (m",
        "conv2d_gradients_64",
        quick=True,
    ),
    "gradients: one row too few": Defect(
        "conv2d_gradients", "m >= last", "m >= last - 1", "conv2d_gradients_32"
    ),
    "gradients: shared memory read before it is written": Defect(
        "conv2d_gradients", "    store(0);\n", "", "conv2d_gradients_64", quick=True
    ),
    "gradients: db read before it is written": Defect(
        "conv2d_gradients",
        "t.bias);\n    __syncthreads();",
        "t.bias);",
        "conv2d_gradients_32",
    ),
    "gradients: no barrier in their sum": Defect(
        "conv2d_gradients",
        "    __syncthreads();\n    if (warp > 0",
        "    if (warp > 0",
        "conv2d_gradients_sum",
        NOT_FROM_THE_LAST,
    ),
    # Dense layers (dense.cu)
    "dense: no barrier before the warps' sums": Defect(
        "dense", "    __syncthreads();\n    float sum", "    float sum", "dense_forward", quick=True
    ),
    "dense: z- over z+": Defect(
        "dense", "sum_over_warps(second, of_neg)", "sum_over_warps(second, of_pos)", "dense_contributions"
    ),
    "dense: the last of a warp's part left out": Defect(
        "dense", "k < stop; ++k", "k < stop - 1; ++k", "dense_forward"
    ),
    "dense: sums of the wrong warp": Defect(
        "dense", "sum += all[other][warp][lane];", "sum += all[other][warp ^ 1][lane];", "dense_forward"
    ),
    # One thread an element
    "pooling: an odd last row is in a window": Defect(
        "pool2d",
        "if (at.y < p * size && at.x < q * size) {\n            const size_t above",
        "{\n            const size_t above",
        "pool2d_max_backward",
    ),
    "pooling: the window across": Defect(
        "pool2d",
        "if (place == 0 || beats(value, best)) best = value, winner = place;",
        "if (place == 0 || beats(value, best)) best = value, winner = place % size * size + place / size;",
        "pool2d_max_forward",
    ),
    "padding: the halo's column too far": Defect(
        "pool2d", "at.x >= 0 && at.x < width;", "at.x >= 0 && at.x <= width;", "pool2d_zero_pad"
    ),
    "rotations: a turn the wrong way": Defect(
        "cyclic", "(direction * k) & 3", "(-direction * k) & 3", "cyclic_turn"
    ),
    "rotations: an element not written": Defect(
        "cyclic", "EACH(i, size) y[i] = sum", "EACH(i, size - 1) y[i] = sum", "cyclic_mean", quick=True
    ),
    "loss: blocks that add to one number": Defect(
        "softmax",
        "weight, n, classes);\n    }",
        "weight, n, classes);\n        dz[0] += dz[at];\n    }",
        "softmax_cross_entropy",
        quick=True,
    ),
    # Scoring's dense layers (head.cu)
    "head: no barrier before the warps' sums": Defect(
        "head", "parts);\n    __syncthreads();\n", "parts);\n", "head"
    ),
    "head: no barrier before the second layer": Defect(
        "head", "        z[e] = 0.0f;\n    }\n    __syncthreads();\n", "        z[e] = 0.0f;\n    }\n", "head"
    ),
    "head: no barrier before the mean": Defect(
        "head",
        "activated(z[e] + b2[unit(e)], slope);\n    __syncthreads();",
        "activated(z[e] + b2[unit(e)], slope);",
        "head",
    ),
    "head: no barrier after the mean": Defect(
        "head",
        "+ of[3 * WIDE])) / 4.0f;\n        }\n        __syncthreads();",
        "+ of[3 * WIDE])) / 4.0f;\n        }",
        "head",
    ),
    "head: the last warp's sum left out": Defect(
        "head", "for (int w = 0; w < WARPS; ++w) z[e]", "for (int w = 0; w < WARPS - 1; ++w) z[e]", "head"
    ),
    "head: the wrong rotations' mean": Defect(
        "head", "(of[0] + of[2 * WIDE]) + (of[WIDE]", "(of[0] + of[WIDE]) + (of[2 * WIDE]", "head"
    ),
    "head: a lane's words in the wrong order": Defect(
        "head", "{u.x, v.x, u.y, v.y}", "{u.x, v.x, u.z, v.z}", "head"
    ),
}
