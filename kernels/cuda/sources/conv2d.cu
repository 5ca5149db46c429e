// Convolution with its epilogue and its adjoints, z = b + sum x w over the taps, in exact float32.
//
// x (n, height, width, c), w (size, size, c, o), z and dz (n, p, q, o). Products: a block owns 128 rows (pixels)
// x 64, 32 or 8 columns (channels) of its result: grid (rows / 128, columns / that); redistribute has two such grids,
// for x >= 0 and x < 0. Others: a thread an element.
#include "include/products.cuh"

// ---- z and what is made of it

template <int COLUMNS, int TALL>
__device__ inline void forward(FORWARD_PARAMETERS) {
    const Product t = {x, w, height, width, c, p, q, size, -pad, 1, o, pool, rows, false};
    float z[TALL][4] = {};
    multiply<false, COLUMNS, TALL>(t, ALL, ALL, z);
    const int top = blockIdx.x * ROWS + threadIdx.x / (COLUMNS / 4) * TALL;
    const int left = blockIdx.y * COLUMNS + threadIdx.x % (COLUMNS / 4) * 4;
#pragma unroll
    for (int four = 0; four < TALL; four += 4) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float column[4] = {z[four][k], z[four + 1][k], z[four + 2][k], z[four + 3][k]};
            if (left + k < o) write_four(column, t, b[left + k], slope, top + four, 2, left + k, y, index);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) conv2d_forward_64(FORWARD_PARAMETERS) {
    forward<64, 8>(FORWARD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_forward_32(FORWARD_PARAMETERS) {
    forward<32, 8>(FORWARD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(64) conv2d_forward_8(FORWARD_PARAMETERS) {
    forward<8, 4>(FORWARD_ARGUMENTS);
}

// y = act(z+ + z-); with an index that is not null, its first maximum in each 2x2 window, row by row, and where it is.
extern "C" __global__ void conv2d_epilogue(const float* __restrict__ z_pos, const float* __restrict__ z_neg,
                                           float slope, float* __restrict__ y, unsigned char* __restrict__ index,
                                           int p, int q, int o, int count) {
    EACH(i, count) {
        if (index == nullptr) {
            y[i] = activated(z_pos[i] + z_neg[i], slope);
            continue;
        }
        const int across = q / 2, down = p / 2, channel = i % o, window = i / o;
        const int row = window / across % down * 2, column = window % across * 2;
        const size_t corner = (((size_t)(window / across / down) * p + row) * q + column) * o + channel;
        float best = 0.0f;
        int winner = 0;
        for (int place = 0; place < 4; ++place) {
            const size_t at = corner + (size_t)(place / 2 * q + place % 2) * o;
            const float value = activated(z_pos[at] + z_neg[at], slope);
            if (place == 0 || beats(value, best)) best = value, winner = place;
        }
        y[i] = best;
        index[i] = (byte)winner;
    }
}

// dz[i … i + WIDE - 1], neighbouring channels of a pixel.
template <int WIDE>
__device__ inline void epilogue_backward(const float* dy, const float* y, const byte* index, float slope, float* dz,
                                         unsigned i, int p, int q, int o) {
    size_t at = i;
    int place = -1;  // of the pixel in its window
    if (index != nullptr) {
        const int channel = i % o, pixel = i / o, column = pixel % q, row = pixel / q % p;
        const int across = q / 2, down = p / 2;
        at = (((size_t)(pixel / q / p) * down + row / 2) * across + column / 2) * o + channel;
        place = row < 2 * down && column < 2 * across ? row % 2 * 2 + column % 2 : 4;  // 4: in none
    }
    float value[WIDE];
#pragma unroll
    for (int e = 0; e < WIDE; ++e) {
        value[e] = 0.0f;
        if (place < 4 && (place < 0 || index[at + e] == place))
            value[e] = y[at + e] > 0.0f ? dy[at + e] : slope * dy[at + e];
    }
    if constexpr (WIDE == 4)
        store4(dz + i, make_float4(value[0], value[1], value[2], value[3]));
    else
        dz[i] = value[0];
}

// dz = dy at the winner of its window (or everywhere), times 1 where y > 0 and slope elsewhere.
extern "C" __global__ void conv2d_epilogue_backward(const float* __restrict__ dy, const float* __restrict__ y,
                                                    const unsigned char* __restrict__ index, float slope,
                                                    float* __restrict__ dz, int p, int q, int o, int count) {
    if (o % 4 == 0 && is_aligned(dz)) {
        EACH(i, count / 4) epilogue_backward<4>(dy, y, index, slope, dz, 4 * i, p, q, o);
    } else {
        EACH(i, count) epilogue_backward<1>(dy, y, index, slope, dz, i, p, q, o);
    }
}

// ---- dx[n,h,w,c] = sum_{i,j,o} dz[n, h-i+pad, w-j+pad, o] w[i,j,c,o]: the columns are c

template <int COLUMNS, int TALL>
__device__ inline void backward_input(BACKWARD_INPUT_PARAMETERS) {
    const Product t = {dz, w, p, q, o, height, width, size, pad, -1, c, 1, rows, true};
    float sum[TALL][4] = {};
    multiply<false, COLUMNS, TALL>(t, ALL, ALL, sum);
    const int top = blockIdx.x * ROWS + threadIdx.x / (COLUMNS / 4) * TALL;
    const int left = blockIdx.y * COLUMNS + threadIdx.x % (COLUMNS / 4) * 4;
    const Below below = {y, index, slope, height, width, c, map_height, map_width};
#pragma unroll
    for (int r = 0; r < TALL; ++r)
        if (top + r < rows) below.write(dx, top + r, left, make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]));
}

extern "C" __global__ void __launch_bounds__(256) conv2d_backward_input_64(BACKWARD_INPUT_PARAMETERS) {
    backward_input<64, 8>(BACKWARD_INPUT_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_backward_input_32(BACKWARD_INPUT_PARAMETERS) {
    backward_input<32, 8>(BACKWARD_INPUT_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(64) conv2d_backward_input_8(BACKWARD_INPUT_PARAMETERS) {
    backward_input<8, 4>(BACKWARD_INPUT_ARGUMENTS);
}

// ---- z+ and z- of Eqs. 2 to 4

#define CONTRIBUTIONS_PARAMETERS                                                                             \
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,                   \
        float* __restrict__ z_pos, float* __restrict__ z_neg, int pad, int rows, int height, int width,      \
        int c, int size, int p, int q, int o
#define CONTRIBUTIONS_ARGUMENTS x, w, b, z_pos, z_neg, pad, rows, height, width, c, size, p, q, o

template <int COLUMNS, int TALL>
__device__ inline void contributions(CONTRIBUTIONS_PARAMETERS) {
    const Product t = {x, w, height, width, c, p, q, size, -pad, 1, o, 1, rows, false};
    const int top = blockIdx.x * ROWS + threadIdx.x / (COLUMNS / 4) * TALL;
    const int left = blockIdx.y * COLUMNS + threadIdx.x % (COLUMNS / 4) * 4;
    bool mixed = false;  // where no x is negative there is half of the work
#pragma unroll 1
    for (int side = 0; side < 2; ++side) {  // z+ = x+ w+ + x- w-, then z- = x+ w- + x- w+
        float sum[TALL][4] = {};
        mixed |= multiply<true, COLUMNS, TALL>(t, POSITIVE, side ? NEGATIVE : POSITIVE, sum);
        if (mixed) multiply<true, COLUMNS, TALL>(t, NEGATIVE, side ? POSITIVE : NEGATIVE, sum);
        float* z = side ? z_neg : z_pos;
#pragma unroll
        for (int r = 0; r < TALL; ++r) {
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                if (top + r >= rows || left + k >= o) continue;
                const float bias = b[left + k];
                z[(size_t)(top + r) * o + left + k] = sum[r][k] + (side ? negative(bias) : positive(bias));
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) conv2d_contributions_64(CONTRIBUTIONS_PARAMETERS) {
    contributions<64, 8>(CONTRIBUTIONS_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_contributions_32(CONTRIBUTIONS_PARAMETERS) {
    contributions<32, 8>(CONTRIBUTIONS_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_contributions_8(CONTRIBUTIONS_PARAMETERS) {
    contributions<8, 2>(CONTRIBUTIONS_ARGUMENTS);
}

// ---- z, added up in float64, in which a product of two floats is exact, and rounded once

extern "C" __global__ void conv2d_sums(const float* __restrict__ x, const float* __restrict__ w,
                                       const float* __restrict__ b, float* __restrict__ z, int pad, int height,
                                       int width, int c, int size, int p, int q, int o, int count) {
    EACH(at, count) {
        const int out = at % o, pixel = at / o, column = pixel % q - pad, row = pixel / q % p - pad;
        const float* image = x + (size_t)(pixel / q / p) * height * width * c;
        double sum = b[out];
        for (int i = 0; i < size; ++i) {
            if (row + i < 0 || row + i >= height) continue;
            for (int j = 0; j < size; ++j) {
                if (column + j < 0 || column + j >= width) continue;
                const float* from = image + ((size_t)(row + i) * width + column + j) * c;
                const float* weight = w + (size_t)(i * size + j) * c * o + out;
                for (int k = 0; k < c; ++k) sum += (double)from[k] * weight[(size_t)k * o];
            }
        }
        z[at] = (float)sum;
    }
}

// ---- R = x+ (c+ w+ + c- w-) + x- (c+ w- + c- w+), each bracket a sum over the outputs that an x feeds

#define REDISTRIBUTE_PARAMETERS                                                                              \
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ c_pos,               \
        const float* __restrict__ c_neg, float* __restrict__ r, int pad, int rows, int p, int q, int o,      \
        int size, int height, int width, int c
#define REDISTRIBUTE_ARGUMENTS x, w, c_pos, c_neg, r, pad, rows, p, q, o, size, height, width, c

template <int COLUMNS, int TALL>
__device__ inline void redistribute(REDISTRIBUTE_PARAMETERS) {
    Product t = {c_pos, w, p, q, o, height, width, size, pad, -1, c, 1, rows, true};
    const int top = blockIdx.x * ROWS + threadIdx.x / (COLUMNS / 4) * TALL;
    const int left = blockIdx.y * COLUMNS + threadIdx.x % (COLUMNS / 4) * 4;
    const bool side = blockIdx.z;  // the x < 0: mostly there are none, and their block ends here
    int wanted = 0;
    for (int row = 0; row < TALL; ++row)
        for (int k = 0; k < 4; ++k)
            if (top + row < rows && left + k < c) wanted |= (x[(size_t)(top + row) * c + left + k] < 0.0f) == side;
    if (!__syncthreads_or(wanted)) return;
    float sum[TALL][4] = {};
#pragma unroll 1
    for (int of = 0; of < 2; ++of) {
        t.a = of ? c_neg : c_pos;
        multiply<true, COLUMNS, TALL>(t, ALL, side == of ? POSITIVE : NEGATIVE, sum);
    }
#pragma unroll
    for (int row = 0; row < TALL; ++row) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (top + row >= rows || left + k >= c) continue;
            const size_t at = (size_t)(top + row) * c + left + k;
            if ((x[at] < 0.0f) == side) r[at] = x[at] * sum[row][k];
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) conv2d_redistribute_64(REDISTRIBUTE_PARAMETERS) {
    redistribute<64, 8>(REDISTRIBUTE_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_redistribute_32(REDISTRIBUTE_PARAMETERS) {
    redistribute<32, 8>(REDISTRIBUTE_ARGUMENTS);
}
// 1: without it the compiler saves registers for more blocks, and spills.
extern "C" __global__ void __launch_bounds__(128, 1) conv2d_redistribute_8(REDISTRIBUTE_PARAMETERS) {
    redistribute<8, 2>(REDISTRIBUTE_ARGUMENTS);
}
