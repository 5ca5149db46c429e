"""A vector of float32 as wide as the machine's registers, for Numba.

Numba itself vectorises simple loops only, so this code says what is a vector. An F32V is LANES floats (LLVM's
<LANES x float>: 16 with AVX-512, 8 with AVX, 4 elsewhere). It is read and written at an offset of a flat
array, which must be float32 and contiguous: nothing checks that. The source is the same for every width, and
Numba's cache keeps the code of different processors apart.
"""

import operator

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic, models, overload, register_model

# What Numba compiles for: its NUMBA_CPU_FEATURES, or else the host.
_FEATURES = (config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()).split(",")
LANES = 16 if "+avx512f" in _FEATURES else 8 if "+avx" in _FEATURES else 4

FLOAT, INT8, INT32 = ir.FloatType(), ir.IntType(8), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)


class _F32VType(types.Type):
    def __init__(self):
        super().__init__("F32V")


f32v = _F32VType()
_f32 = types.float32


@register_model(_F32VType)
class _F32VModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, VECTOR)


def pointer(context, builder, array_type, array, index, to=None):
    """The address of element `index` of a flat array; `to` is the type that it points to, for example a
    vector."""
    data = context.make_array(array_type)(context, builder, array).data
    address = builder.gep(data, [index])
    return address if to is None else builder.bitcast(address, ir.PointerType(to))


def _call(builder, name, result, args):
    """A call of one of LLVM's intrinsics."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def fused(builder, a, b, c):
    return _call(builder, f"llvm.fma.v{LANES}f32", VECTOR, [a, b, c])


def splatted(builder, scalar, lanes=LANES):
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _first_lanes(builder, count):
    """The mask of the lanes below count."""
    lanes = ir.Constant(ir.VectorType(INT32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lanes, splatted(builder, builder.trunc(count, INT32)))


def zero():
    return ir.Constant(VECTOR, [0.0] * LANES)


def load_vector_part(builder, address, count):
    """The first `count` lanes at an address, zeros beyond."""
    name, mask = f"llvm.masked.load.v{LANES}f32.p0", _first_lanes(builder, count)
    return _call(builder, name, VECTOR, [address, INT32(4), mask, zero()])


def store_vector_part(builder, vector, address, count):
    """Write the first `count` lanes to an address."""
    name, mask = f"llvm.masked.store.v{LANES}f32.p0", _first_lanes(builder, count)
    _call(builder, name, ir.VoidType(), [vector, address, INT32(4), mask])


@intrinsic
def load(typingctx, array, index):
    """array[index : index + LANES]."""

    def codegen(context, builder, signature, args):
        return builder.load(pointer(context, builder, array, *args, to=VECTOR), align=4)

    return f32v(array, types.intp), codegen


@intrinsic
def load_part(typingctx, array, index, count):
    """array[index : index + count] and zeros; touches no memory beyond (count <= 0: none at all)."""

    def codegen(context, builder, signature, args):
        return load_vector_part(builder, pointer(context, builder, array, *args[:2], to=VECTOR), args[2])

    return f32v(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """array[index : index + LANES] = vector."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], pointer(context, builder, array, *args[:2], to=VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, f32v), codegen


@intrinsic
def store_part(typingctx, array, index, vector, count):
    """array[index : index + count] = the first lanes of vector."""

    def codegen(context, builder, signature, args):
        address = pointer(context, builder, array, *args[:2], to=VECTOR)
        store_vector_part(builder, args[2], address, args[3])
        return context.get_dummy_value()

    return types.void(array, types.intp, f32v, types.intp), codegen


@intrinsic
def store_low(typingctx, array, index, vector):
    """array[index : index + 4] = the first four lanes of vector."""

    def codegen(context, builder, signature, args):
        four = ir.Constant(ir.VectorType(INT32, 4), [0, 1, 2, 3])
        low = builder.shuffle_vector(args[2], ir.Constant(VECTOR, ir.Undefined), four)
        address = pointer(context, builder, array, *args[:2], to=ir.VectorType(FLOAT, 4))
        builder.store(low, address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, f32v), codegen


@intrinsic
def store_bytes(typingctx, array, index, vector, count):
    """array[index : index + count], of uint8, = the first lanes of vector, which are whole numbers from 0 to
    255."""

    def codegen(context, builder, signature, args):
        small = ir.VectorType(INT8, LANES)
        address = pointer(context, builder, array, *args[:2], to=small)
        mask = _first_lanes(builder, args[3])
        name = f"llvm.masked.store.v{LANES}i8.p0"
        _call(builder, name, ir.VoidType(), [builder.fptoui(args[2], small), address, INT32(1), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, f32v, types.intp), codegen


def _make_prefetch(write, cache):
    @intrinsic
    def emit(typingctx, array, index):
        def codegen(context, builder, signature, args):
            address = pointer(context, builder, array, *args, to=INT8)
            kind = ir.FunctionType(ir.VoidType(), [address.type, INT32, INT32, INT32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            locality, data = INT32(4 - cache), INT32(1)  # LLVM's 3 is the first-level cache
            builder.call(function, [address, INT32(int(write)), locality, data])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return emit


# Fetch the cache line of array[index] into the cache ahead of its use; any index is safe.
prefetch = _make_prefetch(write=False, cache=2)
prefetch_to_write = _make_prefetch(write=True, cache=1)


@intrinsic
def splat(typingctx, scalar):
    """The scalar in every lane."""
    return f32v(_f32), lambda context, builder, signature, args: splatted(builder, args[0])


@intrinsic
def load_splat(typingctx, array, index):
    """array[index] in every lane."""

    def codegen(context, builder, signature, args):
        return splatted(builder, builder.load(pointer(context, builder, array, *args)))

    return f32v(array, types.intp), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a b + c, rounded once."""
    return f32v(f32v, f32v, f32v), lambda context, builder, signature, args: fused(builder, *args)


@intrinsic
def where_positive(typingctx, z, a, b):
    """a where z > 0, b elsewhere (and where z is NaN)."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], zero()), args[1], args[2])

    return f32v(f32v, f32v, f32v), codegen


@intrinsic
def where_byte(typingctx, array, index, count, byte, a):
    """a where array[index : index + count], of uint8, is `byte`; 0 elsewhere and beyond count."""

    def codegen(context, builder, signature, args):
        small = ir.VectorType(INT8, LANES)
        address = pointer(context, builder, array, *args[:2], to=small)
        mask = _first_lanes(builder, args[2])
        name = f"llvm.masked.load.v{LANES}i8.p0"
        found = _call(builder, name, small, [address, INT32(1), mask, ir.Constant(small, [255] * LANES)])
        wanted = splatted(builder, builder.trunc(args[3], INT8))
        return builder.select(builder.icmp_unsigned("==", found, wanted), args[4], zero())

    return f32v(array, types.intp, types.intp, types.intp, f32v), codegen


@intrinsic
def where_wins(typingctx, z, best, a, b):
    """a where z takes the maximum from best, b elsewhere: where z is larger, or is the first NaN."""

    def codegen(context, builder, signature, args):
        z, best, a, b = args
        larger = builder.fcmp_unordered(">", z, best)  # true also where either is NaN
        return builder.select(builder.and_(larger, builder.fcmp_ordered("ord", best, best)), a, b)

    return f32v(f32v, f32v, f32v, f32v), codegen


def _operator(function, instruction):
    """Give F32V a Python operator."""

    @intrinsic
    def emit(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return f32v(f32v, f32v), codegen

    @overload(function)
    def _(a, b):
        if a is f32v and b is f32v:
            return lambda a, b: emit(a, b)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
