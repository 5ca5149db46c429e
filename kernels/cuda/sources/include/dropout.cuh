// Dropout whose mask is a function of (seed, step, layer, index) and of nothing else.
//
// u_i = (h(h(h(h(seed) + step) + layer) + i) >> 40) 2^-24; kept where u_i >= rate. h is SplitMix64 (Steele, Lea
// & Flood 2014). `least` is the smallest (h >> 40) that is kept, so that no rounding decides.
#pragma once
#include "common.cuh"

__device__ inline word mix(word v) {
    v += 0x9E3779B97F4A7C15ull;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
    return v ^ (v >> 31);
}

__device__ inline word key_of(word seed, word step, int layer) { return mix(mix(mix(seed) + step) + (word)layer); }

__device__ inline bool is_kept(word key, unsigned i, int least) { return (int)(mix(key + i) >> 40) >= least; }
