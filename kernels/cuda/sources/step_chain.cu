// The convolutions of CAP and Deep-HiTS in a training step on stamps of 21 x 21 pixels: forward and backward, each in one
// launch and in tf32. A block takes one rotation of a stamp through all layers; what it finds is written to memory beside
// that, for the gradients (step_gradients.cu) and for the masks of the way back.
//
// Image k n + s is stamp s of n, turned k times. Blocks of a stamp's rotations are neighbours.
#include "include/convolutions.cuh"

using Pair = Tf32::Pair;

// Maps are (4 n, height, width, channels), rounded to tf32, in which all later kernels take them; index tells of each pooled
// pixel which of its window's four it is. x, the padded input of the first layer, is as it comes.
struct Maps {
    static constexpr bool WINNERS = true;
    int image;
    float *x, *y1, *y2, *y3, *y4, *y5;
    byte *index2, *index5;

    // Addresses are made when a layer is done: made before, they would take registers from its sums.
    __device__ void begin_layer() { forget(image); }
    __device__ void padded(int pixel, int channels, float4 v) const {
        float* const to = x + ((size_t)image * PADDED * PADDED + pixel) * channels;
        to[0] = v.x;
        if (channels > 1) to[1] = v.y;
        if (channels > 2) to[2] = v.z;
        if (channels > 3) to[3] = v.w;
    }
    __device__ void first(int pixel, int channel, Pair v) const {
        Tf32::write(y1 + ((size_t)image * 576 + pixel) * 32 + channel, v);
    }
    __device__ void second(int pixel, int channel, Pair v, unsigned winners) const {
        const size_t at = ((size_t)image * 144 + pixel) * 32 + channel;
        Tf32::write(y2 + at, v);
        write_winners(index2 + at, winners);
    }
    __device__ void later(int layer, int pixel, int channel, Pair v) const {
        Tf32::write((layer == 3 ? y3 : y4) + ((size_t)image * 144 + pixel) * 64 + channel, v);
    }
    __device__ void features(int, int pixel, int channel, Pair v, unsigned winners) const {
        const size_t at = (size_t)image * FEATURES + pixel * 64 + channel;
        Tf32::write(y5 + at, v);
        write_winners(index5 + at, winners);
    }
    __device__ static void write_winners(byte* to, unsigned winners) {
        *reinterpret_cast<unsigned short*>(to) = (unsigned short)winners;
    }
};

// x (n, 21, 21, channels).
#define FORWARD_PARAMETERS                                                                                   \
    const float* __restrict__ x, const unsigned char* __restrict__ packed, const float* __restrict__ biases, \
        float* __restrict__ padded, float* __restrict__ y1, float* __restrict__ y2, float* __restrict__ y3,  \
        float* __restrict__ y4, float* __restrict__ y5, unsigned char* __restrict__ index2,                  \
        unsigned char* __restrict__ index5, float slope, int channels, int n
#define FORWARD_ARGUMENTS                                                                                    \
    x, packed, biases, padded, y1, y2, y3, y4, y5, index2, index5, slope, channels, n

template <int SLOTS>
__device__ inline void forward(FORWARD_PARAMETERS) {
    using M = Memory<Tf32, 1, SLOTS>;
    DYNAMIC_SHARED(memory, M::BYTES);
    const int stamp = blockIdx.x / 4, turn = blockIdx.x % 4;
    convolutions<Tf32, 1, SLOTS>(x + (size_t)stamp * STAMP * STAMP * channels, turn, channels, packed, biases, slope,
                                 shared_address(memory),
                                 Maps{turn * n + stamp, padded, y1, y2, y3, y4, y5, index2, index5});
}

extern "C" __global__ void __launch_bounds__(192, 2) step_forward(FORWARD_PARAMETERS) { forward<3>(FORWARD_ARGUMENTS); }
// With one stage of weights on its way: for GPUs of small blocks. The same bits.
extern "C" __global__ void __launch_bounds__(192, 2) step_forward_small(FORWARD_PARAMETERS) {
    forward<2>(FORWARD_ARGUMENTS);
}

// Load a dz (12, 12, 64) into a map. Eight threads take the cells of two slabs, of four pixels each.
__device__ inline void load_map(const float* from, SharedAddress map) {
    for (int e = threadIdx.x; e < 144 * 16; e += THREADS) {
        const int slab = e / 8 % 8 * 2 + e % 2, pixel = e / 64 * 4 + e / 2 % 4;
        const float4 v = load4(from + pixel * 64 + slab * 4);
        Tf32::store_pixel(map + (slab * CELLS_12 + (pixel / 12 + 1) * PITCH_12 + pixel % 12 + 1) * 16, v);
    }
}

// dz of two channels, of what comes back to their outputs y.
__device__ inline float2 masked(const float (&dy)[4], int half, const float* y, float slope) {
    const float2 of = load2(y);
    const float first = dy[2 * half], second = dy[2 * half + 1];
    return make_float2(of.x > 0.0f ? first : slope * first, of.y > 0.0f ? second : slope * second);
}

#define BACKWARD_PARAMETERS                                                                                  \
    const float* __restrict__ dz5, const unsigned char* __restrict__ packed, const float* __restrict__ y1,   \
        const float* __restrict__ y2, const float* __restrict__ y3, const float* __restrict__ y4,            \
        const unsigned char* __restrict__ index2, float* __restrict__ dz1, float* __restrict__ dz2,          \
        float* __restrict__ dz3, float* __restrict__ dz4, float slope
#define BACKWARD_ARGUMENTS dz5, packed, y1, y2, y3, y4, index2, dz1, dz2, dz3, dz4, slope

// dz of every layer but the last: that of the layer above through its turned weights (chain_pack.cu), then through the
// activation and the pooling. Maps lie in shared memory as in the forward pass. A block has an image.
template <int SLOTS>
__device__ inline void backward(BACKWARD_PARAMETERS) {
    using S = Stages<Tf32>;
    using M = Memory<Tf32, 1, SLOTS>;
    DYNAMIC_SHARED(memory, M::BYTES - BIASES * 4);
    const SharedAddress map = shared_address(memory);
    Ring<SLOTS, S::BACKWARD> ring(map + M::MAP, packed);
    ring.begin();
    const size_t image = blockIdx.x;
    load_map(dz5 + image * (144 * 64), map);
    clear_borders_12<Tf32>(map);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int h = lane / 8 % 2, side = lane / 16, r = lane % 8;  // as in convolutions()

    {  // Through layers 5 to 3: strips of 4 x 12 pixels, two warps to each
        constexpr int FURTHER = 3 * PITCH_12 * 16;
        const int left = warp / 2 * 4;
        const SharedAddress rows = map + h * FURTHER + (side * CELLS_12 + r / 4 * 6 * PITCH_12 + left + r % 4) * 16;
        const int line = g / 4 * 6, column = left + g % 4;  // of the lane's first pixel
#pragma unroll 1
        for (int layer = 5; layer > 3; --layer) {
            const int first = warp % 2 * 4;  // of the warp's eights of columns
            Sums<3> sums;
            sums.clear();
#pragma unroll 1
            for (unsigned step = 0; step < 3 * S::STEPS_64; ++step) {
                const SharedAddress at = rows + (step % S::STEPS_64 * 2 * CELLS_12 + step / S::STEPS_64) * 16;
                multiply_step<Tf32, 3, PITCH_12>(sums, at, ring.next() + lane * 16 + first * 256, BLOCK_64);
            }
            __syncthreads();  // all have read the map that is now overwritten
            const float* const y = (layer == 5 ? y4 : y3) + image * (144 * 64);
            float* const dz = (layer == 5 ? dz4 : dz3) + image * (144 * 64);
            const SharedAddress to = map + ((line + 1) * PITCH_12 + column + 1) * 16;
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
                for (int i = 0; i < 3; ++i)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int at = ((line + i + 3 * half) * 12 + column) * 64 + (first + n) * 8 + 2 * t;
                        const float2 v = masked(sums.of[i][n], half, y + at, slope);
                        store2(dz + at, v);
                        Tf32::store<CELLS_12>(to + (i + 3 * half) * PITCH_12 * 16, first + n, t, {v.x, v.y});
                    }
        }

        Sums<3, 1> sums;  // 16 of 32 columns
        sums.clear();
#pragma unroll 1
        for (unsigned step = 0; step < 3 * S::STEPS_64; step += 2) {
            const SharedAddress weights = ring.next() + lane * 16 + warp % 2 * 512;
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                const SharedAddress at = rows + ((step + s) % S::STEPS_64 * 2 * CELLS_12 + step / S::STEPS_64) * 16;
                multiply_step<Tf32, 3, PITCH_12>(sums, at, weights + s * (STAGE / 2), BLOCK_32);
            }
        }
        __syncthreads();  // as above
        clear_borders_24<Tf32>(map);
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int i = 0; i < 3; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int row = line + i + 3 * half, eight = warp % 2 * 2 + n, channel = eight * 8 + 2 * t;
                    const size_t at = (image * 144 + row * 12 + column) * 32 + channel;
                    const float2 v = masked(sums.of[i][n], half, y2 + at, slope);
                    const unsigned winners = *reinterpret_cast<const unsigned short*>(index2 + at);
#pragma unroll
                    for (int pixel = 0; pixel < 4; ++pixel) {
                        // Lanes of two slabs take the window's columns in turns: else they would meet in banks.
                        const int place = pixel ^ t / 2, down = 2 * row + place / 2, across = 2 * column + place % 2;
                        const float2 here = make_float2((winners & 255) == place ? v.x : 0.0f,
                                                        winners >> 8 == place ? v.y : 0.0f);
                        store2(dz2 + (image * 576 + down * 24 + across) * 32 + channel, here);
                        Tf32::store<CELLS_24>(map + ((down + 1) * PITCH_24 + across + 1) * 16, eight, t,
                                              {here.x, here.y});
                    }
                }
    }

    // Through layer 2: strips of 8 x 12 pixels
    const int left = warp % 3 * 8, top = warp / 3 * 12;
    const SharedAddress rows = map + (side * CELLS_24 + (top + h * 6) * PITCH_24 + left + r) * 16;
    Sums<6> sums;
    sums.clear();
#pragma unroll 1
    for (int step = 0; step < 3 * S::STEPS_32; step += 2) {
        const SharedAddress weights = ring.next() + lane * 16;
        const SharedAddress at = rows + (step % S::STEPS_32 * 2 * CELLS_24 + step / S::STEPS_32) * 16;
#pragma unroll 1
        for (int s = 0; s < 2; ++s)
            multiply_step<Tf32, 6, PITCH_24>(sums, at + s * 2 * CELLS_24 * 16, weights + s * (STAGE / 2), BLOCK_32);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int i = 0; i < 6; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const size_t at = (image * 576 + (top + i + 6 * half) * 24 + left + g) * 32 + n * 8 + 2 * t;
                store2(dz1 + at, masked(sums.of[i][n], half, y1 + at, slope));
            }
}

extern "C" __global__ void __launch_bounds__(192, 2) step_backward(BACKWARD_PARAMETERS) {
    backward<3>(BACKWARD_ARGUMENTS);
}
// As above.
extern "C" __global__ void __launch_bounds__(192, 2) step_backward_small(BACKWARD_PARAMETERS) {
    backward<2>(BACKWARD_ARGUMENTS);
}
