// Dropout (dropout.cuh). A thread has an element.
#include "include/dropout.cuh"

extern "C" __global__ void dropout_forward(const float* __restrict__ x, const unsigned long long* __restrict__ seed,
                                           const unsigned long long* __restrict__ step, int layer, int least,
                                           float scale, float* __restrict__ y, int count) {
    const word key = key_of(seed[0], step[0], layer);
    EACH(i, count) y[i] = x[i] * (is_kept(key, i, least) ? scale : 0.0f);  // times 0, so that NaN stays NaN
}
