// A training step's dense layers of CAP and Deep-HiTS, forward and backward, in three launches: the first layer's products
// (step_head_first), all between them and that layer's dz (step_head_middle), its gradients and the dz of the last
// convolution (step_head_gradients). Gradients are partial sums, which step_update.cu adds.
//
// A row is what the first layer reads: CAP's are the 4 n images, image r n + s being stamp s turned r times; Deep-HiTS's
// the n stamps, whose four rotations' features lie side by side, `features` of each. Feature k of row i is feature
// k % features of image k / features n + i: with one part in CAP and four in Deep-HiTS, the same formula.
#include "include/dropout.cuh"
#include "include/softmax.cuh"
#include "include/tensor.cuh"

constexpr int UNITS = 64;        // of the first two layers
constexpr int K_OF_WARP = 32;    // features of a warp in step_head_first
constexpr int FIRST_ROWS = 32;   // rows of a block there
constexpr int FIRST_WARPS = 8;
constexpr int WIDE = UNITS + 8;  // floats of a row of units in shared memory: neighbouring rows begin 8 banks apart

// Where 4 floats of features begin, of row `row` from feature k on.
__device__ inline const float* features_at(const float* x, int row, int k, int rows, int features) {
    return x + ((size_t)(k / features) * rows + row) * features + k % features;
}

// z (split, rows, 64), each split the sum over its 256 features: blocks of 32 rows x a split, whose warps' sums are added
// in their order. A lane takes four neighbouring features, which stand for k = t and t + 4 of two products: a sum may go
// through its k in any order that the weights have too.
extern "C" __global__ void __launch_bounds__(256, 2) step_head_first(const float* __restrict__ x,
                                                                     const float* __restrict__ w,
                                                                     float* __restrict__ z, int rows, int features,
                                                                     int total) {
    DYNAMIC_SHARED(memory, FIRST_WARPS * FIRST_ROWS * WIDE * 4);
    float* const parts = (float*)memory;  // [warp][row][WIDE]
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int first = blockIdx.x * FIRST_ROWS, begin = (blockIdx.y * FIRST_WARPS + warp) * K_OF_WARP;
    float sum[2][8][4] = {};
    if (begin < total) {
#pragma unroll
        for (int k = 0; k < K_OF_WARP; k += 16) {
            float4 of_row[4];  // rows g, g + 8, g + 16, g + 24
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int row = first + g + 8 * r;
                of_row[r] = row < rows ? rounded4(load4(features_at(x, row, begin + k + 4 * t, rows, features)))
                                       : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            }
            const float* of_column = w + (size_t)(begin + k + 4 * t) * UNITS + g;
#pragma unroll
            for (int n = 0; n < 8; ++n) {
                float b[4];
#pragma unroll
                for (int e = 0; e < 4; ++e) b[e] = rounded(of_column[e * UNITS + 8 * n]);
#pragma unroll
                for (int m = 0; m < 2; ++m) {
                    const float4 u = of_row[2 * m], v = of_row[2 * m + 1];
                    mma_tf32(sum[m][n], make_float4(u.x, v.x, u.y, v.y), b[0], b[1]);
                    mma_tf32(sum[m][n], make_float4(u.z, v.z, u.w, v.w), b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int h = 0; h < 2; ++h)
                store2(&parts[(warp * FIRST_ROWS + 16 * m + 8 * h + g) * WIDE + 8 * n + 2 * t],
                       make_float2(sum[m][n][2 * h], sum[m][n][2 * h + 1]));
    __syncthreads();
    for (int e = threadIdx.x; e < FIRST_ROWS * UNITS; e += blockDim.x) {
        const int row = e / UNITS, o = e % UNITS;
        float whole = 0.0f;
        for (int part = 0; part < FIRST_WARPS; ++part) whole += parts[(part * FIRST_ROWS + row) * WIDE + o];
        if (first + row < rows) z[((size_t)blockIdx.y * rows + first + row) * UNITS + o] = whole;
    }
}

constexpr int STAMPS = 4;  // of a block of step_head_middle
constexpr int MOST_CLASSES = 64;

// A dropout: kept is what has at least `least` of 24 random bits, times `scale`.
struct Dropout {
    word key;
    int least;
    float scale;
    __device__ float factor(unsigned i) const { return is_kept(key, i, least) ? scale : 0.0f; }
};

__device__ inline float sum_over_lanes(float v) {
    for (int mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

#define MIDDLE_PARAMETERS                                                                                    \
    const float* __restrict__ z1, const float* __restrict__ b1, const float* __restrict__ w2,                \
        const float* __restrict__ b2, const float* __restrict__ w3, const float* __restrict__ b3,            \
        const int* __restrict__ label, const float* __restrict__ weight,                                     \
        const unsigned long long* __restrict__ seed, const unsigned long long* __restrict__ step,            \
        float* __restrict__ loss, float* __restrict__ dz1, float* __restrict__ partial2,                     \
        float* __restrict__ partial3, float slope, int layer1, int least1, float scale1, int layer2,         \
        int least2, float scale2, int splits, int n, int classes
#define MIDDLE_ARGUMENTS                                                                                     \
    z1, b1, w2, b2, w3, b3, label, weight, seed, step, loss, dz1, partial2, partial3, slope, layer1, least1, \
        scale1, layer2, least2, scale2, splits, n, classes

// From the first layer's sums z1 (splits, rows, 64) to its dz1 (rows, 64), the loss (n), and the gradients of the second and
// third layer, partial (block, 65, 64) and (block, 65, classes), biases last. A block has four stamps. All is float32.
// ROTATIONS: 4 rows of a stamp, which are averaged before the third layer (CAP), or 1.
template <int ROTATIONS>
__device__ inline void middle(MIDDLE_PARAMETERS) {
    constexpr int ROWS_OF_BLOCK = STAMPS * ROTATIONS, EACH_THREAD = ROWS_OF_BLOCK * UNITS / 256;
    SHARED(float, w, [UNITS][UNITS + 1]);                // w2
    SHARED(float, first, [ROWS_OF_BLOCK][UNITS]);        // what the second layer reads
    SHARED(float, second, [ROWS_OF_BLOCK][UNITS]);       // its output, then its dz
    SHARED(float, mean, [STAMPS][UNITS]);                // what the third layer reads, then its gradient
    SHARED(float, logits, [STAMPS][MOST_CLASSES]);
    SHARED(float, dz3, [STAMPS][MOST_CLASSES]);
    const int o = threadIdx.x % UNITS, top = threadIdx.x / UNITS;  // the thread's unit, and the first of its rows
    const int begin = blockIdx.x * STAMPS, rows = n * ROTATIONS;
    // Row r of the block is rotation r % ROTATIONS of stamp r / ROTATIONS.
    const auto is_row = [&](int r) { return begin + r / ROTATIONS < n; };
    const auto row_of = [&](int r) { return (size_t)(r % ROTATIONS) * n + begin + r / ROTATIONS; };
    const Dropout dropout1 = {key_of(seed[0], step[0], layer1), least1, scale1};
    const Dropout dropout2 = {key_of(seed[0], step[0], layer2), least2, scale2};

    for (int e = threadIdx.x; e < UNITS * UNITS; e += 256) w[e / UNITS][e % UNITS] = w2[e];
    float dropped[EACH_THREAD], slope_of[EACH_THREAD];  // what dropout and activation multiply a gradient by
#pragma unroll
    for (int i = 0; i < EACH_THREAD; ++i) {
        const int r = top + 4 * i;
        float z = 0.0f;
        dropped[i] = 0.0f, slope_of[i] = 1.0f;
        if (is_row(r)) {
            for (int split = 0; split < splits; ++split) z += z1[((size_t)split * rows + row_of(r)) * UNITS + o];
            const float y = activated(z + b1[o], slope);
            dropped[i] = dropout1.factor(row_of(r) * UNITS + o);
            slope_of[i] = y > 0.0f ? 1.0f : slope;
            z = y * dropped[i];
        }
        first[r][o] = z;
    }
    __syncthreads();

    float dropped2[EACH_THREAD], slope_of2[EACH_THREAD], sum[EACH_THREAD] = {};
    for (int k = 0; k < UNITS; ++k) {
        const float v = w[k][o];
#pragma unroll
        for (int i = 0; i < EACH_THREAD; ++i) sum[i] += first[top + 4 * i][k] * v;
    }
#pragma unroll
    for (int i = 0; i < EACH_THREAD; ++i) {
        const int r = top + 4 * i;
        const float y = activated(sum[i] + b2[o], slope);
        dropped2[i] = is_row(r) ? dropout2.factor(row_of(r) * UNITS + o) : 0.0f;
        slope_of2[i] = y > 0.0f ? 1.0f : slope;
        second[r][o] = is_row(r) ? y * dropped2[i] : 0.0f;
    }
    __syncthreads();
    {
        const auto& of = second;
        const int r = top * ROTATIONS;  // STAMPS x UNITS threads: the thread's stamp is `top`
        mean[top][o] = ROTATIONS == 1 ? of[r][o] : ((of[r][o] + of[r + 2][o]) + (of[r + 1][o] + of[r + 3][o])) / 4.0f;
    }
    __syncthreads();

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int e = warp; e < STAMPS * classes; e += 8) {
        const int s = e / classes, c = e % classes;
        const float z = sum_over_lanes(mean[s][lane] * w3[lane * classes + c] +
                                       mean[s][lane + 32] * w3[(lane + 32) * classes + c]);
        if (lane == 0) logits[s][c] = z + b3[c];
    }
    __syncthreads();
    if (threadIdx.x < STAMPS) {
        const int s = threadIdx.x;
        if (begin + s < n)
            loss[begin + s] = cross_entropy_row(logits[s], dz3[s], label[begin + s], weight, n, classes);
        else
            for (int c = 0; c < classes; ++c) dz3[s][c] = 0.0f;
    }
    __syncthreads();

    float* const out3 = partial3 + (size_t)blockIdx.x * (UNITS + 1) * classes;
    for (int e = threadIdx.x; e < (UNITS + 1) * classes; e += 256) {
        const int k = e / classes, c = e % classes;
        float whole = 0.0f;
        for (int s = 0; s < STAMPS; ++s) whole += (k < UNITS ? mean[s][k] : 1.0f) * dz3[s][c];
        out3[e] = whole;
    }
    float dmean = 0.0f;
    for (int c = 0; c < classes; ++c) dmean += dz3[top][c] * w3[o * classes + c];
    __syncthreads();
    mean[top][o] = dmean / (float)ROTATIONS;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < EACH_THREAD; ++i) {
        const int r = top + 4 * i;
        second[r][o] = mean[r / ROTATIONS][o] * dropped2[i] * slope_of2[i];
    }
    __syncthreads();

    float* const out2 = partial2 + (size_t)blockIdx.x * (UNITS + 1) * UNITS;
    float dw[UNITS / 4] = {}, db = 0.0f;  // of k = top + 4 i
    for (int r = 0; r < ROWS_OF_BLOCK; ++r) {
        const float dz = second[r][o];
        db += dz;
#pragma unroll
        for (int i = 0; i < UNITS / 4; ++i) dw[i] += first[r][top + 4 * i] * dz;
    }
#pragma unroll
    for (int i = 0; i < UNITS / 4; ++i) out2[(top + 4 * i) * UNITS + o] = dw[i];
    if (top == 0) out2[UNITS * UNITS + o] = db;
#pragma unroll
    for (int i = 0; i < EACH_THREAD; ++i) {
        const int r = top + 4 * i;
        float dy = 0.0f;
        for (int c = 0; c < UNITS; ++c) dy += second[r][c] * w[o][c];
        if (is_row(r)) dz1[row_of(r) * UNITS + o] = dy * dropped[i] * slope_of[i];
    }
}

extern "C" __global__ void __launch_bounds__(256) step_head_middle_mean(MIDDLE_PARAMETERS) { middle<4>(MIDDLE_ARGUMENTS); }
extern "C" __global__ void __launch_bounds__(256) step_head_middle_concat(MIDDLE_PARAMETERS) {
    middle<1>(MIDDLE_ARGUMENTS);
}

constexpr int K_OF_BLOCK = 32, ROWS_AT_ONCE = 32;
constexpr int CHANNELS = 64;  // of the last convolution: the block's features are channels of one pixel

// The first layer's gradients, partial (total + 1, 64) with db last, and the dz of the last convolution (images,
// map_height, map_width, 64): dx at the pixel that won each pooling, times 1 where x > 0 and slope elsewhere. A block has
// 32 features and goes through all rows. x is the convolution's pooled output.
extern "C" __global__ void __launch_bounds__(128, 4) step_head_gradients(
    const float* __restrict__ x, const unsigned char* __restrict__ index, const float* __restrict__ w,
    const float* __restrict__ dz1, float* __restrict__ partial, float* __restrict__ dz, float slope, int rows,
    int features, int total, int map_height, int map_width) {
    SHARED(float, xs, [ROWS_AT_ONCE][K_OF_BLOCK + 8]);
    SHARED(float, ds, [ROWS_AT_ONCE][WIDE]);
    SHARED(float, ws, [K_OF_BLOCK][WIDE]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int begin = blockIdx.x * K_OF_BLOCK, image0 = begin / features * rows, within = begin % features;
    for (int e = threadIdx.x; e < K_OF_BLOCK * UNITS / 4; e += 128)
        store4(&ws[e / (UNITS / 4)][e % (UNITS / 4) * 4],
               rounded4(load4(w + (size_t)begin * UNITS + e * 4)));
    float4 next_x[2], next_dz[4];
    const auto fetch = [&](int from) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int e = threadIdx.x + i * 128, row = from + e / 8;
            next_x[i] = row < rows ? load4(x + ((size_t)image0 + row) * features + within + e % 8 * 4)
                                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int e = threadIdx.x + i * 128, row = from + e / 16;
            next_dz[i] = row < rows ? load4(dz1 + (size_t)row * UNITS + e % 16 * 4)
                                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    };
    // Where dx goes: the pixel of the pooled map, and the first channel.
    const int height = map_height / 2, width = map_width / 2;
    const int pixel = within / CHANNELS, line = pixel / width, column = pixel % width;
    const int down = line + 1 < height ? 2 : map_height - 2 * line;  // 3 where an odd last line is in no window
    const int across = column + 1 < width ? 2 : map_width - 2 * column;
    const auto write = [&](int row, int k, float dx0, float dx1) {  // of two neighbouring features
        const size_t at = ((size_t)image0 + row) * features + within + k;
        const float2 y = load2(x + at);
        const int winner0 = index[at], winner1 = index[at + 1];
        if (!(y.x > 0.0f)) dx0 = slope * dx0;
        if (!(y.y > 0.0f)) dx1 = slope * dx1;
        const size_t corner = ((size_t)(image0 + row) * map_height + 2 * line) * map_width + 2 * column;
        float* const to = dz + corner * CHANNELS + within % CHANNELS + k;
        for (int i = 0; i < down; ++i)
            for (int j = 0; j < across; ++j) {
                const int place = i < 2 && j < 2 ? 2 * i + j : 4;  // 4: in no window
                store2(to + (i * map_width + j) * CHANNELS,
                       make_float2(place == winner0 ? dx0 : 0.0f, place == winner1 ? dx1 : 0.0f));
            }
    };
    float dw[2][2][4] = {};  // features 16 m + g (+ 8), units 16 warp + 8 n + 2 t (+ 1)
    fetch(0);
    for (int from = 0; from < rows; from += ROWS_AT_ONCE) {
        __syncthreads();  // all are done with the rows before
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int e = threadIdx.x + i * 128;
            store4(&xs[e / 8][e % 8 * 4], rounded4(next_x[i]));
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int e = threadIdx.x + i * 128;
            store4(&ds[e / 16][e % 16 * 4], rounded4(next_dz[i]));
        }
        __syncthreads();
        if (from + ROWS_AT_ONCE < rows) fetch(from + ROWS_AT_ONCE);
#pragma unroll
        for (int k = 0; k < ROWS_AT_ONCE; k += 8) {
#pragma unroll
            for (int m = 0; m < 2; ++m) {
                const float4 a = make_float4(xs[k + t][16 * m + g], xs[k + t][16 * m + g + 8],
                                             xs[k + t + 4][16 * m + g], xs[k + t + 4][16 * m + g + 8]);
#pragma unroll
                for (int n = 0; n < 2; ++n)
                    mma_tf32(dw[m][n], a, ds[k + t][16 * warp + 8 * n + g], ds[k + t + 4][16 * warp + 8 * n + g]);
            }
        }
        float dx[2][4] = {};  // rows 16 m + g (+ 8), features 8 warp + 2 t (+ 1)
#pragma unroll
        for (int k = 0; k < UNITS; k += 8) {  // units k + 2 t and k + 2 t + 1 stand for k = t and t + 4
            const float2 b = load2(&ws[8 * warp + g][k + 2 * t]);
#pragma unroll
            for (int m = 0; m < 2; ++m) {
                const float2 u = load2(&ds[16 * m + g][k + 2 * t]), v = load2(&ds[16 * m + g + 8][k + 2 * t]);
                mma_tf32(dx[m], make_float4(u.x, v.x, u.y, v.y), b.x, b.y);
            }
        }
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int row = from + 16 * m + 8 * h + g;
                if (row < rows) write(row, 8 * warp + 2 * t, dx[m][2 * h], dx[m][2 * h + 1]);
            }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                partial[(size_t)(begin + 16 * m + 8 * (e / 2) + g) * UNITS + 16 * warp + 8 * n + 2 * t + e % 2] =
                    dw[m][n][e];
    if (blockIdx.x > 0 || threadIdx.x >= UNITS) return;
    float db = 0.0f;
#pragma unroll 8
    for (int row = 0; row < rows; ++row) db += dz1[(size_t)row * UNITS + threadIdx.x];
    partial[(size_t)total * UNITS + threadIdx.x] = db;
}
