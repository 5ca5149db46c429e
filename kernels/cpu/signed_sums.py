"""z+ and z- (Eqs. 2 to 4) of a convolution of x >= 0: one sum over the positive weights, one over the
negative.

A convolution with w+ and one with w- would multiply by 0 half of the time. Instead the weights are sorted by
sign into lists, and each sum runs along its own lists only; an empty side is exactly 0. As the lists differ
between output channels, the lanes of a vector are not channels but images.

Output channels come in pairs that share four lists: the taps where both weights are positive, those where
both are negative, and the two kinds of tap where the signs differ. So a pixel that is loaded serves two
channels.

    z[side][o][q][lane] = b[side][o] + sum over the entries l of the lists where o has that side:
                          w_l[o] x[i_l, c_l, q + j_l][lane]

A block of LANES images is copied as x[row][c][column][lane]. There every tap (i, j, c) is an offset, and the
pixels q of a tile follow one another. Input channels are taken in chunks whose part of x fits the first-level
cache.
"""

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.elementwise import split_signs
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.memory import ask_to_write, scratch
from rotinv.kernels.cpu.vector.simd import INT32, LANES, VECTOR, fused, pointer, splat, splatted, store, zero
from rotinv.kernels.cpu.vector.transposed import transpose_block

# Pixels of a tile: the sums of two outputs fill three quarters of the registers. NARROW ends a row.
TILE, NARROW = 12 if LANES == 16 else 6, 4
SIDES = (0, 0), (0, 1), (1, 1), (1, 0)  # signs of a pair's weights; from list to list one changes
BAND = 6  # rows of pixels in a piece of work; there are images x rows / (LANES x BAND) pieces
CACHE = 24 << 10  # bytes of the first-level cache for a chunk's part of x


def contributions(x, w, b, pad, shape):
    """z+ and z- (of `shape`) as Conv2dKernels.contributions, for x >= 0."""
    si, sj, c, o = w.shape
    p, q = shape[1:3]
    width = _padded(q) + sj - 1
    # The size of a chunk does not depend on c: so channels that are all zero, added for x < 0, change no bit.
    chunk = 1 << max(1, CACHE // (si * (TILE + sj - 1) * LANES * 4)).bit_length() - 1
    chunks = -(-c // chunk)
    pairs = (o + 1) // 2
    offset = np.empty(si * sj * c * pairs, np.int32)
    value = np.empty(2 * offset.size, np.float32)
    start = np.empty(chunks * (4 * pairs + 1), np.int32)
    _list(np.ascontiguousarray(w).reshape(-1), si, sj, c, o, width, chunk, offset, value, start)
    z_pos, z_neg = memory.empty(shape), memory.empty(shape)
    bias = np.concatenate(split_signs(b))
    _sum(x.reshape(-1), *x.shape, offset, value, start, chunks, bias, pad, si, width,
         z_pos.reshape(-1), z_neg.reshape(-1), p, q, o)  # fmt: skip
    return z_pos, z_neg


def _padded(q):
    """The number of pixels that the tiles of a row of q pixels cover."""
    return q // TILE * TILE + -(-(q % TILE) // NARROW) * NARROW


@kernel
def _list(w, si, sj, c, o, width, chunk, offset, value, start):
    """Fill the lists of each chunk, for one pair of output channels after another, in the order of SIDES.

    An entry has the offset of its pixel in x and the weights of both outputs. NaN and 0 count as positive; a
    tap that is 0 for both outputs is left out. Where the number of outputs is odd, the last one's partner has
    zero weights.

    start[k (4 pairs + 1) + 4 pair + kind] is the first entry of a list, and the next number is its end.
    """
    pairs = (o + 1) // 2
    for k in prange((c + chunk - 1) // chunk):
        begin, end, first = k * chunk, min(c, (k + 1) * chunk), k * (4 * pairs + 1)
        at = begin * si * sj * pairs
        for out in range(0, o, 2):
            for kind in range(4):
                start[first + 2 * out + kind] = at
                for i in range(si):
                    for j in range(sj):
                        for channel in range(begin, end):
                            tap = ((i * sj + j) * c + channel) * o + out
                            one, other = w[tap], w[tap + 1] if out + 1 < o else np.float32(0)
                            here = (one < 0) == SIDES[kind][0] and (other < 0) == SIDES[kind][1]
                            if here and (one != 0 or other != 0):
                                offset[at] = ((i * c + channel) * width + j) * LANES
                                value[2 * at], value[2 * at + 1] = one, other
                                at += 1
        start[first + 4 * pairs] = at


def _make_sum_along(tile):
    """z[side][out][r] += the sum over the entries where `out` has that side of value x[offset + r], r < tile.

    Makes an intrinsic sum_along(x, x0, offset, value, start, first, z, z0, side_size) for a pair of outputs.
    The first output's results begin at z0; `first` is the number of the pair's first list. The accumulators
    are separate variables, so that LLVM keeps each in a register.
    """

    def codegen(context, builder, signature, args):
        x, x0, offset, value, start, first, z, z0, side_size = args
        kinds = signature.args

        def number(k, array, index):
            return builder.load(pointer(context, builder, kinds[k], array, index))

        def list_start(kind):
            return builder.sext(number(4, start, builder.add(first, ir.Constant(first.type, kind))), x0.type)

        def add_to(out, side):
            """Add an output's sums to z and reset them. Summing in blocks rounds less than one long chain
            does."""
            at = builder.add(z0, builder.mul(side_size, ir.Constant(z0.type, side)))
            at = builder.add(at, ir.Constant(z0.type, out * TILE * LANES))
            where = pointer(context, builder, kinds[6], z, at, to=VECTOR)
            for r, total in enumerate(sums[out]):
                place = builder.gep(where, [INT32(r)])
                more = builder.fadd(builder.load(place, align=4), builder.load(total))
                builder.store(more, place, align=4)
                builder.store(zero(), total)

        sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(tile)] for _ in range(2)]
        for total in sums[0] + sums[1]:
            builder.store(zero(), total)
        for kind, sides in enumerate(SIDES):
            begin, end, step = list_start(kind), list_start(kind + 1), ir.Constant(x0.type, 1)
            with cgutils.for_range_slice(builder, begin, end, step) as (e, _):
                at = builder.add(x0, builder.sext(number(2, offset, e), x0.type))
                pixels = pointer(context, builder, kinds[0], x, at, to=VECTOR)
                twice = builder.add(e, e)
                places = [builder.add(twice, ir.Constant(e.type, out)) for out in range(2)]
                weights = [splatted(builder, number(3, value, place)) for place in places]
                for r in range(tile):
                    pixel = builder.load(builder.gep(pixels, [INT32(r)]), align=4)
                    for weight, totals in zip(weights, sums, strict=True):
                        builder.store(fused(builder, pixel, weight, builder.load(totals[r])), totals[r])
            for out, following in enumerate(SIDES[kind + 1] if kind < 3 else (None, None)):
                if following != sides[out]:
                    add_to(out, sides[out])
        return context.get_dummy_value()

    @intrinsic
    def sum_along(typingctx, x, x0, offset, value, start, first, z, z0, side_size):
        n = types.intp
        return types.void(x, n, offset, value, start, n, z, n, n), codegen

    return sum_along


_sum_wide, _sum_narrow = _make_sum_along(TILE), _make_sum_along(NARROW)


@kernel
def _sum(x, n, h, w, c, offset, value, start, chunks, bias, pad, si, width, z_pos, z_neg, p_z, q_z, o):
    """All sums. A thread takes a band of rows of a block of images, and copies the rows of x that these
    need."""
    bands, side_size = (p_z + BAND - 1) // BAND, (o + LANES - 1) // LANES * LANES * TILE * LANES
    for piece in prange((n + LANES - 1) // LANES * bands):
        first, p_first = piece // bands * LANES, piece % bands * BAND
        images, rows = min(LANES, n - first), min(BAND, p_z - p_first)
        x_t, z_t = scratch((rows + si - 1) * c * width * LANES), scratch(2 * side_size)
        x_t[:] = 0
        for i in range(max(0, pad - p_first), min(rows + si - 1, h + pad - p_first)):
            at = (first * h + p_first + i - pad) * w * c
            _copy_row(x, at, w, c, h * w * c, images, x_t, (i * c * width + pad) * LANES, width)
        for p in range(rows):
            q = 0
            while q < q_z:
                tile = TILE if q + TILE <= q_z else NARROW
                pixels, z0 = min(tile, q_z - q), ((first * p_z + p_first + p) * q_z + q) * o
                for row in range(2 * o):
                    for r in range(tile):
                        store(z_t, row // o * side_size + (row % o * TILE + r) * LANES, splat(bias[row]))
                for k in range(chunks):
                    for m in range(images):
                        at = z0 + m * p_z * q_z * o
                        ask_to_write(z_pos, at, at + pixels * o, k, chunks)
                        ask_to_write(z_neg, at, at + pixels * o, k, chunks)
                    x0 = (p * c * width + q) * LANES
                    first_list = k * (2 * (o + o % 2) + 1)
                    _sum_lists(x_t, x0, offset, value, start, first_list, o, tile, z_t, side_size)
                for r in range(pixels):
                    at = z0 + r * o
                    _write_pixel(z_t, r * LANES, o, images, z_pos, at, p_z * q_z * o)
                    _write_pixel(z_t, side_size + r * LANES, o, images, z_neg, at, p_z * q_z * o)
                q += tile


@inline
def _copy_row(x, at, w, c, image_size, images, x_t, x_t0, width):
    """Copy a row of pixels of all images of the block to x_t[c][column][lane]."""
    for j in range(w):
        for k in range(0, c, LANES):
            transpose_block(x, at + j * c + k, image_size, images, c - k,
                            x_t, x_t0 + (k * width + j) * LANES, width * LANES, c - k, LANES)  # fmt: skip


@inline
def _sum_lists(x_t, x0, offset, value, start, first, o, tile, z_t, side_size):
    """Add a chunk's sums for one tile to both sides of each output channel; `first` is the chunk's first
    list."""
    for out in range(0, o, 2):
        lists, to = first + 2 * out, out * TILE * LANES
        if tile == TILE:
            _sum_wide(x_t, x0, offset, value, start, lists, z_t, to, side_size)
        else:
            _sum_narrow(x_t, x0, offset, value, start, lists, z_t, to, side_size)


@inline
def _write_pixel(z_t, z_t0, o, images, z, at, image_size):
    """Write a pixel's channels for all images of the block."""
    for k in range(0, o, LANES):
        transpose_block(z_t, z_t0 + k * TILE * LANES, TILE * LANES, LANES, LANES,
                        z, at + k, image_size, images, o - k)  # fmt: skip
