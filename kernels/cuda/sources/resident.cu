// A data set that is on the GPU: its batches are gathered there. A thread has a number of the batch.
#include "include/common.cuh"

// y[i] = x[rows[i]], rows of `size` numbers; x may be larger than an int counts.
extern "C" __global__ void stamps_take(const float* __restrict__ x, const int* __restrict__ rows,
                                       float* __restrict__ y, int size, int count) {
    EACH(i, count) y[i] = x[(size_t)rows[i / size] * size + i % size];
}
