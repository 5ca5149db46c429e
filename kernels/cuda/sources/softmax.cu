// Softmax and cross-entropy (softmax.cuh). A thread has a row.
#include "include/softmax.cuh"

extern "C" __global__ void softmax_forward(const float* __restrict__ z, float* __restrict__ p, int n,
                                           int classes) {
    EACH(i, n) softmax_row(z + (size_t)i * classes, p + (size_t)i * classes, classes);
}

extern "C" __global__ void softmax_cross_entropy(const float* __restrict__ z, const int* __restrict__ label,
                                                 const float* __restrict__ weight, float* __restrict__ loss,
                                                 float* __restrict__ dz, int n, int classes) {
    EACH(i, n) {
        const size_t at = (size_t)i * classes;
        loss[i] = cross_entropy_row(z + at, dz + at, label[i], weight, n, classes);
    }
}
