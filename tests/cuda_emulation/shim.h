// CUDA C++ as g++ understands it: what the kernels use of the language, and nothing more.
#pragma once
#include "fibers.h"

#include <cmath>

#define EMULATED 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define SHARED(type, name, dims)       \
    alignas(16) static type name dims; \
    emu::register_shared(&name, sizeof(name))

#define __syncthreads() ((void)emu::barrier(__LINE__, 0))
#define __syncthreads_or(predicate) emu::barrier(__LINE__, (predicate))
#define __syncwarp() emu::warp_barrier()

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline float4 load4(const float* p) {
    if ((uintptr_t)p & 15) emu::fail("a load of four floats that is not aligned");
    return {p[0], p[1], p[2], p[3]};
}
static inline void store4(float* p, float4 v) {
    if ((uintptr_t)p & 15) emu::fail("a store of four floats that is not aligned");
    p[0] = v.x, p[1] = v.y, p[2] = v.z, p[3] = v.w;
}

static inline unsigned __float_as_uint(float x) {
    unsigned u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float __uint_as_float(unsigned u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
static inline float __fmul_rn(float a, float b) { return a * b; }

static inline float __shfl_xor_sync(unsigned, float value, int mask) {
    const unsigned word = __float_as_uint(value);
    const int lane = emu::current % 32;
    return __uint_as_float(emu::exchange(&word, 1)[lane ^ mask][0]);
}

// cvt.rna.tf32.f32: to 10 bits of mantissa, ties away from zero.
static inline unsigned to_tf32(float x) {
    const unsigned u = __float_as_uint(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}

// mma.sync.m16n8k8, tf32: c (16 x 8) += a (16 x 8) b (8 x 8), spread over the lanes of a warp as the hardware does.
static inline void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto lanes = emu::exchange(words, 6);
    const int lane = emu::current % 32, group = lane / 4, within = lane % 4;
    for (int i = 0; i < 4; ++i) {
        const int row = group + 8 * (i / 2), column = 2 * within + i % 2;
        float sum = 0.0f;
        for (int k = 0; k < 8; ++k) {
            const unsigned left = lanes[row % 8 * 4 + k % 4][row / 8 + 2 * (k / 4)];
            const unsigned right = lanes[column * 4 + k % 4][4 + k / 4];
            if ((left | right) & 0x1fffu) emu::fail("an operand of mma_tf32 that is not rounded to tf32");
            sum += __uint_as_float(left) * __uint_as_float(right);
        }
        c[i] += sum;
    }
}
