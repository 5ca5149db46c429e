// The gradients of the five convolutions of CAP and Deep-HiTS, of stamps of 21 x 21 pixels, in one launch and in tf32, with
// every tap in the registers of a block, so that x and dz are read once:
//
//     dw[i, j, c, o] = sum over images and pixels of x[y + i - 1, x + j - 1, c] dz[y, x, o]
//
// Each layer has blocks of its own. A block goes through its tiles (an image of 12 x 12 pixels, or half of one of 24 x
// 24), and writes its warps' own sums; step_update.cu adds them. Products' k are eight pixels. Maps lie in shared memory
// as cells of four channels, as in chain.cu; the 32 words that a warp loads meet no bank twice.
//
// With two BUFFERS the next tile is on its way while one is multiplied; with one a block takes half of the memory (GPUs of
// sm_86 and sm_89 have 99 KB). The sums and their order are the same.
#include "include/common.cuh"
#include "include/machine.cuh"

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

// The sums of block `block` of a layer's `blocks`, to partial (blocks PARTS, k + 1, o). db is in the first part's.
template <class Layer, int BUFFERS>
__device__ inline void gradients(const float* x, const float* dz, float* partial, int channels, int images, int block,
                                 int blocks, SharedAddress memory, SharedAddress parts) {
    using Dz = typename Layer::Dz;
    constexpr int O = Dz::SLABS * 4;
    const int tiles = images * Layer::TILES_OF_IMAGE;
    const auto fetch = [&](int tile, int side) {
        if (tile < tiles) {
            Layer::begin_copies(x, channels, tile, memory + side * Layer::BYTES);
            Dz::begin_copies(dz + (size_t)tile * Dz::PIXELS * O, memory + side * Layer::BYTES + Layer::MAP);
        }
        commit_copies();
    };
    for (int side = 0; side < BUFFERS; ++side) Layer::clear(memory + side * Layer::BYTES);
    const SharedAddress bias = parts + threadIdx.x * 16;
    store_four_words(bias, make_uint4(0, 0, 0, 0));
    Layer layer = {};
    int side = 0;
    if (BUFFERS == 2) fetch(block, 0);
#pragma unroll 1
    for (int tile = block; tile < tiles; tile += blocks) {
        if (BUFFERS == 1) {
            __syncthreads();  // all are done with the tile before
            fetch(tile, 0);
        }
        const SharedAddress at = memory + side * Layer::BYTES;
        wait_for_copies<0>();
        Layer::round(at);
        Dz::round(at + Layer::MAP, bias);
        __syncthreads();  // all see the tile, and with two buffers are done with the one before
        if (BUFFERS == 2) fetch(tile + blocks, side ^ 1);
        layer.multiply(at);
        side ^= BUFFERS - 1;
    }
    const int k = Layer::rows_of(channels);
    float* const out = partial + (size_t)block * Layer::PARTS * (k + 1) * O;
    layer.write(out, channels);
    __syncthreads();
    Dz::write_bias(parts, out + k * O);
    for (int e = threadIdx.x; e < (Layer::PARTS - 1) * O; e += THREADS) out[(e / O + 1) * (k + 1) * O + k * O + e % O] = 0.0f;
}

using First = FourTaps;
using Second = ThreeTaps<32, 32, 24, 2>;
using Third = ThreeTaps<32, 64, 12, 1>;
using Later = ThreeTaps<64, 64, 12, 1>;

#define GRADIENTS_PARAMETERS                                                                                 \
    const float* __restrict__ x1, const float* __restrict__ x2, const float* __restrict__ x3,                \
        const float* __restrict__ x4, const float* __restrict__ x5, const float* __restrict__ dz1,           \
        const float* __restrict__ dz2, const float* __restrict__ dz3, const float* __restrict__ dz4,         \
        const float* __restrict__ dz5, float* __restrict__ partial1, float* __restrict__ partial2,           \
        float* __restrict__ partial3, float* __restrict__ partial4, float* __restrict__ partial5,            \
        int blocks1, int blocks2, int blocks3, int blocks4, int blocks5, int channels, int images
#define GRADIENTS_ARGUMENTS                                                                                  \
    x1, x2, x3, x4, x5, dz1, dz2, dz3, dz4, dz5, partial1, partial2, partial3, partial4, partial5, blocks1,  \
        blocks2, blocks3, blocks4, blocks5, channels, images

// The blocks of the later layers, which have the most to do, come first.
template <int BUFFERS>
__device__ inline void all_gradients(GRADIENTS_PARAMETERS) {
    constexpr int MOST = Later::BYTES > Second::BYTES ? Later::BYTES : Second::BYTES;
    DYNAMIC_SHARED(dynamic, BUFFERS * MOST + THREADS * 16);
    const SharedAddress memory = shared_address(dynamic), parts = memory + BUFFERS * MOST;
    int block = blockIdx.x;
    if (block < blocks5)
        return gradients<Later, BUFFERS>(x5, dz5, partial5, 64, images, block, blocks5, memory, parts);
    if ((block -= blocks5) < blocks4)
        return gradients<Later, BUFFERS>(x4, dz4, partial4, 64, images, block, blocks4, memory, parts);
    if ((block -= blocks4) < blocks2)
        return gradients<Second, BUFFERS>(x2, dz2, partial2, 32, images, block, blocks2, memory, parts);
    if ((block -= blocks2) < blocks3)
        return gradients<Third, BUFFERS>(x3, dz3, partial3, 32, images, block, blocks3, memory, parts);
    gradients<First, BUFFERS>(x1, dz1, partial1, channels, images, block - blocks3, blocks1, memory, parts);
}

extern "C" __global__ void __launch_bounds__(384, 1) step_gradients(GRADIENTS_PARAMETERS) {
    all_gradients<2>(GRADIENTS_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(384, 1) step_gradients_one_buffer(GRADIENTS_PARAMETERS) {
    all_gradients<1>(GRADIENTS_ARGUMENTS);
}
