// The gradients of 3 x 3 convolutions of 12 x 12 maps to 64 channels, in tf32: all nine taps in one block's registers,
// so that x and dz are read once. Where blocks own single taps, nine of them read the same pixels.
//
//     dw[i, j, c, o] = sum over images and pixels of x[y + i - 1, x + j - 1, c] dz[y, x, o]
//
// A block goes through its images, the next one on its way by asynchronous copies, and writes its own sums to
// partial (block, 9 C + 1, 64), with db as the last row; conv2d_gradients_sum adds them. A warp owns a row of taps and 16
// channels: three tiles of 16 channels, and 64 o. A product's k are eight pixels: four, and the four six rows below.
// Maps lie in shared memory as cells of four channels, as in chain.cu; the 32 words that a warp loads meet no bank twice.
#include "include/common.cuh"
#include "include/machine.cuh"

constexpr int SIDE = 12, PIXELS = SIDE * SIDE, OUT = 64;
constexpr int PITCH = 14, CELLS = 196, CELLS_OF_DZ = 148;  // of a slab: 4 modulo 8

template <int C>
struct Memory {
    static constexpr int WARPS = 3 * C / 16, THREADS = WARPS * 32;
    static constexpr int MAP = C / 4 * CELLS * 16, BOTH = MAP + OUT / 4 * CELLS_OF_DZ * 16;  // bytes: of x; and of dz
    static constexpr int BYTES = 2 * BOTH + THREADS * 16;  // the last for db: four sums of each thread
};

// Where 16 bytes of an image go in shared memory: eight threads take the cells of two slabs, of four pixels each.
__device__ inline int slab_of(int e, int slabs) { return e / 8 % (slabs / 2) * 2 + e % 2; }
__device__ inline int pixel_of(int e, int slabs) { return e / (4 * slabs) * 4 + e / 2 % 4; }
__device__ inline int cell_of_x(int slab, int pixel) {
    return slab * CELLS + (pixel / SIDE + 1) * PITCH + pixel % SIDE + 1;
}

__device__ inline uint4 rounded_words(uint4 v) {
    return make_uint4(to_tf32(__uint_as_float(v.x)), to_tf32(__uint_as_float(v.y)), to_tf32(__uint_as_float(v.z)),
                      to_tf32(__uint_as_float(v.w)));
}

template <int C>
__device__ inline void clear_borders(SharedAddress memory) {
    using M = Memory<C>;
    for (int e = threadIdx.x; e < 2 * (C / 4) * CELLS; e += M::THREADS) {
        const int side = e / (C / 4 * CELLS), cell = e % CELLS, row = cell / PITCH, column = cell % PITCH;
        if (row == 0 || row == 13 || column == 0 || column == 13)
            store_four_words(memory + side * M::BOTH + e % (C / 4 * CELLS) * 16, make_uint4(0, 0, 0, 0));
    }
}

// Begin to copy an image's x and dz.
template <int C>
__device__ inline void begin_copies(const float* x, const float* dz, SharedAddress to) {
    using M = Memory<C>;
    for (int e = threadIdx.x; e < PIXELS * C / 4; e += M::THREADS) {
        const int slab = slab_of(e, C / 4), pixel = pixel_of(e, C / 4);
        copy_async(to + cell_of_x(slab, pixel) * 16, x + pixel * C + slab * 4);
    }
    for (int e = threadIdx.x; e < PIXELS * OUT / 4; e += M::THREADS) {
        const int slab = slab_of(e, OUT / 4), pixel = pixel_of(e, OUT / 4);
        copy_async(to + M::MAP + (slab * CELLS_OF_DZ + pixel) * 16, dz + pixel * OUT + slab * 4);
    }
}

// Round to tf32 what this thread has copied, and add its dz, which are all of one slab, to its part of db.
template <int C>
__device__ inline void round_copies(SharedAddress at, SharedAddress bias) {
    using M = Memory<C>;
    for (int e = threadIdx.x; e < PIXELS * C / 4; e += M::THREADS) {
        const SharedAddress cell = at + cell_of_x(slab_of(e, C / 4), pixel_of(e, C / 4)) * 16;
        store_four_words(cell, rounded_words(load_four_words(cell)));
    }
    uint4 sum = load_four_words(bias);
    for (int e = threadIdx.x; e < PIXELS * OUT / 4; e += M::THREADS) {
        const SharedAddress cell =
            at + M::MAP + (slab_of(e, OUT / 4) * CELLS_OF_DZ + pixel_of(e, OUT / 4)) * 16;
        const uint4 v = load_four_words(cell);
        sum.x = __float_as_uint(__uint_as_float(sum.x) + __uint_as_float(v.x));
        sum.y = __float_as_uint(__uint_as_float(sum.y) + __uint_as_float(v.y));
        sum.z = __float_as_uint(__uint_as_float(sum.z) + __uint_as_float(v.z));
        sum.w = __float_as_uint(__uint_as_float(sum.w) + __uint_as_float(v.w));
        store_four_words(cell, rounded_words(v));
    }
    store_four_words(bias, sum);
}

// Add an image's products.
template <int C>
__device__ inline void multiply_image(float (&sum)[3][8][4], SharedAddress at) {
    using M = Memory<C>;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int i = warp / (C / 16), group = warp % (C / 16);
    const SharedAddress of_x = at + ((group * 4 + g / 4) * CELLS + i * PITCH + t) * 16 + g % 4 * 4;
    const SharedAddress of_dz = at + M::MAP + (g / 4 * CELLS_OF_DZ + t) * 16 + g % 4 * 4;
#pragma unroll 1
    for (int y = 0; y < 6; ++y) {
#pragma unroll
        for (int q = 0; q < 3; ++q) {
            unsigned a[3][4], b[8][2];
#pragma unroll
            for (int j = 0; j < 3; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    a[j][e] = load_word(of_x + (y * PITCH + 4 * q + j + e / 2 * 6 * PITCH + e % 2 * 2 * CELLS) * 16);
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                    b[n][e] = load_word(of_dz + (y * SIDE + 4 * q + e * 6 * SIDE + 2 * n * CELLS_OF_DZ) * 16);
#pragma unroll
            for (int j = 0; j < 3; ++j)
#pragma unroll
                for (int n = 0; n < 8; ++n) multiply_tf32_words(sum[j][n], a[j], b[n][0], b[n][1]);
        }
    }
}

// The sum of db for o = threadIdx.x: the parts of the threads that had its slab, in their order.
template <int C>
__device__ inline float bias_of(SharedAddress parts) {
    const int slab = threadIdx.x / 4;
    float sum = 0.0f;
    for (int first = 0; first < Memory<C>::THREADS; first += 64)
        for (int of_eight = 0; of_eight < 4; ++of_eight) {
            const int thread = first + slab / 2 * 8 + of_eight * 2 + slab % 2;
            sum += __uint_as_float(load_word(parts + thread * 16 + threadIdx.x % 4 * 4));
        }
    return sum;
}

template <int C>
__device__ inline void gradients(const float* __restrict__ x, const float* __restrict__ dz,
                                 float* __restrict__ partial, int images) {
    using M = Memory<C>;
    DYNAMIC_SHARED(dynamic, M::BYTES);
    const SharedAddress memory = shared_address(dynamic), parts = memory + 2 * M::BOTH;
    const SharedAddress bias = parts + threadIdx.x * 16;
    store_four_words(bias, make_uint4(0, 0, 0, 0));
    clear_borders<C>(memory);
    const auto fetch = [&](int image, int side) {
        if (image < images)
            begin_copies<C>(x + (size_t)image * PIXELS * C, dz + (size_t)image * PIXELS * OUT, memory + side * M::BOTH);
        commit_copies();
    };
    float sum[3][8][4] = {};
    fetch(blockIdx.x, 0);
    int side = 0;
#pragma unroll 1
    for (int image = blockIdx.x; image < images; image += gridDim.x) {
        wait_for_copies<0>();
        round_copies<C>(memory + side * M::BOTH, bias);
        __syncthreads();  // all see the image, and are done with the one before
        fetch(image + gridDim.x, side ^ 1);
        multiply_image<C>(sum, memory + side * M::BOTH);
        side ^= 1;
    }
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float* const out = partial + (size_t)blockIdx.x * (9 * C + 1) * OUT;
#pragma unroll
    for (int j = 0; j < 3; ++j)
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int k = (warp / (C / 16) * 3 + j) * C + warp % (C / 16) * 16 + g + 8 * h;
                *reinterpret_cast<float2*>(out + k * OUT + n * 8 + 2 * t) =
                    make_float2(sum[j][n][2 * h], sum[j][n][2 * h + 1]);
            }
    __syncthreads();
    if (threadIdx.x < OUT) out[9 * C * OUT + threadIdx.x] = bias_of<C>(parts);
}

extern "C" __global__ void __launch_bounds__(384, 1) conv2d_gradients_whole_64(const float* __restrict__ x,
                                                                               const float* __restrict__ dz,
                                                                               float* __restrict__ partial,
                                                                               int images) {
    gradients<64>(x, dz, partial, images);
}
extern "C" __global__ void __launch_bounds__(192, 1) conv2d_gradients_whole_32(const float* __restrict__ x,
                                                                               const float* __restrict__ dz,
                                                                               float* __restrict__ partial,
                                                                               int images) {
    gradients<32>(x, dz, partial, images);
}
