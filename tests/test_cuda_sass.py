"""The machine code that NVRTC makes of the kernels that score depth first (kernels/cuda/sass.py)."""

import re

import pytest
from test_cuda import needs_nvrtc, resources

from rotinv.kernels.cuda import chain, launch, sass

pytestmark = [
    needs_nvrtc,
    pytest.mark.skipif(sass.disassembler() is None, reason="nvdisasm is not installed (extra cuda-check)"),
]
# The least share of tensor-core products among the instructions of each inner loop.
SHARE = {"chain_fp16": 0.6, "chain_fp16_one": 0.4, "chain_tf32": 0.4}


@pytest.fixture(scope="module")
def of_chain():
    return sass.instructions("chain", "sm_90")


@pytest.mark.parametrize("kernel", SHARE)
def test_the_inner_loops_are_mostly_products(of_chain, kernel):
    rows, loops = of_chain[kernel]
    found = sass.inner_loops(rows, loops)
    assert len(found) >= 2
    for count in found:
        assert count["HMMA"] >= SHARE[kernel] * sum(count.values()), count
        assert count["LDSM"] or count["LDS"]


def test_no_register_goes_to_local_memory(of_chain):
    assert of_chain.keys() == launch.declarations("chain").keys()
    for kernel, (rows, _) in of_chain.items():
        counted = sass.opcodes(rows)
        assert counted["HMMA"] > 0 and counted["LDL"] == counted["STL"] == 0, kernel


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
