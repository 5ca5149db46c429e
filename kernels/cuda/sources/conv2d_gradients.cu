// The gradients of a convolution's weights and biases, in exact float32 (gradients.cuh).
#include "include/gradients.cuh"

template <int COLUMNS, int TALL>
__device__ inline void gradients(GRADIENT_PARAMETERS) {
    SHARED(float, xs, [2][DEPTH][TAPS + 4]);
    SHARED(float, ds, [2][DEPTH][COLUMNS + 4]);
    Pixels<COLUMNS> t = pixels_of<COLUMNS>(GRADIENT_ARGUMENTS);
    typename Pixels<COLUMNS>::Next next;
    const int top = threadIdx.x / (COLUMNS / 4) * TALL, left = threadIdx.x % (COLUMNS / 4) * 4;
    float sum[TALL][4] = {};
    const auto store = [&](int side) {
#pragma unroll
        for (int r = 0; r < t.OF_X; ++r)
            store4(&xs[side][threadIdx.x / (TAPS / 4) + r * 8][threadIdx.x % (TAPS / 4) * 4], next.x[r]);
#pragma unroll
        for (int r = 0; r < t.OF_DZ; ++r)
            store4(&ds[side][threadIdx.x / t.ACROSS + r * t.DOWN][threadIdx.x % t.ACROSS * 4], next.dz[r]);
    };
    const int first = blockIdx.z * rows_of_split;
    t.fetch(first, next);
    store(0);
    int side = 0;
    for (int m = first; m < t.last; m += DEPTH) {
        __syncthreads();
        if (m + DEPTH < t.last) t.fetch(m + DEPTH, next);
#pragma unroll
        for (int d = 0; d < DEPTH; ++d) {
            const float4 of_dz = load4(&ds[side][d][left]);
#pragma unroll
            for (int r = 0; r < TALL; ++r) {
                const float of_x = xs[side][d][top + r];
                sum[r][0] += of_x * of_dz.x;
                sum[r][1] += of_x * of_dz.y;
                sum[r][2] += of_x * of_dz.z;
                sum[r][3] += of_x * of_dz.w;
            }
        }
        side ^= 1;
        if (m + DEPTH < t.last) store(side);
    }
    for (int r = 0; r < TALL; ++r) {
        const int k = blockIdx.x * TAPS + top + r;
        for (int e = 0; e < 4; ++e) {
            const int column = blockIdx.y * COLUMNS + left + e;
            if (k < t.total && column < o) partial[((size_t)blockIdx.z * (t.total + 1) + k) * o + column] = sum[r][e];
        }
    }
    write_bias<COLUMNS>(t, partial);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_gradients_64(GRADIENT_PARAMETERS) {
    gradients<64, 8>(GRADIENT_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_gradients_32(GRADIENT_PARAMETERS) {
    gradients<32, 4>(GRADIENT_ARGUMENTS);
}

constexpr int ELEMENTS = 32, SUMMERS = 8;  // of a block of the sum: a warp reads its splits' rows, lane by lane

// dw (k, o) and db (o) from the splits' sums (splits, k + 1, o). The warps share out the splits, for there may be
// hundreds of them to few weights; a warp adds its own in their order, and then the warps' sums are added in theirs.
extern "C" __global__ void __launch_bounds__(256) conv2d_gradients_sum(const float* __restrict__ partial,
                                                                       float* __restrict__ dw,
                                                                       float* __restrict__ db, int splits,
                                                                       int weights, int o) {
    SHARED(float, parts, [SUMMERS][ELEMENTS]);
    const int warp = threadIdx.x / ELEMENTS, lane = threadIdx.x % ELEMENTS;
    const int i = blockIdx.x * ELEMENTS + lane, count = weights + o;
    float sum = 0.0f;
    if (i < count) {
#pragma unroll 8
        for (int split = warp; split < splits; split += SUMMERS) sum += partial[(size_t)split * count + i];
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || i >= count) return;
    sum = 0.0f;
    for (int part = 0; part < SUMMERS; ++part) sum += parts[part][lane];
    if (i < weights)
        dw[i] = sum;
    else
        db[i - weights] = sum;
}
