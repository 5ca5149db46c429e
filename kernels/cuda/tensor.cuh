// Tensor cores: products of 16x8 by 8x8 in tf32 (numbers rounded to 10 bits of mantissa, sums in float32), sm_80 on.
#pragma once
#include "tiles.cuh"

// In emulation both are functions of the shim, over the lanes of an emulated warp.
#ifndef EMULATED
__device__ inline unsigned to_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

// c += a b. Lane l = 4 g + t holds a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g);
// c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ inline void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

__device__ inline float rounded(float v) { return __uint_as_float(to_tf32(v)); }

__device__ inline float4 rounded4(float4 v) {
    return make_float4(rounded(v.x), rounded(v.y), rounded(v.z), rounded(v.w));
}

// The block's sums. A warp owns 32 rows x 32 columns: sum[i][j][e] is, of its tile of 16 rows i and 8 columns j,
// element e as mma_tf32 has it. Strides are such that a warp's reads meet no bank twice. Tensor cores are done with
// a tile long before the next one has come from global memory, so two of them are on their way.
template <int COLUMNS>
__device__ inline void multiply_tf32(const Product& t, float (&sum)[2][4][4]) {
    constexpr int THREADS = COLUMNS * 4;
    SHARED(float, as, [2][ROWS][DEPTH + 4]);
    SHARED(float, bs, [2][DEPTH][COLUMNS + 8]);
    using Rows = Gather<THREADS, true>;
    const Rows gather(t);
    const bool by_four = gathers_by_four(t), weights_by_four = weighs_by_four(t);
    const int tiles = (t.size * t.size * t.depth + DEPTH - 1) / DEPTH;
    const int quad = threadIdx.x % 4, row = threadIdx.x / 4;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
    const int top = warp % 4 * 32, left = warp / 4 * 32;
    Tap tap = tap_of(4 * quad, t.size, t.depth);
    float4 next[2][Rows::QUADS], next_weights[2];

    const auto fetch = [&](int tile, int side) {
        if (tile >= tiles) return;
        gather.fetch(t, by_four, tap, next[side]);
        next_weights[side] = fetch_weights<COLUMNS>(t, weights_by_four, tile * DEPTH, tap);
        tap.advance(DEPTH, t.size, t.depth);
    };
    const auto store = [&](int side) {
#pragma unroll
        for (int r = 0; r < Rows::QUADS; ++r)
            store4(&as[side][row + r * (THREADS / 4)][4 * quad], rounded4(next[side][r]));
        store_weights<COLUMNS>(bs[side], t.flip, rounded4(next_weights[side]));
    };

#pragma unroll
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j)
            for (int e = 0; e < 4; ++e) sum[i][j][e] = 0.0f;
    fetch(0, 0);
    fetch(1, 1);
    store(0);
    for (int first = 0; first < tiles; first += 2) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int tile = first + side;
            if (tile >= tiles) break;
            __syncthreads();
            fetch(tile + 2, side);
#pragma unroll
            for (int k = 0; k < DEPTH; k += 8) {
                unsigned a[2][4], b[4][2];
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    for (int e = 0; e < 4; ++e)
                        a[i][e] = __float_as_uint(as[side][top + i * 16 + e % 2 * 8 + g][k + e / 2 * 4 + l]);
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    for (int e = 0; e < 2; ++e) b[j][e] = __float_as_uint(bs[side][k + e * 4 + l][left + j * 8 + g]);
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    for (int j = 0; j < 4; ++j) mma_tf32(sum[i][j], a[i], b[j]);
            }
            if (tile + 1 < tiles) store(side ^ 1);
        }
    }
}
