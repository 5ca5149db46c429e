// Plain stochastic gradient descent, and filling an array. A thread has a parameter.
#include "include/common.cuh"

// params -= rate grads; the rate is in device memory, so that a captured graph finds its present value.
extern "C" __global__ void sgd_update(float* __restrict__ params, const float* __restrict__ grads,
                                      const float* __restrict__ rate, int count) {
    EACH(i, count) params[i] -= rate[0] * grads[i];
}

extern "C" __global__ void fill(float* __restrict__ x, float value, int count) {
    EACH(i, count) x[i] = value;
}
