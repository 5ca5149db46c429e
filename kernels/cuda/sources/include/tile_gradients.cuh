// One tile's part of a convolution's gradients, for step_gradients.cu: how x and dz come to shared memory, what a warp
// multiplies, and where its sums go. A product's k are eight pixels. Maps lie in shared memory as cells of four channels, as
// in maps.cuh; the 32 words that a warp loads meet no bank twice.
//
// ThreeTaps and FourTaps are layers: `clear`, `begin_copies` and `round` bring a tile of x, `multiply` adds its products to
// the warp's sums, and `write` writes these. Adjoint does the same for dz, and adds up db.
#pragma once
#include "common.cuh"
#include "machine.cuh"

constexpr int THREADS = 384, TILE = 12;  // rows of a tile

__device__ inline uint4 rounded_words(uint4 v) {
    return make_uint4(to_tf32(__uint_as_float(v.x)), to_tf32(__uint_as_float(v.y)), to_tf32(__uint_as_float(v.z)),
                      to_tf32(__uint_as_float(v.w)));
}

// Where 16 bytes of a map go: eight threads take the cells of two slabs, of four pixels each.
__device__ inline int slab_of(int e, int slabs) { return e / 8 % (slabs / 2) * 2 + e % 2; }
__device__ inline int pixel_of(int e, int slabs) { return e / (4 * slabs) * 4 + e / 2 % 4; }

// dz in shared memory: rows of WIDTH pixels, O channels.
template <int WIDTH, int O>
struct Adjoint {
    static constexpr int SLABS = O / 4, PIXELS = TILE * WIDTH, CELLS = PIXELS + 4;  // of a slab: 4 modulo 8
    static constexpr int BYTES = SLABS * CELLS * 16;

    __device__ static void begin_copies(const float* dz, SharedAddress to) {
        for (int e = threadIdx.x; e < PIXELS * SLABS; e += THREADS)
            copy_async(to + cell(e), dz + pixel_of(e, SLABS) * O + slab_of(e, SLABS) * 4);
    }

    // Round to tf32 what this thread has copied, and add it, which is all of one slab, to its part of db.
    __device__ static void round(SharedAddress at, SharedAddress bias) {
        uint4 sum = load_four_words(bias);
        for (int e = threadIdx.x; e < PIXELS * SLABS; e += THREADS) {
            const uint4 v = load_four_words(at + cell(e));
            sum.x = __float_as_uint(__uint_as_float(sum.x) + __uint_as_float(v.x));
            sum.y = __float_as_uint(__uint_as_float(sum.y) + __uint_as_float(v.y));
            sum.z = __float_as_uint(__uint_as_float(sum.z) + __uint_as_float(v.z));
            sum.w = __float_as_uint(__uint_as_float(sum.w) + __uint_as_float(v.w));
            store_four_words(at + cell(e), rounded_words(v));
        }
        store_four_words(bias, sum);
    }

    // b[n] for the columns 8 n + g and the pixels `pixel` + t and, as k = t + 4, those `further`.
    template <int TILES>
    __device__ static void load(unsigned (&b)[TILES][2], SharedAddress at, int pixel, int further) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int n = 0; n < TILES; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                b[n][e] = load_word(at + ((g / 4 + 2 * n) * CELLS + t + pixel + e * further) * 16 + g % 4 * 4);
    }

    // Write db, the sum of the threads' parts, which lie in `parts`, in their order.
    __device__ static void write_bias(SharedAddress parts, float* out) {
        if (threadIdx.x >= O) return;
        const int slab = threadIdx.x / 4;
        float sum = 0.0f;
        for (int first = 0; first < THREADS; first += 4 * SLABS)
            for (int of_eight = 0; of_eight < 4; ++of_eight) {
                const int thread = first + slab / 2 * 8 + of_eight * 2 + slab % 2;
                sum += __uint_as_float(load_word(parts + thread * 16 + threadIdx.x % 4 * 4));
            }
        out[threadIdx.x] = sum;
    }

private:
    __device__ static int cell(int e) { return (slab_of(e, SLABS) * CELLS + pixel_of(e, SLABS)) * 16; }
};

// A 3 x 3 convolution of C to O channels, pad 1, of maps of WIDTH x WIDTH. A warp owns a row of taps, 16 GROUP channels
// and all columns, and one of PARTS parts of a tile's pixels: 96 sums a thread.
template <int C, int O, int WIDTH, int GROUP>
struct ThreeTaps {
    static constexpr int TILES_OF_IMAGE = WIDTH / TILE, COLUMNS = O / 8, K = 9 * C;
    static constexpr int GROUPS = C / (16 * GROUP), PARTS = 4 / GROUPS;  // of the 12 warps: 3 x GROUPS x PARTS
    static constexpr int PITCH = WIDTH + 2, CELLS = (TILE + 2) * PITCH;  // of a slab: 4 modulo 8
    static constexpr int SLABS = C / 4, MAP = SLABS * CELLS * 16;
    using Dz = Adjoint<WIDTH, O>;
    static constexpr int BYTES = MAP + Dz::BYTES;
    // A product's pixels: four in a row, and four six rows below, or beside them where rows are long.
    static constexpr bool SHORT = WIDTH == 12;
    static constexpr int STEPS = SHORT ? TILE / 2 : TILE, ACROSS = SHORT ? 4 : 8;
    float sum[GROUP][3][COLUMNS][4];

    // Zeros around: beside all tiles, and above and below where a tile is a whole image.
    __device__ static void clear(SharedAddress memory) {
        for (int e = threadIdx.x; e < SLABS * CELLS; e += THREADS) {
            const int row = e % CELLS / PITCH, column = e % PITCH;
            const bool outside = TILES_OF_IMAGE == 1 && (row == 0 || row == TILE + 1);
            if (outside || column == 0 || column == PITCH - 1)
                store_four_words(memory + e * 16, make_uint4(0, 0, 0, 0));
        }
    }

    static constexpr int BESIDE = TILES_OF_IMAGE > 1;  // rows of the other tile above and below

    __device__ static void begin_copies(const float* x, int, int tile, SharedAddress to) {
        const int top = tile % TILES_OF_IMAGE * TILE - BESIDE;
        const float* const image = x + (size_t)(tile / TILES_OF_IMAGE) * WIDTH * WIDTH * C;
        for (int e = threadIdx.x; e < (TILE + 2 * BESIDE) * WIDTH * SLABS; e += THREADS) {
            const int slab = slab_of(e, SLABS), pixel = pixel_of(e, SLABS), row = top + pixel / WIDTH;
            const SharedAddress cell = to + place(e);
            if (row >= 0 && row < WIDTH)
                copy_async(cell, image + (row * WIDTH + pixel % WIDTH) * C + slab * 4);
            else
                store_four_words(cell, make_uint4(0, 0, 0, 0));
        }
    }

    __device__ static void round(SharedAddress at) {
        for (int e = threadIdx.x; e < (TILE + 2 * BESIDE) * WIDTH * SLABS; e += THREADS)
            store_four_words(at + place(e), rounded_words(load_four_words(at + place(e))));
    }

    __device__ void multiply(SharedAddress at) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int i = warp % 3, group = warp / 3 % GROUPS, part = warp / 3 / GROUPS;
        constexpr int FURTHER = SHORT ? TILE / 2 * PITCH : 4, FURTHER_OF_DZ = SHORT ? TILE / 2 * WIDTH : 4;
        const SharedAddress of_x = at + ((group * GROUP * 4 + g / 4) * CELLS + i * PITCH + t) * 16 + g % 4 * 4;
#pragma unroll 1
        for (int y = part * (STEPS / PARTS); y < (part + 1) * (STEPS / PARTS); ++y) {
#pragma unroll
            for (int q = 0; q < 3; ++q) {
                unsigned a[GROUP][3][4], b[COLUMNS][2];
#pragma unroll
                for (int m = 0; m < GROUP; ++m)
#pragma unroll
                    for (int j = 0; j < 3; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e)
                            a[m][j][e] = load_word(of_x + (y * PITCH + ACROSS * q + j + e / 2 * FURTHER +
                                                           (4 * m + e % 2 * 2) * CELLS) * 16);
                Dz::load(b, at + MAP, y * WIDTH + ACROSS * q, FURTHER_OF_DZ);
#pragma unroll
                for (int m = 0; m < GROUP; ++m)
#pragma unroll
                    for (int j = 0; j < 3; ++j)
#pragma unroll
                        for (int n = 0; n < COLUMNS; ++n) multiply_tf32_words(sum[m][j][n], a[m][j], b[n][0], b[n][1]);
            }
        }
    }

    // Where the e-th 16 bytes of a tile go.
    __device__ static int place(int e) {
        const int pixel = pixel_of(e, SLABS), row = pixel / WIDTH + 1 - BESIDE;
        return (slab_of(e, SLABS) * CELLS + row * PITCH + pixel % WIDTH + 1) * 16;
    }

    // Write the warp's sums to those of its part.
    __device__ void write(float* out, int) const {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int i = warp % 3, group = warp / 3 % GROUPS, part = warp / 3 / GROUPS;
        out += part * (K + 1) * O;
#pragma unroll
        for (int m = 0; m < GROUP; ++m)
#pragma unroll
            for (int j = 0; j < 3; ++j)
#pragma unroll
                for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        const int k = (i * 3 + j) * C + (group * GROUP + m) * 16 + g + 8 * h;
                        store2(out + k * O + n * 8 + 2 * t,
                               make_float2(sum[m][j][n][2 * h], sum[m][j][n][2 * h + 1]));
                    }
    }
    __device__ static int rows_of(int) { return K; }
};

// The first layer: 4 x 4 taps of up to four channels, pad 0, of maps of 27 x 27 to 24 x 24 x 32. A cell of x is a pixel. A
// warp owns a row of a tile's pixels and all taps: 64 sums a thread. Rows g and g + 8 of a product are the taps g / 4 and
// g / 4 + 2 of a row of taps, channel g % 4.
struct FourTaps {
    static constexpr int O = 32, WIDTH = 24, SIDE = 27, TILES_OF_IMAGE = 2, COLUMNS = O / 8, PARTS = 12;
    static constexpr int CELLS = (TILE + 3) * SIDE, MAP = CELLS * 16;
    using Dz = Adjoint<WIDTH, O>;
    static constexpr int BYTES = MAP + Dz::BYTES;
    float sum[4][1][COLUMNS][4];

    __device__ static void clear(SharedAddress) {}

    __device__ static void begin_copies(const float* x, int channels, int tile, SharedAddress to) {
        const float* const from = x + ((size_t)(tile / 2) * SIDE + tile % 2 * TILE) * SIDE * channels;
        for (int e = threadIdx.x; e < CELLS; e += THREADS) {
            if (channels == 4) {
                copy_async(to + e * 16, from + e * 4);
                continue;
            }
            unsigned v[4] = {0, 0, 0, 0};
#pragma unroll
            for (int c = 0; c < 3; ++c)
                if (c < channels) v[c] = __float_as_uint(from[e * channels + c]);
            store_four_words(to + e * 16, make_uint4(v[0], v[1], v[2], v[3]));
        }
    }

    __device__ static void round(SharedAddress at) {
        for (int e = threadIdx.x; e < CELLS; e += THREADS)
            store_four_words(at + e * 16, rounded_words(load_four_words(at + e * 16)));
    }

    __device__ void multiply(SharedAddress at) {
        const int y = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const SharedAddress of_x = at + (y * SIDE + g / 4 + t) * 16 + g % 4 * 4;
#pragma unroll 1
        for (int q = 0; q < 3; ++q) {
            unsigned a[4][4], b[COLUMNS][2];
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    a[i][e] = load_word(of_x + (i * SIDE + 8 * q + e % 2 * 2 + e / 2 * 4) * 16);
            Dz::load(b, at + MAP, y * WIDTH + 8 * q, 4);
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int n = 0; n < COLUMNS; ++n) multiply_tf32_words(sum[i][0][n], a[i], b[n][0], b[n][1]);
        }
    }

    __device__ void write(float* out, int channels) const {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        if (g % 4 >= channels) return;
        out += warp * (rows_of(channels) + 1) * O;
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const int k = (i * 4 + g / 4 + 2 * h) * channels + g % 4;
                    store2(out + k * O + n * 8 + 2 * t, make_float2(sum[i][0][n][2 * h], sum[i][0][n][2 * h + 1]));
                }
    }
    __device__ static int rows_of(int channels) { return 16 * channels; }
};
