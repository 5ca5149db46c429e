// The passes of a convolution that training and scoring need, on tensor cores (tensor.cuh); the same parameters
// and blocks as in conv2d.cu and conv2d_gradients.cu, biases and epilogues in float32.
#include "include/tensor.cuh"
#include "include/products.cuh"
#include "include/gradients.cuh"

template <int COLUMNS>
__device__ inline void forward_tf32(FORWARD_PARAMETERS) {
    const Product t = {x, w, height, width, c, p, q, size, -pad, 1, o, pool, rows, false};
    float sum[2][4][4];
    multiply_tf32<COLUMNS>(t, sum);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
    const int top = blockIdx.x * ROWS + warp % 4 * 32, left = blockIdx.y * COLUMNS + warp / 4 * 32 + g;
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
        // Rows 2 l, 2 l + 1, 2 l + 8, 2 l + 9 of 16: where there are windows the four of window row / 4.
        const int row = top + j * 8 + (t.pool == 1 ? 2 : 4) * l;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int i = e / 2, half = e % 2 * 2, column = left + e * 8;
            const float four[4] = {sum[i][j][half], sum[i][j][half + 1], sum[i][j + 1][half], sum[i][j + 1][half + 1]};
            if (column < o) write_four(four, t, b[column], slope, row, 8, column, y, index);
        }
    }
}

// 2: else the compiler takes a few registers more, and one block less runs at once.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_tf32_64(FORWARD_PARAMETERS) {
    forward_tf32<64>(FORWARD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_forward_tf32_32(FORWARD_PARAMETERS) {
    forward_tf32<32>(FORWARD_ARGUMENTS);
}

template <int COLUMNS>
__device__ inline void backward_input_tf32(BACKWARD_INPUT_PARAMETERS) {
    const Product t = {dz, w, p, q, o, height, width, size, pad, -1, c, 1, rows, true};
    float sum[2][4][4];
    const SharedAddress tile = multiply_tf32<COLUMNS>(t, sum);  // free once all are done: the sums, [row][column]
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
    const int top = warp % 4 * 32 + 2 * l, left = warp / 4 * 32 + g;
    const auto place = [](int row, int column) { return row * COLUMNS + (column ^ row / 2 % 4 * 8); };
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                store_word(tile + place(top + j * 8 + e % 2, left + i * 16 + e / 2 * 8) * 4,
                           __float_as_uint(sum[i][j][e]));
    __syncthreads();
    forget(c);
    const Below below = {y, index, slope, height, width, c, map_height, map_width};
#pragma unroll 1
    for (int e = threadIdx.x; e < ROWS * COLUMNS / 4; e += COLUMNS * 4) {
        const int row = e / (COLUMNS / 4), column = e % (COLUMNS / 4) * 4, at = blockIdx.x * ROWS + row;
        if (at < rows)
            below.write(dx, at, blockIdx.y * COLUMNS + column, load_four_floats(tile + place(row, column) * 4));
    }
}

// 2: as above.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_input_tf32_64(BACKWARD_INPUT_PARAMETERS) {
    backward_input_tf32<64>(BACKWARD_INPUT_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_backward_input_tf32_32(BACKWARD_INPUT_PARAMETERS) {
    backward_input_tf32<32>(BACKWARD_INPUT_ARGUMENTS);
}

// A warp owns 32 k x COLUMNS / 2 o; the sum runs over the pixels. Lane (g, l) loads k = 2 g and 2 g + 1 of a pixel by
// one instruction; they stand for the rows g and g + 8 of a product.
template <int COLUMNS>
__device__ inline void gradients_tf32(GRADIENT_PARAMETERS) {
    constexpr int TILES = COLUMNS / 16;  // of 8 o, of a warp
    SHARED(float, xs, [2][2][DEPTH][TAPS + 8]);
    SHARED(float, ds, [2][2][DEPTH][COLUMNS + 8]);
    Pixels<COLUMNS> t = pixels_of<COLUMNS>(GRADIENT_ARGUMENTS);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
    const int top = warp % 2 * 32 + 2 * g, left = warp / 2 * (COLUMNS / 2) + g;
    float sum[2][TILES][4] = {};
    typename Pixels<COLUMNS>::Next next[2];  // two tiles to a barrier, as in multiply_tf32
    const auto fetch = [&](int m) {
        t.fetch(m, next[0]);
        t.fetch(m + DEPTH, next[1]);
    };
    const auto store = [&](int side) {
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
            for (int r = 0; r < t.OF_X; ++r)
                store4(&xs[side][tile][threadIdx.x / (TAPS / 4) + r * 8][threadIdx.x % (TAPS / 4) * 4],
                       rounded4(next[tile].x[r]));
#pragma unroll
            for (int r = 0; r < t.OF_DZ; ++r)
                store4(&ds[side][tile][threadIdx.x / t.ACROSS + r * t.DOWN][threadIdx.x % t.ACROSS * 4],
                       rounded4(next[tile].dz[r]));
        }
    };
    const int first = blockIdx.z * rows_of_split;
    fetch(first);
    store(0);
    int side = 0;
    for (int m = first; m < t.last; m += 2 * DEPTH) {
        const bool more = m + 2 * DEPTH < t.last;
        __syncthreads();
        if (more) fetch(m + 2 * DEPTH);
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
            for (int d = 0; d < DEPTH; d += 8) {
                const float(&of_x)[DEPTH][TAPS + 8] = xs[side][tile];
                const float(&of_dz)[DEPTH][COLUMNS + 8] = ds[side][tile];
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const float2 v = load2(&of_x[d + l][top + i * 16]), w = load2(&of_x[d + 4 + l][top + i * 16]);
#pragma unroll
                    for (int j = 0; j < TILES; ++j)
                        mma_tf32(sum[i][j], make_float4(v.x, v.y, w.x, w.y), of_dz[d + l][left + j * 8],
                                 of_dz[d + 4 + l][left + j * 8]);
                }
            }
        }
        side ^= 1;
        if (more) store(side);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < TILES; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int k = blockIdx.x * TAPS + top + i * 16 + e / 2;
                const int column = blockIdx.y * COLUMNS + left - g + j * 8 + 2 * l + e % 2;
                if (k < t.total && column < o)
                    partial[((size_t)blockIdx.z * (t.total + 1) + k) * o + column] = sum[i][j][e];
            }
        }
    }
    write_bias<COLUMNS>(t, partial);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_gradients_tf32_64(GRADIENT_PARAMETERS) {
    gradients_tf32<64>(GRADIENT_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) conv2d_gradients_tf32_32(GRADIENT_PARAMETERS) {
    gradients_tf32<32>(GRADIENT_ARGUMENTS);
}
