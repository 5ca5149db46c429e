// The softmax of a row, p_k = exp(z_k) / sum exp(z), and its cross-entropy.
#pragma once
#include "common.cuh"

// Write p of a row; give max z and sum exp(z - max z): of exponents that are not above 0, none overflows.
__device__ inline float2 softmax_row(const float* z, float* p, int classes) {
    float largest = z[0], total = 0.0f;
    // Not `z[k] > largest`: a NaN has to come through.
    for (int k = 1; k < classes; ++k) largest = largest >= z[k] || largest != largest ? largest : z[k];
    for (int k = 0; k < classes; ++k) {
        p[k] = expf(z[k] - largest);
        total += p[k];
    }
    for (int k = 0; k < classes; ++k) p[k] /= total;
    return make_float2(largest, total);
}

// Give the loss -w log p_label of one of n stamps, and write dz = w (p - onehot(label)) / n, w = weight[label].
__device__ inline float cross_entropy_row(const float* z, float* dz, int label, const float* weight, int n,
                                          int classes) {
    const float2 found = softmax_row(z, dz, classes);
    if (label < 0 || label >= classes) return found.y * __uint_as_float(0x7fc00000u);  // no class: nothing may be read there
    const float w = weight[label];
    dz[label] -= 1.0f;
    for (int k = 0; k < classes; ++k) dz[k] = w * dz[k] / (float)n;
    return w * (logf(found.y) - (z[label] - found.x));
}
