// The gradients of the five convolutions of CAP and Deep-HiTS, of stamps of 21 x 21 pixels, in one launch and in tf32, with
// every tap in the registers of a block, so that x and dz are read once:
//
//     dw[i, j, c, o] = sum over images and pixels of x[y + i - 1, x + j - 1, c] dz[y, x, o]
//
// Each layer has blocks of its own. A block goes through its tiles (an image of 12 x 12 pixels, or half of one of 24 x
// 24; tile_gradients.cuh), and writes its warps' own sums; step_update.cu adds them.
//
// With two BUFFERS the next tile is on its way while one is multiplied; with one a block takes half of the memory (GPUs of
// sm_86 and sm_89 have 99 KB). The sums and their order are the same.
#include "include/tile_gradients.cuh"

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
