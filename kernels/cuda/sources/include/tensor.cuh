// Tensor cores: products of 16x8 by 8x8 in tf32 (numbers rounded to 10 bits of mantissa, sums in float32), sm_80 on.
#pragma once
#include "machine.cuh"
#include "tiles.cuh"

#ifndef EMULATED
// c += a b of floats that are rounded to tf32; the lanes' numbers are those of multiply_tf32_words (machine.cuh).
__device__ inline void mma_tf32(float (&c)[4], float4 a, float b0, float b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a.x)), "r"(__float_as_uint(a.y)), "r"(__float_as_uint(a.z)), "r"(__float_as_uint(a.w)),
          "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}
#endif

__device__ inline float4 load_four_floats(SharedAddress at) {
    const uint4 v = load_four_words(at);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

__device__ inline float rounded(float v) { return __uint_as_float(to_tf32(v)); }

__device__ inline float4 rounded4(float4 v) {
    return make_float4(rounded(v.x), rounded(v.y), rounded(v.z), rounded(v.w));
}

// The thread's four weights of a tile, b[k … k + 3, o]: where they go in the block's tile, and the next ones.
// `left` and `from` are for weights that are not read transposed: a tap then needs no arithmetic.
template <int COLUMNS>
struct WeightQuad {
    int o, quad, left;  // how many k there are from the next one on
    const float* from;

    __device__ WeightQuad(const Product& t)
        : o(t.flip ? threadIdx.x / 4 : threadIdx.x % COLUMNS), quad(t.flip ? threadIdx.x % 4 : threadIdx.x / COLUMNS) {
        const int column = blockIdx.y * COLUMNS + o;
        left = column < t.columns ? t.size * t.size * t.depth - 4 * quad : 0;
        from = t.w + ((long long)4 * quad * t.columns + column);
    }

    __device__ float4 fetch(const Product& t, bool by_four, Tap tap) {
        if (t.flip) return fetch_weights<COLUMNS>(t, by_four, 0, tap);  // the tap alone tells where
        float v[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) v[e] = e < left ? from[(long long)e * t.columns] : 0.0f;
        left -= DEPTH;
        from += (long long)DEPTH * t.columns;
        return make_float4(v[0], v[1], v[2], v[3]);
    }
};

// Where lane (g, l)'s four numbers lie: so that neither the lanes of one g nor those of one l meet in a bank.
__device__ inline int place_of(int g, int l) { return (g * 4 + (l + g / 2) % 4) * 4; }

// The block's sums. A warp owns 32 columns x 32 rows, columns (channels) down and rows (pixels) across: sum[i][j][e]
// is, of its tile of 16 columns i and 8 rows j, element e as mma_tf32 has it.
//
// Both tiles lie in shared memory as the lanes load them, by one instruction for 16 k. Of a row, lane l of four takes
// the k = 4 l … 4 l + 3; they stand for k = l and l + 4 of a first product of 8 k and of a second one, for a sum may go
// through its k in any order. Of the columns it takes mma's four numbers of each product: bs[i][product][lane][4].
// Tensor cores are soon done with a tile, so there are two to a barrier; what lies beyond the last k is zeros.
// Gives the shared memory of the rows' tiles, ROWS x COLUMNS floats or more, which may be used after a barrier.
template <int COLUMNS>
__device__ inline SharedAddress multiply_tf32(const Product& t, float (&sum)[2][4][4]) {
    constexpr int THREADS = COLUMNS * 4;
    SHARED(float, as, [2][2][ROWS][DEPTH]);
    SHARED(float, bs, [2][2][COLUMNS / 16][2][32 * 4]);
    using Rows = Gather<THREADS, true>;
    const Rows gather(t);
    WeightQuad<COLUMNS> weights(t);
    const bool by_four = gathers_by_four(t), weights_by_four = weighs_by_four(t);
    const int total = t.size * t.size * t.depth;
    const int quad = threadIdx.x % 4, row = threadIdx.x / 4;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
    const int top = warp % 4 * 32 + g, left = warp / 4 * 2, lane = place_of(g, l);
    const int to = place_of(weights.o % 8, weights.quad) + weights.o % 16 / 8;
    Tap tap = tap_of(4 * quad, t.size, t.depth);
    float4 next[2][Rows::QUADS], next_weights[2];

    const auto fetch = [&] {
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
            gather.fetch(t, by_four, tap, next[tile]);
            next_weights[tile] = weights.fetch(t, weights_by_four, tap);
            tap.advance(DEPTH, t.size, t.depth);
        }
    };
    const auto store = [&](int side) {
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
            for (int r = 0; r < Rows::QUADS; ++r)
                store4(&as[side][tile][row + r * (THREADS / 4)][4 * quad], rounded4(next[tile][r]));
            const float4 w = rounded4(next_weights[tile]);
            float(&both)[2][32 * 4] = bs[side][tile][weights.o / 16];
            both[0][to] = w.x, both[0][to + 2] = w.y;
            both[1][to] = w.z, both[1][to + 2] = w.w;
        }
    };

#pragma unroll
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j)
            for (int e = 0; e < 4; ++e) sum[i][j][e] = 0.0f;
    fetch();
    store(0);
    int side = 0;
    for (int k = 0; k < total; k += 2 * DEPTH) {
        const bool more = k + 2 * DEPTH < total;
        __syncthreads();
        if (more) fetch();
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
            float4 of_column[2][2], of_row[4];
#pragma unroll
            for (int i = 0; i < 2; ++i)
                for (int product = 0; product < 2; ++product)
                    of_column[i][product] = load4(&bs[side][tile][left + i][product][lane]);
#pragma unroll
            for (int j = 0; j < 4; ++j) of_row[j] = load4(&as[side][tile][top + j * 8][4 * l]);
#pragma unroll
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j) mma_tf32(sum[i][j], of_column[i][0], of_row[j].x, of_row[j].y);
#pragma unroll
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j) mma_tf32(sum[i][j], of_column[i][1], of_row[j].z, of_row[j].w);
        }
        side ^= 1;
        if (more) store(side);
    }
    return shared_address(as);
}
