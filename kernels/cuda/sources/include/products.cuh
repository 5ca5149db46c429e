// What a convolution's products take, and how forward writes: for conv2d.cu and conv2d_tf32.cu.
#pragma once
#include "tiles.cuh"

#define FORWARD_PARAMETERS                                                                                   \
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,                   \
        float* __restrict__ y, unsigned char* __restrict__ index, int pad, float slope, int pool, int rows,  \
        int height, int width, int c, int size, int p, int q, int o
#define FORWARD_ARGUMENTS x, w, b, y, index, pad, slope, pool, rows, height, width, c, size, p, q, o

// Of one column o, the rows row, row + 1, row + apart, row + apart + 1: four pixels, or the four of the window of
// row / 4, of which the largest is kept.
__device__ inline void write_four(const float (&z)[4], const Product& t, float bias, float slope, int row, int apart,
                                  int o, float* y, byte* index) {
    float v[4];
    for (int r = 0; r < 4; ++r) v[r] = activated(z[r] + bias, slope);
    if (t.pool == 1) {
        for (int r = 0; r < 4; ++r) {
            const int at = row + r / 2 * apart + r % 2;
            if (at < t.rows) y[(size_t)at * t.columns + o] = v[r];
        }
    } else if (row < t.rows) {
        int winner = 0;
        float best = v[0];
        for (int r = 1; r < 4; ++r)
            if (beats(v[r], best)) best = v[r], winner = r;
        y[(size_t)(row / 4) * t.columns + o] = best;
        index[(size_t)(row / 4) * t.columns + o] = (byte)winner;
    }
}

// dx[n,h,w,c] = sum_{i,j,o} dz[n, h-i+pad, w-j+pad, o] w[i,j,c,o]: the columns are c.
#define BACKWARD_INPUT_PARAMETERS                                                                            \
    const float* __restrict__ dz, const float* __restrict__ w, float* __restrict__ dx, int pad, int rows,    \
        int p, int q, int o, int size, int height, int width, int c
#define BACKWARD_INPUT_ARGUMENTS dz, w, dx, pad, rows, p, q, o, size, height, width, c
