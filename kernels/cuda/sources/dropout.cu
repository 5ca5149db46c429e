// Dropout whose mask is a function of (seed, step, layer, index) and of nothing else. A thread has an element.
//
// u_i = (h(h(h(h(seed) + step) + layer) + i) >> 40) 2^-24; kept where u_i >= rate. h is SplitMix64 (Steele, Lea
// & Flood 2014). `least` is the smallest (h >> 40) that is kept, so that no rounding decides.
#include "include/common.cuh"

__device__ inline word mix(word v) {
    v += 0x9E3779B97F4A7C15ull;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
    return v ^ (v >> 31);
}

extern "C" __global__ void dropout_forward(const float* __restrict__ x, const unsigned long long* __restrict__ seed,
                                           const unsigned long long* __restrict__ step, int layer, int least,
                                           float scale, float* __restrict__ y, int count) {
    const word key = mix(mix(mix(seed[0]) + step[0]) + (word)layer);
    EACH(i, count) {
        const bool kept = (int)(mix(key + i) >> 40) >= least;
        y[i] = x[i] * (kept ? scale : 0.0f);  // times 0, so that NaN stays NaN
    }
}
