// What the card gives: products on tensor cores alone, the chain's inmost step without barriers and copies, loads of
// matrices alone, the second cache, a kernel that does nothing. first.py tells the rates.
#include "include/common.cuh"
#include "include/machine.cuh"

template <bool HALF, int TILES>
__device__ inline void products(float* out, int loops) {
    float c[TILES][4] = {};
    unsigned a[4], b[4];
    for (int e = 0; e < 4; ++e) a[e] = (threadIdx.x * 7 + e) & 0x3c003c00, b[e] = (threadIdx.x * 5 + e) & 0x3c003c00;
#pragma unroll 1
    for (int i = 0; i < loops; ++i) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
            if (HALF)
                multiply_halves(c[n], a, b[n % 2 * 2], b[n % 2 * 2 + 1]);
            else
                multiply_tf32_words(c[n], a, b[n % 2 * 2], b[n % 2 * 2 + 1]);
        }
    }
    float sum = 0.0f;
    for (int n = 0; n < TILES; ++n) sum += c[n][0] + c[n][1] + c[n][2] + c[n][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
extern "C" __global__ void __launch_bounds__(192, 2) rate_fp16(float* out, int loops) { products<true, 24>(out, loops); }
extern "C" __global__ void __launch_bounds__(192, 2) rate_tf32(float* out, int loops) { products<false, 24>(out, loops); }

extern "C" __global__ void __launch_bounds__(192, 2) rate_step(float* out, int loops) {
    DYNAMIC_SHARED(memory, 65536);
    const SharedAddress at = shared_address(memory);
    for (int e = threadIdx.x; e < 65536 / 16; e += blockDim.x) store_four_words(at + e * 16, make_uint4(0, 0, 0, 0));
    __syncthreads();
    const int lane = threadIdx.x % 32, r = lane % 8, h = lane / 8 % 2, side = lane / 16;
    const SharedAddress rows =
        at + h * 20000 + (side * 196 + r / 4 * 84 + threadIdx.x / 64 * 4 + r % 4) * 16;
    const SharedAddress weights = at + 45056 + lane * 16;
    float c[6][4][4] = {};
#pragma unroll 1
    for (int i = 0; i < loops; ++i) {
        unsigned a[8][4];
        const int j = i % 3 * 16;
#pragma unroll
        for (int y = 0; y < 8; ++y) load_matrices(a[y], rows + j + y * 14 * 16);
#pragma unroll
        for (int t = 0; t < 3; ++t)
#pragma unroll
            for (int p = 0; p < 2; ++p) {
                const uint4 b = load_four_words(weights + t * 2048 + p * 512);
#pragma unroll
                for (int y = 0; y < 6; ++y) {
                    multiply_halves(c[y][2 * p], a[y + t], b.x, b.y);
                    multiply_halves(c[y][2 * p + 1], a[y + t], b.z, b.w);
                }
            }
    }
    float sum = 0.0f;
    for (int y = 0; y < 6; ++y)
        for (int n = 0; n < 4; ++n) sum += c[y][n][0] + c[y][n][1] + c[y][n][2] + c[y][n][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(192, 2) rate_loads(float* out, int loops) {
    DYNAMIC_SHARED(memory, 65536);
    const SharedAddress at = shared_address(memory) + threadIdx.x % 32 * 16;
    unsigned sum = 0;
#pragma unroll 1
    for (int i = 0; i < loops; ++i) {
        unsigned a[8][4];
#pragma unroll
        for (int y = 0; y < 8; ++y) load_matrices(a[y], at + (i & 7) * 16 + y * 512);
#pragma unroll
        for (int y = 0; y < 8; ++y) sum ^= a[y][0] ^ a[y][1] ^ a[y][2] ^ a[y][3];
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = __uint_as_float(sum);
}

// Every block reads the whole of x (count times 16 bytes), each from a place of its own on, past the first cache.
extern "C" __global__ void __launch_bounds__(512) rate_cache(const float* x, float* out, int count, int loops) {
    unsigned sum = 0, at = (blockIdx.x * 7919u * 512u + threadIdx.x) % count;
#pragma unroll 8
    for (int i = 0; i < loops; ++i) {
        uint4 v;
        asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "l"(x + 4 * (size_t)at));
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
        at += 512;
        if (at >= count) at -= count;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = __uint_as_float(sum);
}

extern "C" __global__ void rate_nothing(float* out) {
    if (out == nullptr) __syncthreads();
}
