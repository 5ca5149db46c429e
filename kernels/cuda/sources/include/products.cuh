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
    const float* __restrict__ dz, const float* __restrict__ w, const float* __restrict__ y,                  \
        const unsigned char* __restrict__ index, float slope, float* __restrict__ dx, int pad, int rows,     \
        int p, int q, int o, int size, int height, int width, int c, int map_height, int map_width
#define BACKWARD_INPUT_ARGUMENTS                                                                             \
    dz, w, y, index, slope, dx, pad, rows, p, q, o, size, height, width, c, map_height, map_width

// What dx becomes on its way down. With y, the output of the layer below, shaped as dx, it is that layer's dz: times 1
// where y > 0 and slope elsewhere; with index too, at the pixel that won each window of 2x2, in maps (n, map_height,
// map_width, c), whose other pixels are 0. Without y it is dx itself.
struct Below {
    const float* y;
    const byte* index;
    float slope;
    int height, width, c, map_height, map_width;

    // Write dx of four channels of pixel `row`, which is counted through all maps; there may be fewer.
    __device__ void write(float* out, int row, int channel, float4 dx) const {
        if (c % 4 == 0 && channel < c) return write_some<4>(out, row, channel, {dx.x, dx.y, dx.z, dx.w});
        const float each[4] = {dx.x, dx.y, dx.z, dx.w};
#pragma unroll
        for (int e = 0; e < 4; ++e)
            if (channel + e < c) write_some<1>(out, row, channel + e, {each[e]});
    }

private:
    template <int WIDE>
    struct Channels {
        float v[WIDE];
    };

    template <int WIDE>
    __device__ void write_some(float* out, int row, int channel, Channels<WIDE> dx) const {
        const size_t at = (size_t)row * c + channel;
#pragma unroll
        for (int e = 0; e < WIDE; ++e)
            if (y != nullptr && !(y[at + e] > 0.0f)) dx.v[e] = slope * dx.v[e];
        if (index == nullptr) return store(out + at, dx);
        int winner[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; ++e) winner[e] = index[at + e];
        const unsigned pixel = row;
        const int column = pixel % width, line = pixel / width % height;
        const int down = line + 1 < height ? 2 : map_height - 2 * line;  // 3 where an odd last line is in no window
        const int across = column + 1 < width ? 2 : map_width - 2 * column;
        const size_t corner = ((size_t)(pixel / width / height) * map_height + 2 * line) * map_width + 2 * column;
        for (int i = 0; i < down; ++i) {
            for (int j = 0; j < across; ++j) {
                Channels<WIDE> here;
#pragma unroll
                for (int e = 0; e < WIDE; ++e)
                    here.v[e] = i < 2 && j < 2 && winner[e] == 2 * i + j ? dx.v[e] : 0.0f;
                store(out + (corner + i * map_width + j) * c + channel, here);
            }
        }
    }

    __device__ static void store(float* to, const Channels<4>& of) {
        store4(to, make_float4(of.v[0], of.v[1], of.v[2], of.v[3]));
    }
    __device__ static void store(float* to, const Channels<1>& of) { *to = of.v[0]; }
};
