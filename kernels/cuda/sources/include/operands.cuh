// The two kinds of numbers that scoring multiplies on tensor cores: halves (fp16) and tf32. Both have 10 bits of
// mantissa, products of two are exact in float32, and the sums are float32. A cell is 16 bytes of shared memory,
// CHANNELS numbers of one pixel.
#pragma once
#include "common.cuh"
#include "machine.cuh"

struct Half {
    static constexpr int CHANNELS = 8;  // of a cell
    static constexpr int PER_WORD = 2;
    typedef unsigned short number;  // as it is stored in global memory
    // Two neighbouring channels of a pixel, in one word.
    struct Pair {
        unsigned both;
    };

    __device__ static void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        multiply_halves(c, a, b0, b1);
    }
    __device__ static Pair pair(float first, float second) { return {to_halves(first, second)}; }
    __device__ static Pair of_lane_xor(Pair p, int mask) { return {from_lane_xor(p.both, mask)}; }
    __device__ static Pair larger_pair(Pair p, Pair q) { return {larger_halves(p.both, q.both)}; }
    // Write channels 8 eight + 2 t and the next one to a map of CELLS cells a slab.
    template <int CELLS>
    __device__ static void store(SharedAddress map, int eight, int t, Pair p) {
        store_word(map + eight * CELLS * 16 + t * 4, p.both);
    }
    __device__ static void write(number* to, Pair p) { *reinterpret_cast<unsigned*>(to) = p.both; }
    __device__ static void store_pixel(SharedAddress at, float4 v) {
        store_two_words(at, to_halves(v.x, v.y), to_halves(v.z, v.w));
    }
    // A word of an operand: of halves two numbers, of tf32 the first alone.
    __device__ static unsigned word(float first, float second) { return to_halves(first, second); }
};

struct Tf32 {
    static constexpr int CHANNELS = 4;
    static constexpr int PER_WORD = 1;
    typedef float number;
    struct Pair {
        float first, second;
    };

    __device__ static void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        multiply_tf32_words(c, a, b0, b1);
    }
    __device__ static Pair pair(float first, float second) { return {first, second}; }
    __device__ static Pair of_lane_xor(Pair p, int mask) {
        return {__uint_as_float(from_lane_xor(__float_as_uint(p.first), mask)),
                __uint_as_float(from_lane_xor(__float_as_uint(p.second), mask))};
    }
    __device__ static Pair larger_pair(Pair p, Pair q) {
        return {larger(p.first, q.first), larger(p.second, q.second)};
    }
    template <int CELLS>
    __device__ static void store(SharedAddress map, int eight, int t, Pair p) {
        store_two_words(map + (2 * eight + t / 2) * CELLS * 16 + t % 2 * 8, to_tf32(p.first), to_tf32(p.second));
    }
    __device__ static void write(number* to, Pair p) {
        *reinterpret_cast<float2*>(to) =
            make_float2(__uint_as_float(to_tf32(p.first)), __uint_as_float(to_tf32(p.second)));
    }
    __device__ static void store_pixel(SharedAddress at, float4 v) {
        store_four_words(at, make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w)));
    }
    __device__ static unsigned word(float first, float) { return to_tf32(first); }
};
