// Dense layer, y = act(b + x w), and its sums of one sign. x (n, c), w (c, o).
//
// A block owns 8 rows x 32 columns; its 16 warps share out c, a lane has a column, and the warps' sums are added
// in their order: there are few rows and many c, so this is where the parallelism is.
#include "include/tiles.cuh"

constexpr int DENSE_ROWS = 8, DENSE_COLUMNS = 32, WARPS = 16;

template <bool SIDES>
__device__ inline void add_row(float x, float w, float& first, float& second) {
    if (!SIDES) {
        first += x * w;
    } else {
        const float above = positive(w), below = negative(w), up = positive(x), down = negative(x);
        first += up * above;
        first += down * below;
        second += up * below;
        second += down * above;
    }
}

// The warp's own sums over its part of c.
template <bool SIDES>
__device__ inline void dense_sums(const float* x, const float* w, int n, int c, int o, float (&first)[DENSE_ROWS],
                                  float (&second)[DENSE_ROWS]) {
    const int warp = threadIdx.x / 32, column = blockIdx.y * DENSE_COLUMNS + threadIdx.x % 32;
    const int part = (c + WARPS - 1) / WARPS, start = warp * part, stop = start + part < c ? start + part : c;
    const int row = blockIdx.x * DENSE_ROWS;
#pragma unroll
    for (int r = 0; r < DENSE_ROWS; ++r) first[r] = second[r] = 0.0f;
    if (column >= o) return;
#pragma unroll 4
    for (int k = start; k < stop; ++k) {
        const float weight = w[(size_t)k * o + column];
#pragma unroll
        for (int r = 0; r < DENSE_ROWS; ++r)
            if (row + r < n) add_row<SIDES>(x[(size_t)(row + r) * c + k], weight, first[r], second[r]);
    }
}

// The sum over the warps, in their order, of what each lane holds; for row threadIdx.x / 32 and column % 32.
__device__ inline float sum_over_warps(const float (&mine)[DENSE_ROWS], float (&all)[WARPS][DENSE_ROWS][DENSE_COLUMNS]) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < DENSE_ROWS; ++r) all[warp][r][lane] = mine[r];
    __syncthreads();
    float sum = 0.0f;
    if (warp < DENSE_ROWS)
        for (int other = 0; other < WARPS; ++other) sum += all[other][warp][lane];
    return sum;
}

extern "C" __global__ void __launch_bounds__(512) dense_forward(const float* __restrict__ x,
                                                                const float* __restrict__ w,
                                                                const float* __restrict__ b, float slope,
                                                                float* __restrict__ y, int n, int c, int o) {
    SHARED(float, all, [WARPS][DENSE_ROWS][DENSE_COLUMNS]);
    float sums[DENSE_ROWS], unused[DENSE_ROWS];
    dense_sums<false>(x, w, n, c, o, sums, unused);
    const float z = sum_over_warps(sums, all);
    const int row = blockIdx.x * DENSE_ROWS + threadIdx.x / 32, column = blockIdx.y * DENSE_COLUMNS + threadIdx.x % 32;
    if (threadIdx.x / 32 < DENSE_ROWS && row < n && column < o)
        y[(size_t)row * o + column] = activated(z + b[column], slope);
}

extern "C" __global__ void __launch_bounds__(512) dense_contributions(const float* __restrict__ x,
                                                                      const float* __restrict__ w,
                                                                      const float* __restrict__ b,
                                                                      float* __restrict__ z_pos,
                                                                      float* __restrict__ z_neg, int n, int c,
                                                                      int o) {
    SHARED(float, of_pos, [WARPS][DENSE_ROWS][DENSE_COLUMNS]);
    SHARED(float, of_neg, [WARPS][DENSE_ROWS][DENSE_COLUMNS]);
    float first[DENSE_ROWS], second[DENSE_ROWS];
    dense_sums<true>(x, w, n, c, o, first, second);
    const float pos = sum_over_warps(first, of_pos), neg = sum_over_warps(second, of_neg);
    const int row = blockIdx.x * DENSE_ROWS + threadIdx.x / 32, column = blockIdx.y * DENSE_COLUMNS + threadIdx.x % 32;
    if (threadIdx.x / 32 < DENSE_ROWS && row < n && column < o) {
        z_pos[(size_t)row * o + column] = pos + positive(b[column]);
        z_neg[(size_t)row * o + column] = neg + negative(b[column]);
    }
}
