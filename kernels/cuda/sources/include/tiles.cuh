// Sums over windows of maps as one tiled matrix product (implicit GEMM): the windows are never written out.
//
//   z[m, o] = sum_k a[m, k] b[k, o],   m a pixel of the result, k = (i, j, channel): tap by tap, o a column
//
// A block owns ROWS x COLUMNS of z and goes through k in tiles of DEPTH, of which the next one is on its way from
// global memory while the present one is multiplied (two buffers of shared memory, one barrier a tile). A
// thread owns TALL rows x 4 columns. The order of a sum depends on k alone, so an image's bits do not depend on
// its place in the batch. Nothing is added atomically. Sums of one sign are products of parts of a and b.
#pragma once
#include "common.cuh"

constexpr int ROWS = 128, DEPTH = 16;

// A product: which map is gathered from, where a tap lies, and the matrix of weights w (i, j, c, o).
struct Product {
    const float* a;      // (n, height, width, depth)
    const float* w;      // as (k, columns), or with `flip` (tap, columns, depth), read transposed
    int height, width, depth;
    int p, q;            // pixels of the result, the odd last dropped where pool is 2
    int size, origin, step;  // tap (i, j) of pixel (y, x) lies at (y + origin + step i, x + origin + step j)
    int columns;
    int pool;            // 1, or 2: the rows come window by window, four to a 2x2 window
    int rows;
    bool flip;
};

struct Pixel {
    int image, y, x;
    bool inside;
};

// The pixel of row m. SPREAD: a window's four rows are m, m + 1, m + 8, m + 9, as a lane of mma holds them.
template <bool SPREAD>
__device__ inline Pixel pixel_of(const Product& t, int m) {
    if (t.pool == 1) {
        const int rest = m % (t.p * t.q);
        return {m / (t.p * t.q), rest / t.q, rest % t.q, m < t.rows};
    }
    const int window = SPREAD ? m / 16 * 4 + m % 8 / 2 : m / 4;
    const int place = SPREAD ? m % 16 / 8 * 2 + m % 2 : m % 4;
    const int across = t.q / 2, area = t.p / 2 * across, rest = window % area;
    return {window / area, rest / across * 2 + place / 2, rest % across * 2 + place % 2, window < t.rows / 4};
}

// Tap and channel of a k, which goes up in steps.
struct Tap {
    int i, j, c;
    __device__ void advance(int by, int size, int depth) {
        for (c += by; c >= depth; c -= depth) {
            if (++j == size) j = 0, ++i;
        }
    }
};

__device__ inline Tap tap_of(int k, int size, int depth) {
    const int tap = k / depth;
    return {tap / size, tap % size, k % depth};
}

// Four k of THREADS / 4 rows at a time: thread t loads k = 4 (t % 4) … + 3 of the rows t / 4, t / 4 + THREADS / 4, …
template <int THREADS, bool SPREAD>
struct Gather {
    static constexpr int QUADS = ROWS * DEPTH / 4 / THREADS;
    long long at[QUADS];  // where the first tap of the row's window lies: it may be outside of the map
    int y[QUADS], x[QUADS];

    __device__ Gather(const Product& t) {
#pragma unroll
        for (int r = 0; r < QUADS; ++r) {
            const Pixel of = pixel_of<SPREAD>(t, blockIdx.x * ROWS + threadIdx.x / 4 + r * (THREADS / 4));
            y[r] = of.inside ? of.y + t.origin : -(1 << 30);  // such a row reads zeros
            x[r] = of.x + t.origin;
            at[r] = (((long long)of.image * t.height + y[r]) * t.width + x[r]) * t.depth;
        }
    }

    __device__ bool inside(const Product& t, int r, Tap tap) const {
        const int row = y[r] + t.step * tap.i, column = x[r] + t.step * tap.j;
        return tap.i < t.size && (unsigned)row < (unsigned)t.height && (unsigned)column < (unsigned)t.width;
    }

    __device__ void fetch(const Product& t, bool by_four, Tap tap, float4 (&found)[QUADS]) const {
        if (by_four) {
            const int shift = offset(t, tap);
#pragma unroll
            for (int r = 0; r < QUADS; ++r)
                found[r] = inside(t, r, tap) ? load4(t.a + (at[r] + shift)) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            return;
        }
#pragma unroll
        for (int r = 0; r < QUADS; ++r) {
            float v[4];
            for (int e = 0; e < 4; ++e) {
                Tap of_e = tap;
                of_e.advance(e, t.size, t.depth);
                v[e] = inside(t, r, of_e) ? t.a[at[r] + offset(t, of_e)] : 0.0f;
            }
            found[r] = make_float4(v[0], v[1], v[2], v[3]);
        }
    }

    // How far a tap's channel lies from the first tap's first.
    __device__ static int offset(const Product& t, Tap tap) {
        return t.step * (tap.i * t.width + tap.j) * t.depth + tap.c;
    }
};

// The thread's four weights of a tile: b[k, o … o + 3], or with `flip` b[k … k + 3, o].
template <int COLUMNS>
__device__ inline float4 fetch_weights(const Product& t, bool by_four, int k0, Tap tap) {
    const int per_row = COLUMNS / 4, total = t.size * t.size * t.depth;
    float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (threadIdx.x >= DEPTH * per_row) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (!t.flip) {
        const int k = k0 + threadIdx.x / per_row, o = blockIdx.y * COLUMNS + threadIdx.x % per_row * 4;
        const float* from = t.w + (size_t)k * t.columns + o;
        if (by_four) return k < total && o < t.columns ? load4(from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int e = 0; e < 4; ++e)
            if (k < total && o + e < t.columns) v[e] = from[e];
    } else {
        const int o = blockIdx.y * COLUMNS + threadIdx.x / 4;
        const size_t at = ((size_t)(tap.i * t.size + tap.j) * t.columns + o) * t.depth + tap.c;
        if (by_four) return tap.i < t.size && o < t.columns ? load4(t.w + at) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int e = 0; e < 4; ++e) {
            if (tap.i < t.size && o < t.columns)
                v[e] = t.w[((size_t)(tap.i * t.size + tap.j) * t.columns + o) * t.depth + tap.c];
            tap.advance(1, t.size, t.depth);
        }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}

template <int COLUMNS, int STRIDE>
__device__ inline void store_weights(float (&b)[DEPTH][STRIDE], bool flip, float4 v) {
    const int t = threadIdx.x, per_row = COLUMNS / 4;
    if (t >= DEPTH * per_row) return;
    if (!flip) {
        store4(&b[t / per_row][t % per_row * 4], v);
    } else {
        b[t % 4 * 4][t / 4] = v.x;
        b[t % 4 * 4 + 1][t / 4] = v.y;
        b[t % 4 * 4 + 2][t / 4] = v.z;
        b[t % 4 * 4 + 3][t / 4] = v.w;
    }
}

__device__ inline bool gathers_by_four(const Product& t) { return t.depth % 4 == 0 && is_aligned(t.a); }

__device__ inline bool weighs_by_four(const Product& t) {
    return is_aligned(t.w) && (t.flip ? t.depth : t.columns) % 4 == 0;
}

// a+ and a-; a NaN stays in both.
__device__ inline float positive(float v) { return v < 0.0f ? 0.0f : v; }
__device__ inline float negative(float v) { return v > 0.0f ? 0.0f : v; }

// Which numbers of a factor take part; the others count as 0.
enum Part { ALL, POSITIVE, NEGATIVE };

__device__ inline float4 part4(Part part, float4 v) {
    if (part == POSITIVE) return make_float4(positive(v.x), positive(v.y), positive(v.z), positive(v.w));
    if (part == NEGATIVE) return make_float4(negative(v.x), negative(v.y), negative(v.z), negative(v.w));
    return v;
}

__device__ inline bool has_negative(float4 v) { return v.x < 0.0f || v.y < 0.0f || v.z < 0.0f || v.w < 0.0f; }

// Add the block's products to `sum`. Thread t owns the rows t / (COLUMNS / 4) TALL + r and the columns
// t % (COLUMNS / 4) 4 + c of its tile. MORE: the kernel goes on to another product, by the same shared memory; then it
// says whether the block left out any negative a.
template <bool MORE, int COLUMNS, int TALL>
__device__ inline bool multiply(const Product& t, Part of_a, Part of_b, float (&sum)[TALL][4]) {
    constexpr int THREADS = COLUMNS / 4 * (ROWS / TALL);
    SHARED(float, as, [2][DEPTH][ROWS + 4]);
    SHARED(float, bs, [2][DEPTH][COLUMNS + 4]);
    using Rows = Gather<THREADS, false>;
    const Rows gather(t);
    const bool by_four = gathers_by_four(t), weights_by_four = weighs_by_four(t);
    const int total = t.size * t.size * t.depth, tiles = (total + DEPTH - 1) / DEPTH;
    const int quad = threadIdx.x % 4, row = threadIdx.x / 4;
    const int top = threadIdx.x / (COLUMNS / 4) * TALL, left = threadIdx.x % (COLUMNS / 4) * 4;
    Tap tap = tap_of(4 * quad, t.size, t.depth);
    float4 next[Rows::QUADS], next_weights;
    bool below = false;

    const auto fetch = [&](int tile) {
        gather.fetch(t, by_four, tap, next);
        next_weights = fetch_weights<COLUMNS>(t, weights_by_four, tile * DEPTH, tap);
        tap.advance(DEPTH, t.size, t.depth);
    };
    const auto store = [&](int side) {
#pragma unroll
        for (int r = 0; r < Rows::QUADS; ++r) {
            const float4 v = part4(of_a, next[r]);
            const int at = row + r * (THREADS / 4);
            as[side][4 * quad][at] = v.x;
            as[side][4 * quad + 1][at] = v.y;
            as[side][4 * quad + 2][at] = v.z;
            as[side][4 * quad + 3][at] = v.w;
            if (of_a == POSITIVE) below |= has_negative(next[r]);
        }
        store_weights<COLUMNS>(bs[side], t.flip, part4(of_b, next_weights));
    };

    fetch(0);
    store(0);
    for (int tile = 0; tile < tiles; ++tile) {
        __syncthreads();
        if (tile + 1 < tiles) fetch(tile + 1);
        const int side = tile & 1;
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const float4 b = load4(&bs[side][k][left]);
#pragma unroll
            for (int r = 0; r < TALL; ++r) {
                const float a = as[side][k][top + r];
                sum[r][0] += a * b.x;
                sum[r][1] += a * b.y;
                sum[r][2] += a * b.z;
                sum[r][3] += a * b.w;
            }
        }
        if (tile + 1 < tiles) store(side ^ 1);
    }
    return MORE && __syncthreads_or(below);
}
