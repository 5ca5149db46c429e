"""The register tile, the one inner loop of every convolution and dense layer:

    out[r, v] (+)= sum_{i,k} a[r, i, k] w[i, k, v]        r < rows, v < PANEL = 2 LANES

Its accumulators stay in registers. Each row is a separate chain of fused multiply-adds in the order of (i,
k), so that it has the same bits in a tile of any height: no result depends on its neighbours.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rotinv.kernels.cpu.vector.simd import FLOAT, INT8, INT32, LANES, VECTOR, fused, pointer, splatted, zero

PANEL = 2 * LANES  # output channels of a tile
ROWS = 12 if LANES == 16 else 6  # rows of the tall tile: its sums take 24 of 32 registers, or 12 of 16
SHORT = 8 if LANES == 16 else 4  # rows of the short tile: a divisor of LANES


def make_tile(rows):
    """The register tile of `rows` x PANEL, an intrinsic

    tile(a, a0, row_step, outer, a_outer, inner, a_inner, w, w0, w_outer, w_inner, out, out0, out_step, add)

    over flat arrays: a[r, i, k] is a[a0 + r row_step + i a_outer + k a_inner], w[i, k, v] is
    w[w0 + i w_outer + k w_inner + v], out[r, v] is out[out0 + r out_step + v]; i < outer, k < inner;
    it adds to out if `add`. Emitted as LLVM IR because its rows x 2 accumulators have to be named one by one.
    """

    def codegen(context, builder, signature, args):
        (a, a0, row_step, outer, a_outer, inner, a_inner), args = args[:7], args[7:]
        (w, w0, w_outer, w_inner, out, out0, out_step, add) = args
        index = a0.type
        where_out = []
        for r in range(rows):
            start = builder.add(out0, builder.mul(out_step, index(r)))
            for v in (0, LANES):
                at = builder.add(start, index(v))
                where_out.append(pointer(context, builder, signature.args[11], out, at, to=VECTOR))
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in where_out]
        for total in sums:
            builder.store(zero(), total)
        odd_steps = _odd_steps(builder, builder.mul(row_step, index(4)), rows)
        with cgutils.for_range(builder, outer) as i:
            a_i = builder.add(a0, builder.mul(i.index, a_outer))
            w_i = builder.add(w0, builder.mul(i.index, w_outer))
            with cgutils.for_range(builder, inner) as k:
                a_k = builder.add(a_i, builder.mul(k.index, a_inner))
                w_k = builder.add(w_i, builder.mul(k.index, w_inner))
                w_low = pointer(context, builder, signature.args[7], w, w_k, to=VECTOR)
                w_high = builder.gep(w_low, [INT32(1)])
                weights = [builder.load(address, align=4) for address in (w_low, w_high)]
                first = pointer(context, builder, signature.args[0], a, a_k, to=INT8)
                for r in range(rows):
                    address = first if r == 0 else builder.gep(first, [_multiple(builder, odd_steps, r)])
                    address = builder.bitcast(address, FLOAT.as_pointer())
                    x = splatted(builder, builder.load(address))
                    for v, weight in enumerate(weights):
                        total = sums[2 * r + v]
                        builder.store(fused(builder, x, weight, builder.load(total)), total)
        with builder.if_then(add):  # `out` comes in last: sums in blocks round less than one long chain
            for total, address in zip(sums, where_out, strict=True):
                before = builder.load(address, align=4)
                builder.store(builder.fadd(before, builder.load(total)), total)
        for total, address in zip(sums, where_out, strict=True):
            builder.store(builder.load(total), address, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(typingctx, a, a0, row_step, outer, a_outer, inner, a_inner, w, w0, w_outer, w_inner,
             out, out0, out_step, add):  # fmt: skip
        n = types.intp
        return types.void(a, n, n, n, n, n, n, w, n, n, n, out, n, n, types.boolean), codegen

    return tile


tile_tall = make_tile(ROWS)
tile_short = make_tile(SHORT)
tile_4 = make_tile(4)
tile_1 = make_tile(1)


def _odd_steps(builder, step, rows):
    """{r: r step} for the odd r below `rows`, each in a register.

    An x86 address may have step, 2 step, 4 step or 8 step added at no cost, so that all rows are reached from
    the odd multiples in a few registers. LLVM by itself would go from row to row by a chain of additions,
    which compete with the multiply-adds; the empty assembly below hides the values from it and so prevents
    that.
    """
    kind = ir.FunctionType(step.type, [step.type])
    multiples = {r: builder.mul(step, step.type(r)) for r in range(1, rows, 2)}
    return {r: builder.asm(kind, "", "=r,0", [value], False) for r, value in multiples.items()}


def _multiple(builder, odd_steps, r):
    """r step, as a power of two times one of the odd multiples."""
    shift = (r & -r).bit_length() - 1
    step = odd_steps[r >> shift]
    return builder.shl(step, step.type(shift))
