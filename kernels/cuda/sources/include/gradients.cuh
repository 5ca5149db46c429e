// dw[k, o] = sum_m x[m, k] dz[m, o] over the pixels m, k = (i, j, channel), and db[o] = sum_m dz[m, o].
//
// The pixels are shared out over blockIdx.z; each split writes its own sums, partial (split, k + 1, o) with db as
// the last row, and another kernel adds them in the order of the splits: no atomics, the same bits every time.
// A block of 128 threads owns 64 k x 64 or 32 o and goes through its pixels DEPTH at a time.
#pragma once
#include "tiles.cuh"

constexpr int TAPS = 64;  // k of a block

#define GRADIENT_PARAMETERS                                                                                  \
    const float* __restrict__ x, const float* __restrict__ dz, float* __restrict__ partial, int pad,         \
        int rows, int rows_of_split, int height, int width, int c, int size, int p, int q, int o
#define GRADIENT_ARGUMENTS x, dz, partial, pad, rows, rows_of_split, height, width, c, size, p, q, o

// The block's pixels, which fetch() goes through.
template <int COLUMNS>
struct Pixels {
    static constexpr int THREADS = 128, OF_X = 2, OF_DZ = COLUMNS / 32, ACROSS = COLUMNS / 4, DOWN = THREADS / ACROSS;
    // A thread's part of the tiles of x (DEPTH pixels x TAPS) and of dz (DEPTH x COLUMNS), on its way to shared memory.
    struct Next {
        float4 x[OF_X], dz[OF_DZ];
    };
    const float *x, *dz;
    int height, width, c, size, p, q, o, pad, last;
    int k, total;
    Tap tap;  // of k
    // The next pixels, where x of their tap lies (it may be outside of the map), and dz: they go up by DEPTH pixels,
    // without divisions.
    int row[OF_X], column[OF_X];
    long long x_at[OF_X], dz_at;
    bool x_by_four, dz_by_four;
    float4 bias;  // the thread's own part of db: four columns, every DOWN-th pixel

    // The next DEPTH pixels, which begin at `first`.
    __device__ void fetch(int first, Next& next) {
#pragma unroll
        for (int r = 0; r < OF_X; ++r) {
            next.x[r] = window_part(r, first + threadIdx.x / (TAPS / 4) + r * 8);
            x_at[r] += DEPTH * c;
            for (column[r] += DEPTH; column[r] >= q; column[r] -= q) {
                x_at[r] += (width - q) * c;
                if (++row[r] == p) row[r] = 0, x_at[r] += (height - p) * width * c;
            }
        }
        const int left = blockIdx.y * COLUMNS + threadIdx.x % ACROSS * 4;
#pragma unroll
        for (int r = 0; r < OF_DZ; ++r) {
            const int m = first + threadIdx.x / ACROSS + r * DOWN;
            const float* from = dz + (dz_at + r * DOWN * o);
            float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            if (dz_by_four && m < last && left < o) {
                next.dz[r] = load4(from);
            } else {
                for (int e = 0; e < 4; ++e)
                    if (!dz_by_four && m < last && left + e < o) v[e] = from[e];
                next.dz[r] = make_float4(v[0], v[1], v[2], v[3]);
            }
            bias.x += next.dz[r].x;
            bias.y += next.dz[r].y;
            bias.z += next.dz[r].z;
            bias.w += next.dz[r].w;
        }
        dz_at += DEPTH * o;
    }

    // x[m, k … k + 3], m the r-th pixel.
    __device__ float4 window_part(int r, int m) const {
        float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (m >= last || k >= total) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (x_by_four) return inside(r, tap) ? load4(x + x_at[r]) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        Tap of_e = tap;
        for (int e = 0; e < 4; ++e) {
            const int further = ((of_e.i - tap.i) * width + of_e.j - tap.j) * c + of_e.c - tap.c;
            if (inside(r, of_e)) v[e] = x[x_at[r] + further];
            of_e.advance(1, size, c);
        }
        return make_float4(v[0], v[1], v[2], v[3]);
    }

    __device__ bool inside(int r, Tap of) const {
        const int h = row[r] - pad + of.i, w = column[r] - pad + of.j;
        return of.i < size && (unsigned)h < (unsigned)height && (unsigned)w < (unsigned)width;
    }
};

template <int COLUMNS>
__device__ inline Pixels<COLUMNS> pixels_of(GRADIENT_PARAMETERS) {
    Pixels<COLUMNS> t;
    t.x = x, t.dz = dz;
    t.height = height, t.width = width, t.c = c, t.size = size, t.p = p, t.q = q, t.o = o, t.pad = pad;
    t.k = blockIdx.x * TAPS + threadIdx.x % (TAPS / 4) * 4;
    t.total = size * size * c;
    t.tap = tap_of(t.k, size, c);
    const int first = blockIdx.z * rows_of_split;
#pragma unroll
    for (int r = 0; r < t.OF_X; ++r) {
        const int m = first + threadIdx.x / (TAPS / 4) + r * 8, image = m / (p * q);
        t.row[r] = m % (p * q) / q, t.column[r] = m % q;
        const long long down = (long long)image * height + t.row[r] - pad + t.tap.i;
        t.x_at[r] = (down * width + t.column[r] - pad + t.tap.j) * c + t.tap.c;
    }
    t.dz_at = (long long)(first + threadIdx.x / t.ACROSS) * o + blockIdx.y * COLUMNS + threadIdx.x % t.ACROSS * 4;
    const int stop = (blockIdx.z + 1) * rows_of_split;
    t.last = stop < rows ? stop : rows;
    t.x_by_four = c % 4 == 0 && is_aligned(x);
    t.dz_by_four = o % 4 == 0 && is_aligned(dz);
    t.bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return t;
}

// Add up the threads' parts of db, in order, and write the split's last row.
template <int COLUMNS>
__device__ inline void write_bias(const Pixels<COLUMNS>& t, float* partial) {
    SHARED(float, parts, [Pixels<COLUMNS>::DOWN][COLUMNS]);
    if (blockIdx.x > 0) return;
    store4(&parts[threadIdx.x / t.ACROSS][threadIdx.x % t.ACROSS * 4], t.bias);
    __syncthreads();
    const int o = blockIdx.y * COLUMNS + threadIdx.x;
    if (threadIdx.x >= COLUMNS || o >= t.o) return;
    float sum = 0.0f;
    for (int part = 0; part < t.DOWN; ++part) sum += parts[part][threadIdx.x];
    partial[((size_t)blockIdx.z * (t.total + 1) + t.total) * t.o + o] = sum;
}
