// Softmax p_k = exp(z_k) / sum exp(z) and the cross-entropy -weight_label log p_label. A thread has a row.
#include "include/common.cuh"

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

extern "C" __global__ void softmax_forward(const float* __restrict__ z, float* __restrict__ p, int n,
                                           int classes) {
    EACH(i, n) softmax_row(z + (size_t)i * classes, p + (size_t)i * classes, classes);
}

// loss = -w log p_label, dz = w (p - onehot(label)) / n, w = weight[label].
extern "C" __global__ void softmax_cross_entropy(const float* __restrict__ z, const int* __restrict__ label,
                                                 const float* __restrict__ weight, float* __restrict__ loss,
                                                 float* __restrict__ dz, int n, int classes) {
    EACH(i, n) {
        const float* row = z + (size_t)i * classes;
        float* out = dz + (size_t)i * classes;
        const float2 found = softmax_row(row, out, classes);
        if (label[i] < 0 || label[i] >= classes) {  // no class: nothing may be read there
            loss[i] = found.y * __uint_as_float(0x7fc00000u);
            continue;
        }
        const float w = weight[label[i]];
        loss[i] = w * (logf(found.y) - (row[label[i]] - found.x));
        out[label[i]] -= 1.0f;
        for (int k = 0; k < classes; ++k) out[k] = w * out[k] / (float)n;
    }
}
