"""A vector of float32 as wide as the host's registers, for Numba, and the register tile built on it.

Numba vectorises simple loops only. Here the code says itself what is a vector: an F32V is LANES floats
(LLVM's <LANES x float>: 16 with AVX-512, 8 with AVX, 4 elsewhere), read and written at an offset of
a flat array. The source is the same for every width; Numba's cache keeps hosts apart by their features.

The tile is the one inner loop under every convolution and dense layer:

    out[r, v] (+)= sum_{i,k} a[r, i, k] w[i, k, v]        r < rows, v < PANEL = 2 LANES

with its accumulators in registers. Each row is its own chain of fused multiply-adds in the order of (i, k),
so that a row has the same bits in a tile of any height: results do not depend on neighbours.
"""

import operator

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic, models, overload, register_model

# What Numba compiles for: its NUMBA_CPU_FEATURES, or else the host.
_FEATURES = (config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()).split(",")
LANES = 16 if "+avx512f" in _FEATURES else 8 if "+avx" in _FEATURES else 4
PANEL = 2 * LANES  # output channels of a tile
ROWS = 12 if LANES == 16 else 6  # rows of the tall tile: 24 of 32, or 12 of 16, registers accumulate
SHORT = 8 if LANES == 16 else 4  # rows of the short tile, which divide LANES and, from there, channels

_FLOAT, _INT8, _INT32 = ir.FloatType(), ir.IntType(8), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)


class _F32VType(types.Type):
    def __init__(self):
        super().__init__("F32V")


_f32v = _F32VType()
_f32 = types.float32


@register_model(_F32VType)
class _F32VModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


def _pointer(context, builder, array_type, array, index, to=None):
    """The address of element `index` of a flat array; of a vector there if `to` says so."""
    data = context.make_array(array_type)(context, builder, array).data
    address = builder.gep(data, [index])
    return address if to is None else builder.bitcast(address, ir.PointerType(to))


def _call(builder, name, result, args):
    """A call of one of LLVM's intrinsics."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _fused(builder, a, b, c):
    return _call(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [a, b, c])


def _splat(builder, scalar, lanes=LANES):
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INT32(0))
    zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _first_lanes(builder, count):
    """The mask of the lanes below count."""
    lanes = ir.Constant(ir.VectorType(_INT32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lanes, _splat(builder, builder.trunc(count, _INT32)))


def _zero():
    return ir.Constant(_VECTOR, [0.0] * LANES)


@intrinsic
def load(typingctx, array, index):
    """array[index : index + LANES]."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(context, builder, array, *args, to=_VECTOR), align=4)

    return _f32v(array, types.intp), codegen


@intrinsic
def load_part(typingctx, array, index, count):
    """array[index : index + count] and zeros; touches no memory beyond (count <= 0: none at all)."""

    def codegen(context, builder, signature, args):
        address = _pointer(context, builder, array, *args[:2], to=_VECTOR)
        mask = _first_lanes(builder, args[2])
        name = f"llvm.masked.load.v{LANES}f32.p0"
        return _call(builder, name, _VECTOR, [address, _INT32(4), mask, _zero()])

    return _f32v(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """array[index : index + LANES] = vector."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, array, *args[:2], to=_VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32v), codegen


@intrinsic
def stream(typingctx, array, index, vector):
    """array[index : index + LANES] = vector, past the cache; its address must be a multiple of 64 bytes.

    For what is larger than the cache: an ordinary store would first read the line that it overwrites.
    """

    def codegen(context, builder, signature, args):
        done = builder.store(
            args[2], _pointer(context, builder, array, *args[:2], to=_VECTOR), align=4 * LANES
        )
        done.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32v), codegen


@intrinsic
def store_part(typingctx, array, index, vector, count):
    """array[index : index + count] = the first lanes of vector."""

    def codegen(context, builder, signature, args):
        address = _pointer(context, builder, array, *args[:2], to=_VECTOR)
        mask = _first_lanes(builder, args[3])
        name = f"llvm.masked.store.v{LANES}f32.p0"
        _call(builder, name, ir.VoidType(), [args[2], address, _INT32(4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32v, types.intp), codegen


@intrinsic
def store_bytes(typingctx, array, index, vector, count):
    """array[index : index + count], of uint8, = the first lanes of vector, small whole numbers."""

    def codegen(context, builder, signature, args):
        small = ir.VectorType(_INT8, LANES)
        address = _pointer(context, builder, array, *args[:2], to=small)
        mask = _first_lanes(builder, args[3])
        name = f"llvm.masked.store.v{LANES}i8.p0"
        _call(builder, name, ir.VoidType(), [builder.fptoui(args[2], small), address, _INT32(1), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32v, types.intp), codegen


@intrinsic
def splat(typingctx, scalar):
    """The scalar in every lane."""
    return _f32v(_f32), lambda context, builder, signature, args: _splat(builder, args[0])


@intrinsic
def fma(typingctx, a, b, c):
    """a b + c, rounded once."""
    return _f32v(_f32v, _f32v, _f32v), lambda context, builder, signature, args: _fused(builder, *args)


@intrinsic
def where_positive(typingctx, z, a, b):
    """a where z > 0, b elsewhere (and where z is NaN)."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], _zero()), args[1], args[2])

    return _f32v(_f32v, _f32v, _f32v), codegen


@intrinsic
def where_byte(typingctx, array, index, count, byte, a):
    """a where array[index : index + count], of uint8, is `byte`; 0 elsewhere and beyond count."""

    def codegen(context, builder, signature, args):
        small = ir.VectorType(_INT8, LANES)
        address = _pointer(context, builder, array, *args[:2], to=small)
        mask = _first_lanes(builder, args[2])
        name = f"llvm.masked.load.v{LANES}i8.p0"
        found = _call(builder, name, small, [address, _INT32(1), mask, ir.Constant(small, [255] * LANES)])
        wanted = _splat(builder, builder.trunc(args[3], _INT8))
        return builder.select(builder.icmp_unsigned("==", found, wanted), args[4], _zero())

    return _f32v(array, types.intp, types.intp, types.intp, _f32v), codegen


@intrinsic
def where_wins(typingctx, z, best, a, b):
    """a where z takes the maximum from best, b elsewhere: z is larger, or the first NaN."""

    def codegen(context, builder, signature, args):
        z, best, a, b = args
        larger = builder.fcmp_unordered(">", z, best)  # true also where either is NaN
        return builder.select(builder.and_(larger, builder.fcmp_ordered("ord", best, best)), a, b)

    return _f32v(_f32v, _f32v, _f32v, _f32v), codegen


def _operator(function, instruction):
    """Give F32V a Python operator."""

    @intrinsic
    def emit(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return _f32v(_f32v, _f32v), codegen

    @overload(function)
    def _(a, b):
        if a is _f32v and b is _f32v:
            return lambda a, b: emit(a, b)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


def make_tile(rows):
    """The register tile of `rows` x PANEL (see the module's text), an intrinsic

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
                where_out.append(_pointer(context, builder, signature.args[11], out, at, to=_VECTOR))
        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in where_out]
        for total in sums:
            builder.store(_zero(), total)
        odd_steps = _odd_steps(builder, builder.mul(row_step, index(4)), rows)
        with cgutils.for_range(builder, outer) as i:
            a_i = builder.add(a0, builder.mul(i.index, a_outer))
            w_i = builder.add(w0, builder.mul(i.index, w_outer))
            with cgutils.for_range(builder, inner) as k:
                a_k = builder.add(a_i, builder.mul(k.index, a_inner))
                w_k = builder.add(w_i, builder.mul(k.index, w_inner))
                w_low = _pointer(context, builder, signature.args[7], w, w_k, to=_VECTOR)
                w_high = builder.gep(w_low, [_INT32(1)])
                weights = [builder.load(address, align=4) for address in (w_low, w_high)]
                first = _pointer(context, builder, signature.args[0], a, a_k, to=_INT8)
                for r in range(rows):
                    address = first if r == 0 else builder.gep(first, [_multiple(builder, odd_steps, r)])
                    address = builder.bitcast(address, _FLOAT.as_pointer())
                    x = _splat(builder, builder.load(address))
                    for v, weight in enumerate(weights):
                        total = sums[2 * r + v]
                        builder.store(_fused(builder, x, weight, builder.load(total)), total)
        with builder.if_then(add):  # at the end: block sums round less than one long chain
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
    """{r: r step} of the odd r below rows, each in a register.

    x86 adds step, 2 step, 4 step or 8 step to an address for nothing, so that the odd multiples reach
    all rows with a handful of registers. Left to itself LLVM walks from row to row by a chain of additions,
    which takes the multiply-adds' issue slots; it does not see through the empty assembly.
    """
    kind = ir.FunctionType(step.type, [step.type])
    multiples = {r: builder.mul(step, step.type(r)) for r in range(1, rows, 2)}
    return {r: builder.asm(kind, "", "=r,0", [value], False) for r, value in multiples.items()}


def _multiple(builder, odd_steps, r):
    """r step, from the odd multiple it is a power of two of."""
    shift = (r & -r).bit_length() - 1
    step = odd_steps[r >> shift]
    return builder.shl(step, step.type(shift))


def make_linear_map(matrix):
    """y = matrix x for vectors x and y of F32V (tuples), an intrinsic for one constant matrix.

    Columns that come in pairs, equal or opposite in every row (interpolation points +p and -p), are added
    and subtracted once for all rows; rows that come in such pairs share their sums. Then one
    multiply-add per coefficient other than 0 and +-1.
    """
    matrix = np.asarray(matrix, np.float64)
    n_out, n_in = matrix.shape

    def combine(builder, row, x):
        """sum row_j x_j; None if there is no term."""
        total = None
        # Coefficients of 1 first: they need no multiplication, and one of them can start the sum.
        for j in sorted(np.flatnonzero(row), key=lambda j: row[j] != 1):
            if total is None:
                total = x[j] if row[j] == 1 else builder.fmul(_constant(row[j]), x[j])
            elif abs(row[j]) == 1:
                total = (builder.fadd if row[j] == 1 else builder.fsub)(total, x[j])
            else:
                total = _fused(builder, _constant(row[j]), x[j], total)
        return total

    def codegen(context, builder, signature, args):
        x = [builder.extract_value(args[0], j) for j in range(n_in)]
        coefficients = matrix.copy()
        for j in range(n_in - 1):
            left, right = coefficients[:, j], coefficients[:, j + 1]
            if left.any() and right.any() and (np.abs(left) == np.abs(right)).all() and n_out <= n_in:
                same = left == right
                x[j], x[j + 1] = builder.fadd(x[j], x[j + 1]), builder.fsub(x[j], x[j + 1])
                coefficients[:, j], coefficients[:, j + 1] = left * same, left * ~same
        y, r = [], 0
        while r < n_out:
            row, following = coefficients[r], coefficients[min(r + 1, n_out - 1)]
            same, opposite = (row == following) & (row != 0), (row == -following) & (row != 0)
            if (np.abs(row) == np.abs(following)).all() and same.any() and opposite.any():
                even = combine(builder, row * same, x)
                odd = combine(builder, row * opposite, x)
                y += [builder.fadd(even, odd), builder.fsub(even, odd)]
                r += 2
            else:
                y.append(combine(builder, row, x))
                r += 1
        return cgutils.pack_array(builder, y)

    @intrinsic
    def linear_map(typingctx, x):
        return types.UniTuple(_f32v, n_out)(types.UniTuple(_f32v, n_in)), codegen

    return linear_map


def _constant(value):
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)
