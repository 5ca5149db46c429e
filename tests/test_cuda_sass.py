"""The machine code that NVRTC makes of the kernels that multiply on tensor cores (kernels/cuda/sass.py)."""

import functools
import re

import pytest
from test_cuda import made, needs_nvrtc, resources

from rotinv.kernels.cuda import chain, launch, sass

pytestmark = [
    needs_nvrtc,
    pytest.mark.skipif(sass.disassembler() is None, reason="nvdisasm is not installed (extra cuda-check)"),
]
# Of each kernel how many inner loops have tensor-core products, and the least share of these among the
# instructions of each.
LOOPS = {
    "chain": {"chain_fp16": (2, 0.6), "chain_fp16_one": (2, 0.4), "chain_tf32": (3, 0.4)},
    "step_chain": {
        **{f"step_forward{small}": (3, 0.45) for small in ("", "_small")},
        **{f"step_backward{small}": (3, 0.4) for small in ("", "_small")},
    },
    "step_gradients": {f"step_gradients{one}": (5, 0.3) for one in ("", "_one_buffer")},
    "head": {f"head_{what}_{kind}": (1, 0.15) for what in ("mean", "concat") for kind in ("fp16", "tf32")},
}
# Kernels that memory bounds, or of general sizes: addresses are most of their loops. Their products in all.
PRODUCTS = {
    "step_head": {"step_head_first": 64, "step_head_gradients": 32},
    "conv2d_tf32": {
        f"conv2d_{what}_tf32_{columns}": 16 if (what, columns) == ("gradients", 32) else 32
        for what in ("forward", "backward_input", "gradients")
        for columns in (32, 64)
    },
}


@functools.cache
def instructions(family):
    return sass.instructions(made(family, "sm_90").cubin)


@pytest.mark.parametrize(
    "family, kernel", [(family, kernel) for family, of in LOOPS.items() for kernel in of]
)
def test_the_inner_loops_are_mostly_products(family, kernel):
    many, share = LOOPS[family][kernel]
    found = sass.inner_loops(*instructions(family)[kernel])
    assert len(found) == many
    for count in found:
        assert count["HMMA"] >= share * sum(count.values()), count
        assert count["LDSM"] or count["LDS"] or count["LDG"]


@pytest.mark.parametrize("family", PRODUCTS)
def test_products_are_on_tensor_cores(family):
    found = {kernel: sass.opcodes(rows)["HMMA"] for kernel, (rows, _) in instructions(family).items()}
    assert {kernel: count for kernel, count in found.items() if count} == PRODUCTS[family]


@pytest.mark.parametrize("family", [*LOOPS, *PRODUCTS, "step_update"])
def test_no_register_goes_to_local_memory(family):
    assert instructions(family).keys() == launch.declarations(family).keys()
    for kernel, (rows, _) in instructions(family).items():
        counted = sass.opcodes(rows)
        assert counted["LDL"] == counted["STL"] == 0, kernel


@pytest.mark.parametrize("family", ["chain", "head"])
def test_two_blocks_fit_a_multiprocessor_where_they_are_meant_to(family):
    """Of registers and, of the chain on sm_90, of shared memory: a block takes 1 KB beside its own."""
    asked = re.findall(r"__launch_bounds__\((\d+), 2\)\s*(\w+)", launch.source(family))
    rows = {row.kernel: row for row in resources(family, "sm_90")}
    assert asked
    for threads, kernel in asked:
        assert -(-rows[kernel].registers // 8) * 8 * int(threads) * 2 <= 65536
    for kernels in chain._KERNELS.values():
        assert all(2 * (shared + 1024) <= 228 * 1024 for _, _, shared in kernels)
