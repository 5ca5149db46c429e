// The end of a training step: every parameter less the rate times its gradient, which is added up from partial sums.
//
// Gradients lie layer by layer, (splits, count) of each, weights first and biases last, as the parameters do. A sum goes
// through the splits in an order that depends on their number alone. Where there are many, the warps of a block share
// them out, a warp adds its own in their order, and then the warps' sums are added in theirs.
#include "include/common.cuh"

constexpr int LAYERS = 8, LANES = 32, WARPS = 8;

extern "C" __global__ void __launch_bounds__(256) step_update(
    const float* __restrict__ partial, const float* __restrict__ rate, float* __restrict__ params, int count0,
    int count1, int count2, int count3, int count4, int count5, int count6, int count7, int splits0, int splits1,
    int splits2, int splits3, int splits4, int splits5, int splits6, int splits7) {
    SHARED(float, parts, [WARPS][LANES]);
    const int counts[LAYERS] = {count0, count1, count2, count3, count4, count5, count6, count7};
    const int all_splits[LAYERS] = {splits0, splits1, splits2, splits3, splits4, splits5, splits6, splits7};
    int block = blockIdx.x, count = 0, splits = 0;  // of the block's layer
    size_t from = 0, to = 0;                        // where its partial sums and its parameters begin
#pragma unroll
    for (int layer = 0; layer < LAYERS; ++layer) {
        if (splits > 0) continue;
        const int per_block = all_splits[layer] < WARPS ? LANES * WARPS : LANES;
        const int blocks = (counts[layer] + per_block - 1) / per_block;
        if (block < blocks) {
            count = counts[layer], splits = all_splits[layer];
            continue;
        }
        block -= blocks;
        from += (size_t)all_splits[layer] * counts[layer];
        to += counts[layer];
    }
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const bool shared_out = splits >= WARPS;
    const int i = shared_out ? block * LANES + lane : block * LANES * WARPS + (int)threadIdx.x;
    float sum = 0.0f;
    if (i < count) {
#pragma unroll 8
        for (int split = shared_out ? warp : 0; split < splits; split += shared_out ? WARPS : 1)
            sum += partial[from + (size_t)split * count + i];
    }
    if (shared_out) {
        parts[warp][lane] = sum;
        __syncthreads();
        if (warp > 0) return;
        sum = 0.0f;
        for (int part = 0; part < WARPS; ++part) sum += parts[part][lane];
    }
    if (i < count) params[to + i] -= rate[0] * sum;
}
