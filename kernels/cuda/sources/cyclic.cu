// The quarter-turn operations. A batch of 4n is x_0, x_1, x_2, x_3, each of n maps (h, h, c) or vectors (c).
// A thread has an element of what is written. `size` is the number of elements of a quarter.
#include "include/common.cuh"

// (0 + 2) + (1 + 3): unchanged, to the bit, when the four are rotated among themselves.
__device__ inline float sum4(float x0, float x1, float x2, float x3) { return (x0 + x2) + (x1 + x3); }

__device__ inline float sum_of_quarters(const float* x, size_t i, size_t size) {
    return sum4(x[i], x[size + i], x[2 * size + i], x[3 * size + i]);
}

// The pixel of x, counted row by row, that comes to (i, j) in r^k x (r: counter-clockwise, numpy.rot90).
__device__ inline int source_pixel(int k, int i, int j, int h) {
    const int last = h - 1;
    if (k == 0) return i * h + j;
    if (k == 1) return j * h + last - i;
    if (k == 2) return (last - i) * h + last - j;
    return (last - j) * h + i;
}

// y_k = r^(direction k) x_k, where x_k begins at image k stride of x (stride 0: four turns of one x).
extern "C" __global__ void cyclic_turn(const float* __restrict__ x, float* __restrict__ y, int n, int stride,
                                       int direction, int h, int c, int count) {
    EACH(e, count) {
        const int channel = e % c, pixel = e / c;
        const int j = pixel % h, i = pixel / h % h, image = pixel / (h * h);
        const int k = image / n;
        const int from = source_pixel((direction * k) & 3, i, j, h);
        y[e] = x[((size_t)(k * stride + image % n) * h * h + from) * c + channel];
    }
}

// dx = (dy_0 + r^-2 dy_2) + (r^-1 dy_1 + r^-3 dy_3).
extern "C" __global__ void cyclic_slice_backward(const float* __restrict__ dy, float* __restrict__ dx, int n,
                                                 int h, int c, int count) {
    EACH(e, count) {
        const int channel = e % c, pixel = e / c;
        const int j = pixel % h, i = pixel / h % h, image = pixel / (h * h);
        float part[4];
        for (int k = 0; k < 4; ++k) {
            const int from = source_pixel((4 - k) & 3, i, j, h);
            part[k] = dy[((size_t)(k * n + image) * h * h + from) * c + channel];
        }
        dx[e] = sum4(part[0], part[1], part[2], part[3]);
    }
}

// (4n, …, c) -> (n, …, 4c); rows are the n … before the channels.
extern "C" __global__ void cyclic_stack(const float* __restrict__ x, float* __restrict__ y, int rows, int c,
                                        int count) {
    EACH(e, count) {
        const int channel = e % c, k = e / c % 4, row = e / (4 * c);
        y[e] = x[((size_t)k * rows + row) * c + channel];
    }
}

extern "C" __global__ void cyclic_stack_backward(const float* __restrict__ dy, float* __restrict__ dx, int rows,
                                                 int c, int count) {
    EACH(e, count) {
        const int channel = e % c, row = e / c % rows, k = e / ((unsigned)c * rows);
        dx[e] = dy[((size_t)row * 4 + k) * c + channel];
    }
}

// Quarter k becomes [x_k | x_k+1 | x_k+2 | x_k+3]; rows are those of a quarter.
extern "C" __global__ void cyclic_roll(const float* __restrict__ x, float* __restrict__ y, int rows, int c,
                                       int count) {
    EACH(e, count) {
        const int channel = e % c, part = e / c % 4, row = e / (4 * c) % rows, k = e / (4 * c) / rows;
        y[e] = x[((size_t)((k + part) & 3) * rows + row) * c + channel];
    }
}

// Part j of quarter k belongs to x_(k+j).
extern "C" __global__ void cyclic_roll_backward(const float* __restrict__ dy, float* __restrict__ dx, int rows,
                                                int c, int count) {
    EACH(e, count) {
        const int channel = e % c, row = e / c % rows, m = e / ((unsigned)c * rows);
        float part[4];
        for (int j = 0; j < 4; ++j) part[j] = dy[(((size_t)((m - j) & 3) * rows + row) * 4 + j) * c + channel];
        dx[e] = sum4(part[0], part[1], part[2], part[3]);
    }
}

extern "C" __global__ void cyclic_mean(const float* __restrict__ x, float* __restrict__ y, int size) {
    EACH(i, size) y[i] = sum_of_quarters(x, i, size) / 4.0f;
}

extern "C" __global__ void cyclic_mean_backward(const float* __restrict__ dy, float* __restrict__ dx, int size) {
    EACH(i, size) {
        for (int k = 0; k < 4; ++k) dx[(size_t)k * size + i] = dy[i] / 4.0f;
    }
}

// R_i = x_i / sum(x) R over the four; 0 where the sum is 0.
extern "C" __global__ void cyclic_mean_relevance(const float* __restrict__ x, const float* __restrict__ r,
                                                 float* __restrict__ rx, int size) {
    EACH(i, size) {
        const float total = sum_of_quarters(x, i, size);
        const float unit = total != 0.0f ? r[i] / total : 0.0f;
        for (int k = 0; k < 4; ++k) rx[(size_t)k * size + i] = x[(size_t)k * size + i] * unit;
    }
}

extern "C" __global__ void cyclic_max(const float* __restrict__ x, float* __restrict__ y,
                                      unsigned char* __restrict__ index, int size) {
    EACH(i, size) {
        float best = x[i];
        int winner = 0;
        for (int k = 1; k < 4; ++k) {
            const float value = x[(size_t)k * size + i];
            if (beats(value, best)) best = value, winner = k;
        }
        y[i] = best;
        index[i] = (byte)winner;
    }
}

extern "C" __global__ void cyclic_max_backward(const float* __restrict__ dy, const unsigned char* __restrict__ index,
                                               float* __restrict__ dx, int size) {
    EACH(i, size) {
        for (int k = 0; k < 4; ++k) dx[(size_t)k * size + i] = index[i] == k ? dy[i] : 0.0f;
    }
}

// y = sqrt(((x_0² + x_2²) + (x_1² + x_3²)) / 4). The squares are rounded each (no fused multiply-add), so that
// the sum is unchanged when the four are rotated.
extern "C" __global__ void cyclic_rms(const float* __restrict__ x, float* __restrict__ y, int size) {
    EACH(i, size) {
        float square[4];
        for (int k = 0; k < 4; ++k) square[k] = __fmul_rn(x[(size_t)k * size + i], x[(size_t)k * size + i]);
        y[i] = sqrtf(sum4(square[0], square[1], square[2], square[3]) / 4.0f);
    }
}

// dx = x dy / (4 y); 0 where y is 0.
extern "C" __global__ void cyclic_rms_backward(const float* __restrict__ dy, const float* __restrict__ x,
                                               const float* __restrict__ y, float* __restrict__ dx, int size) {
    EACH(i, size) {
        const float unit = y[i] != 0.0f ? dy[i] / (4.0f * y[i]) : 0.0f;
        for (int k = 0; k < 4; ++k) dx[(size_t)k * size + i] = x[(size_t)k * size + i] * unit;
    }
}
