"""Blocks of LANES x LANES floats, transposed in registers."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from rotinv.kernels.cpu.vector.simd import INT32, LANES, VECTOR, load_vector_part, pointer, store_vector_part


@intrinsic
def transpose_block(typingctx, a, a0, a_step, a_rows, a_count, b, b0, b_step, b_rows, b_count):
    """b[b0 + j b_step + i] = a[a0 + i a_step + j] for i, j < LANES, in flat arrays.

    Only i < a_rows and j < a_count are read of a, the rest counts as 0; only j < b_rows and i < b_count are
    written.
    """

    def codegen(context, builder, signature, args):
        a, a0, a_step, a_rows, a_count, b, b0, b_step, b_rows, b_count = args
        kinds = signature.args

        def part(m, rows, count):
            """Lanes of row m."""
            there = builder.icmp_signed("<", m, rows)
            return builder.select(there, count, ir.Constant(count.type, 0))

        rows = []
        for i in range(LANES):
            m = ir.Constant(a0.type, i)
            at = builder.add(a0, builder.mul(m, a_step))
            address = pointer(context, builder, kinds[0], a, at, to=VECTOR)
            rows.append(load_vector_part(builder, address, part(m, a_rows, a_count)))
        for _ in range(LANES.bit_length() - 1):
            rows = _shuffled(builder, rows)
        for j, row in enumerate(rows):
            m = ir.Constant(b0.type, j)
            at = builder.add(b0, builder.mul(m, b_step))
            address = pointer(context, builder, kinds[5], b, at, to=VECTOR)
            store_vector_part(builder, row, address, part(m, b_rows, b_count))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, n, n, b, n, n, n, n), codegen


def _shuffled(builder, rows):
    """Interleave rows r and r + LANES / 2 lane by lane, as rows 2 r and 2 r + 1. Repeated log2 LANES times,
    this transposes."""
    half = LANES // 2
    result = []
    for r in range(half):
        for start in (0, half):
            lanes = [lane for k in range(start, start + half) for lane in (k, LANES + k)]
            mask = ir.Constant(ir.VectorType(INT32, LANES), lanes)
            result.append(builder.shuffle_vector(rows[r], rows[r + half], mask))
    return result
