// Sums over windows of maps as one tiled matrix product (implicit GEMM): the windows are never written out.
//
//   z[m, o] = sum_k a[m, k] b[k, o],   m a pixel of the result, k = (i, j, channel): tap by tap, o a column
//
// A block owns ROWS x COLUMNS of z and goes through k in tiles of DEPTH, of which the next one is on its way from
// global memory while the present one is multiplied (two buffers of shared memory, one barrier a tile). A
// thread owns TALL rows x 4 columns. The order of a sum depends on k alone, so an image's bits do not depend on
// its place in the batch. Nothing is added atomically.
#pragma once
#include "common.cuh"

constexpr int ROWS = 128, DEPTH = 16;

// A product: which map is gathered from, where a tap lies, and the matrix of weights w (i, j, c, o).
struct Product {
    const float* a;      // (n, height, width, depth)
    const float* also;   // a second map of that shape (c- beside c+), or null
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

// The pixel of row m. SPREAD: a window's four rows are m, m + 8, m + 16, m + 24, as a lane of mma holds them.
template <bool SPREAD>
__device__ inline Pixel pixel_of(const Product& t, int m) {
    if (t.pool == 1) {
        const int rest = m % (t.p * t.q);
        return {m / (t.p * t.q), rest / t.q, rest % t.q, m < t.rows};
    }
    const int window = SPREAD ? m / 32 * 8 + m % 8 : m / 4, place = SPREAD ? m % 32 / 8 : m % 4;
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
    size_t image[QUADS];
    int y[QUADS], x[QUADS];

    __device__ Gather(const Product& t) {
#pragma unroll
        for (int r = 0; r < QUADS; ++r) {
            const Pixel at = pixel_of<SPREAD>(t, blockIdx.x * ROWS + threadIdx.x / 4 + r * (THREADS / 4));
            image[r] = (size_t)at.image * t.height * t.width * t.depth;
            y[r] = at.inside ? at.y + t.origin : -(1 << 30);  // such a row reads zeros
            x[r] = at.x + t.origin;
        }
    }

    __device__ float one(const Product& t, const float* a, int r, Tap tap) const {
        const int row = y[r] + t.step * tap.i, column = x[r] + t.step * tap.j;
        const bool inside = tap.i < t.size && row >= 0 && row < t.height && column >= 0 && column < t.width;
        return inside ? a[image[r] + ((size_t)row * t.width + column) * t.depth + tap.c] : 0.0f;
    }

    __device__ void fetch(const Product& t, const float* a, bool by_four, Tap tap, float4 (&found)[QUADS]) const {
#pragma unroll
        for (int r = 0; r < QUADS; ++r) {
            if (by_four) {
                const int row = y[r] + t.step * tap.i, column = x[r] + t.step * tap.j;
                const bool inside = tap.i < t.size && row >= 0 && row < t.height && column >= 0 && column < t.width;
                const size_t at = image[r] + ((size_t)row * t.width + column) * t.depth + tap.c;
                found[r] = inside ? load4(a + at) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            } else {
                float v[4];
                for (int e = 0; e < 4; ++e) {
                    Tap of_e = tap;
                    of_e.advance(e, t.size, t.depth);
                    v[e] = one(t, a, r, of_e);
                }
                found[r] = make_float4(v[0], v[1], v[2], v[3]);
            }
        }
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

__device__ inline bool gathers_by_four(const Product& t) {
    return t.depth % 4 == 0 && is_aligned(t.a) && (t.also == nullptr || is_aligned(t.also));
}

__device__ inline bool weighs_by_four(const Product& t) {
    return is_aligned(t.w) && (t.flip ? t.depth : t.columns) % 4 == 0;
}

// a+ and a-; a NaN stays in both.
__device__ inline float positive(float v) { return v < 0.0f ? 0.0f : v; }
__device__ inline float negative(float v) { return v > 0.0f ? 0.0f : v; }

// What is summed: SUM a b. SIDES the positive and the negative a b apart. SHARES, for relevance, with a = c+ and
// also = c-: first c+ w+ + c- w-, second c+ w- + c- w+.
enum Kind { SUM, SIDES, SHARES };

template <Kind KIND, int TALL>
__device__ inline void add_products(const float (&a)[TALL], const float (&also)[TALL], const float4 weights,
                                    bool mixed, float (&first)[TALL][4], float (&second)[TALL][4]) {
    const float b[4] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        const float above = positive(b[c]), below = negative(b[c]);
#pragma unroll
        for (int r = 0; r < TALL; ++r) {
            if (KIND == SUM) {
                first[r][c] += a[r] * b[c];
            } else if (KIND == SHARES) {
                first[r][c] += a[r] * above;
                first[r][c] += also[r] * below;
                if (mixed) {
                    second[r][c] += a[r] * below;
                    second[r][c] += also[r] * above;
                }
            } else if (!mixed) {
                first[r][c] += a[r] * above;
                second[r][c] += a[r] * below;
            } else {
                const float up = positive(a[r]), down = negative(a[r]);
                first[r][c] += up * above;
                first[r][c] += down * below;
                second[r][c] += up * below;
                second[r][c] += down * above;
            }
        }
    }
}

__device__ inline bool has_negative(float4 v) { return v.x < 0.0f || v.y < 0.0f || v.z < 0.0f || v.w < 0.0f; }

// The block's sums. Thread t owns the rows t / (COLUMNS / 4) TALL + r and the columns t % (COLUMNS / 4) 4 + c of
// its tile. `mixed` (of SHARES): whether the second sums are wanted.
template <Kind KIND, int COLUMNS, int TALL>
__device__ inline void multiply(const Product& t, bool mixed, float (&first)[TALL][4], float (&second)[TALL][4]) {
    constexpr int THREADS = COLUMNS / 4 * (ROWS / TALL), MAPS = KIND == SHARES ? 2 : 1;
    SHARED(float, as, [2][MAPS][DEPTH][ROWS + 4]);
    SHARED(float, bs, [2][DEPTH][COLUMNS + 4]);
    using Rows = Gather<THREADS, false>;
    const Rows gather(t);
    const bool by_four = gathers_by_four(t), weights_by_four = weighs_by_four(t);
    const int total = t.size * t.size * t.depth, tiles = (total + DEPTH - 1) / DEPTH;
    const int quad = threadIdx.x % 4, row = threadIdx.x / 4;
    const int top = threadIdx.x / (COLUMNS / 4) * TALL, left = threadIdx.x % (COLUMNS / 4) * 4;
    Tap tap = tap_of(4 * quad, t.size, t.depth);
    float4 next[MAPS][Rows::QUADS], next_weights;

    const auto fetch = [&](int tile) {
        gather.fetch(t, t.a, by_four, tap, next[0]);
        if (KIND == SHARES) gather.fetch(t, t.also, by_four, tap, next[MAPS - 1]);
        next_weights = fetch_weights<COLUMNS>(t, weights_by_four, tile * DEPTH, tap);
        tap.advance(DEPTH, t.size, t.depth);
    };
    const auto store = [&](int side) {  // gives whether it has negative numbers
        bool found = false;
#pragma unroll
        for (int map = 0; map < MAPS; ++map) {
#pragma unroll
            for (int r = 0; r < Rows::QUADS; ++r) {
                const float4 v = next[map][r];
                const int at = row + r * (THREADS / 4);
                as[side][map][4 * quad][at] = v.x;
                as[side][map][4 * quad + 1][at] = v.y;
                as[side][map][4 * quad + 2][at] = v.z;
                as[side][map][4 * quad + 3][at] = v.w;
                found |= has_negative(v);
            }
        }
        store_weights<COLUMNS>(bs[side], t.flip, next_weights);
        return found;
    };

#pragma unroll
    for (int r = 0; r < TALL; ++r)
        for (int c = 0; c < 4; ++c) first[r][c] = second[r][c] = 0.0f;
    fetch(0);
    int below = store(0);
    for (int tile = 0; tile < tiles; ++tile) {
        if (KIND == SIDES)
            mixed = __syncthreads_or(below);
        else
            __syncthreads();
        if (tile + 1 < tiles) fetch(tile + 1);
        const int side = tile & 1;
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            float a[TALL], also[TALL];
#pragma unroll
            for (int r = 0; r < TALL; ++r) {
                a[r] = as[side][0][k][top + r];
                also[r] = as[side][MAPS - 1][k][top + r];
            }
            const float4 weights = load4(&bs[side][k][left]);
            add_products<KIND, TALL>(a, also, weights, mixed, first, second);
        }
        if (tile + 1 < tiles) below = store(side ^ 1);
    }
}
