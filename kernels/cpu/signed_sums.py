"""z+ and z- of a convolution of x >= 0, each summed over the weights of one sign only.

With the halves w+ and w- of the weights, every other product would be with a 0. So an output channel has two
lists, of its positive and of its negative weights, and a sum runs along one of them: half the work, and an
empty side is exactly 0. As the lists differ from channel to channel, the lanes of a vector are images.

    z[side][o][q][lane] = b[side][o] + sum over the list of (side, o): w_l x[i_l, c_l, q + j_l][lane]

A block of LANES images is copied as x[row][c][column][lane]: the pixels q of a tile then follow one another
for any tap (i, j, c), which is an offset. Channels are taken in chunks whose x stays in the first cache.
"""

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from rotinv.kernels.cpu import memory
from rotinv.kernels.cpu.elementwise import split_signs
from rotinv.kernels.cpu.jit import inline, kernel
from rotinv.kernels.cpu.memory import ask_to_write
from rotinv.kernels.cpu.simd import INT32, LANES, VECTOR, fused, pointer, splat, splatted, store, zero
from rotinv.kernels.cpu.transposed import transpose_block

TILE, NARROW = 12, 4  # neighbouring pixels whose sums are in registers together
BAND = 6  # rows of pixels to a piece of work: as many threads as images x rows / (LANES x BAND) have some
CACHE = 24 << 10  # bytes of the first cache that a chunk's x may take


def contributions(x, w, b, pad, shape):
    """z+ and z- (of `shape`) as Conv2dKernels.contributions, for x >= 0."""
    si, sj, c, o = w.shape
    p, q = shape[1:3]
    width = _padded(q) + sj - 1
    # Channels of a chunk, whatever c is: so the other sign's channels, zeros to this image, change no bit.
    chunk = 1 << max(1, CACHE // (si * (TILE + sj - 1) * LANES * 4)).bit_length() - 1
    chunks = -(-c // chunk)
    offset, value = np.empty(w.size, np.int32), np.empty(w.size, np.float32)
    start = np.empty(chunks * (2 * o + 1), np.int32)
    _list(np.ascontiguousarray(w).reshape(-1), si, sj, c, o, width, chunk, offset, value, start)
    z_pos, z_neg = memory.empty(shape), memory.empty(shape)
    bias = np.concatenate(split_signs(b))
    _sum(x.reshape(-1), *x.shape, offset, value, start, chunks, bias, pad, si, width,
         z_pos.reshape(-1), z_neg.reshape(-1), p, q, o)  # fmt: skip
    return z_pos, z_neg


def _padded(q):
    """How many pixels the tiles of a row of q cover."""
    return q // TILE * TILE + -(-(q % TILE) // NARROW) * NARROW


@kernel
def _list(w, si, sj, c, o, width, chunk, offset, value, start):
    """Each chunk's entries, output by output, the positive weights before the negative ones.

    NaN counts as positive; a weight of 0 is in no list, whatever x is.

    start[k (2 o + 1) + 2 out + side] is the first entry of a list, and the next one its end.
    """
    for k in prange((c + chunk - 1) // chunk):
        begin, end = k * chunk, min(c, (k + 1) * chunk)
        at = begin * si * sj * o
        for out in range(o):
            for side in range(2):
                start[k * (2 * o + 1) + 2 * out + side] = at
                for i in range(si):
                    for j in range(sj):
                        for channel in range(begin, end):
                            weight = w[((i * sj + j) * c + channel) * o + out]
                            if weight < 0 if side else not weight <= 0:
                                offset[at] = ((i * c + channel) * width + j) * LANES
                                value[at] = weight
                                at += 1
        start[(k + 1) * (2 * o + 1) - 1] = at


def _make_sum_along(tile):
    """z[r] += sum over entries e of [begin, end): value[e] x[offset[e] + r], r < tile vectors; an intrinsic

    sum_along(x, x0, offset, value, begin, end, z, z0), its `tile` accumulators named one by one.
    """

    def codegen(context, builder, signature, args):
        x, x0, offset, value, begin, end, z, z0 = args
        kinds = signature.args
        where = pointer(context, builder, kinds[6], z, z0, to=VECTOR)
        places = [builder.gep(where, [INT32(r)]) for r in range(tile)]
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in places]
        for total in sums:
            builder.store(zero(), total)
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(begin.type, 1)) as (e, _):
            step = builder.load(pointer(context, builder, kinds[2], offset, e))
            at = builder.add(x0, builder.sext(step, x0.type))
            pixels = pointer(context, builder, kinds[0], x, at, to=VECTOR)
            weight = splatted(builder, builder.load(pointer(context, builder, kinds[3], value, e)))
            for r, total in enumerate(sums):
                pixel = builder.load(builder.gep(pixels, [INT32(r)]), align=4)
                builder.store(fused(builder, pixel, weight, builder.load(total)), total)
        for total, place in zip(sums, places, strict=True):  # block sums round less than one long chain
            builder.store(builder.fadd(builder.load(place, align=4), builder.load(total)), place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def sum_along(typingctx, x, x0, offset, value, begin, end, z, z0):
        n = types.intp
        return types.void(x, n, offset, value, n, n, z, n), codegen

    return sum_along


_sum_wide, _sum_narrow = _make_sum_along(TILE), _make_sum_along(NARROW)


@kernel
def _sum(x, n, h, w, c, offset, value, start, chunks, bias, pad, si, width, z_pos, z_neg, p_z, q_z, o):
    """A piece of work is a band of rows of a block of images; it copies the rows of x that it needs."""
    bands, side_size = (p_z + BAND - 1) // BAND, (o + LANES - 1) // LANES * LANES * TILE * LANES
    for piece in prange((n + LANES - 1) // LANES * bands):
        first, p_first = piece // bands * LANES, piece % bands * BAND
        images, rows = min(LANES, n - first), min(BAND, p_z - p_first)
        x_t = np.zeros((rows + si - 1) * c * width * LANES, np.float32)
        z_t = np.empty(2 * side_size, np.float32)
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
                    _sum_lists(x_t, x0, offset, value, start, k * (2 * o + 1), o, tile, z_t, side_size)
                for r in range(pixels):
                    at = z0 + r * o
                    _write_pixel(z_t, r * LANES, o, images, z_pos, at, p_z * q_z * o)
                    _write_pixel(z_t, side_size + r * LANES, o, images, z_neg, at, p_z * q_z * o)
                q += tile


@inline
def _copy_row(x, at, w, c, image_size, images, x_t, x_t0, width):
    """x_t[c][column][lane] of a row of pixels."""
    for j in range(w):
        for k in range(0, c, LANES):
            transpose_block(x, at + j * c + k, image_size, images, c - k,
                            x_t, x_t0 + (k * width + j) * LANES, width * LANES, c - k, LANES)  # fmt: skip


@inline
def _sum_lists(x_t, x0, offset, value, start, first, o, tile, z_t, side_size):
    """Add a chunk's sums of a tile, both sides of each output channel; `first` its first list."""
    for row in range(2 * o):
        begin, end = start[first + row], start[first + row + 1]
        to = row % 2 * side_size + row // 2 * TILE * LANES
        if tile == TILE:
            _sum_wide(x_t, x0, offset, value, begin, end, z_t, to)
        else:
            _sum_narrow(x_t, x0, offset, value, begin, end, z_t, to)


@inline
def _write_pixel(z_t, z_t0, o, images, z, at, image_size):
    """A pixel's channels, of all images of the block."""
    for k in range(0, o, LANES):
        transpose_block(z_t, z_t0 + k * TILE * LANES, TILE * LANES, LANES, LANES,
                        z, at + k, image_size, images, o - k)  # fmt: skip
