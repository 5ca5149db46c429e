// The instructions of sm_80 and later that the tensor cores' kernels use: addresses in shared memory, copies that go on
// beside the arithmetic, matrix products. In emulation all are functions of tests/cuda_emulation/machine.h.
//
// DYNAMIC_SHARED(name, bytes) is the shared memory whose size the launch gives.
#pragma once

#ifndef EMULATED
#define DYNAMIC_SHARED(name, bytes) extern __shared__ __align__(128) unsigned char name[]

// Addresses in shared memory have a type of their own, of 32 bits: arithmetic on them takes half the instructions.
typedef unsigned SharedAddress;

__device__ inline SharedAddress shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// From here on the compiler knows nothing of a number: it computes nothing from it ahead of a loop whose registers are
// short.
__device__ inline void forget(int& v) { asm volatile("" : "+r"(v)); }

// Begin to copy 16 bytes from global to shared memory. Copies are grouped by commit_copies(). They have arrived after
// wait_for_copies<LEFT>() of their own thread, which leaves LEFT later groups on their way; other threads see them
// after a barrier.
__device__ inline void copy_async(SharedAddress to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// Load four matrices of 8 rows of 16 bytes: lane 8 m + r gives the address of row r of matrix m, and every lane l gets
// word l % 4 of row l / 4 of each matrix.
__device__ inline void load_matrices(unsigned (&a)[4], SharedAddress at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(at)
                 : "memory");
}

// Loads and stores of one word (32 bits), of two and of four.
__device__ inline unsigned load_word(SharedAddress at) {
    unsigned v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
    return v;
}
__device__ inline float2 load_two_words(SharedAddress at) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at) : "memory");
    return v;
}
__device__ inline uint4 load_four_words(SharedAddress at) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(at)
                 : "memory");
    return v;
}
__device__ inline void store_word(SharedAddress at, unsigned v) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}
__device__ inline void store_two_words(SharedAddress at, unsigned v, unsigned w) {
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(at), "r"(v), "r"(w) : "memory");
}
__device__ inline void store_four_words(SharedAddress at, uint4 v) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// Round to tf32: 10 bits of mantissa, ties away from zero.
__device__ inline unsigned to_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

// Round two numbers to halves (fp16), ties to even: `low` in the lower 16 bits.
__device__ inline unsigned to_halves(float low, float high) {
    unsigned rounded;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(high), "f"(low));
    return rounded;
}

// The larger of two numbers; NaN if either is NaN, which fmaxf would drop.
__device__ inline float larger(float a, float b) {
    float found;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(found) : "f"(a), "f"(b));
    return found;
}
__device__ inline unsigned larger_halves(unsigned a, unsigned b) {
    unsigned found;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(found) : "r"(a), "r"(b));
    return found;
}

// The value of the lane whose number differs in the bits of `mask`.
__device__ inline unsigned from_lane_xor(unsigned v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// c (16 x 8) += a (16 x 8) b (8 x 8) in tf32. Lane 4 g + t holds a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);
// b: (t, g), (t + 4, g); c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ inline void multiply_tf32_words(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c (16 x 8) += a (16 x 16) b (16 x 8) in halves with float32 sums. A word is two neighbours in k. Lane 4 g + t holds a:
// (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); b: (2t, g), (2t + 8, g); c as above.
__device__ inline void multiply_halves(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
