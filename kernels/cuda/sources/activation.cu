// act(z) = z where z > 0, slope z elsewhere. A thread has an element.
#include "include/common.cuh"

// a where y > 0, slope a elsewhere: with y = a, the activation itself.
extern "C" __global__ void activation_masked(const float* __restrict__ a, const float* __restrict__ y,
                                             float slope, float* __restrict__ out, int count) {
    EACH(i, count) out[i] = y[i] > 0.0f ? a[i] : slope * a[i];
}
