// Pooling over windows of size x size, stride size. x is (n, h, w, c), y (n, h / size, w / size, c).
// A thread has an element of what is written.
#include "include/common.cuh"

// Where an element stands in maps (n, height, width, c).
struct Place {
    int image, y, x, channel;
};

__device__ inline Place place_of(unsigned i, int height, int width, int c) {
    const unsigned channel = i % c, pixel = i / c;
    const unsigned x = pixel % width, row = pixel / width;
    return {(int)(row / height), (int)(row % height), (int)x, (int)channel};
}

__device__ inline size_t offset_of(int image, int y, int x, int channel, int height, int width, int c) {
    return (((size_t)image * height + y) * width + x) * c + channel;
}

// y = the window's maximum, index its place in the window, row by row.
extern "C" __global__ void pool2d_max_forward(const float* __restrict__ x, float* __restrict__ y,
                                              unsigned char* __restrict__ index, int size, int height, int width,
                                              int c, int count) {
    EACH(i, count) {
        const Place at = place_of(i, height / size, width / size, c);
        float best = 0.0f;
        int winner = 0;
        for (int place = 0; place < size * size; ++place) {
            const int h = at.y * size + place / size, w = at.x * size + place % size;
            const float value = x[offset_of(at.image, h, w, at.channel, height, width, c)];
            if (place == 0 || beats(value, best)) best = value, winner = place;
        }
        y[i] = best;
        index[i] = (byte)winner;
    }
}

// dx = dy at the winner, 0 elsewhere.
extern "C" __global__ void pool2d_max_backward(const float* __restrict__ dy, const unsigned char* __restrict__ index,
                                               float* __restrict__ dx, int size, int height, int width, int c,
                                               int count) {
    const int p = height / size, q = width / size;
    EACH(i, count) {
        const Place at = place_of(i, height, width, c);
        float value = 0.0f;
        if (at.y < p * size && at.x < q * size) {
            const size_t above = offset_of(at.image, at.y / size, at.x / size, at.channel, p, q, c);
            if (index[above] == at.y % size * size + at.x % size) value = dy[above];
        }
        dx[i] = value;
    }
}

// The sum over each window, row by row.
__device__ inline float window_sum(const float* x, Place at, int size, int height, int width, int c) {
    float total = 0.0f;
    for (int place = 0; place < size * size; ++place) {
        const int h = at.y * size + place / size, w = at.x * size + place % size;
        total += x[offset_of(at.image, h, w, at.channel, height, width, c)];
    }
    return total;
}

extern "C" __global__ void pool2d_average_forward(const float* __restrict__ x, float* __restrict__ y, int size,
                                                  int height, int width, int c, int count) {
    EACH(i, count) {
        const Place at = place_of(i, height / size, width / size, c);
        y[i] = window_sum(x, at, size, height, width, c) / (float)(size * size);
    }
}

extern "C" __global__ void pool2d_average_backward(const float* __restrict__ dy, float* __restrict__ dx, int size,
                                                   int height, int width, int c, int count) {
    const int p = height / size, q = width / size;
    EACH(i, count) {
        const Place at = place_of(i, height, width, c);
        float value = 0.0f;
        if (at.y < p * size && at.x < q * size)
            value = dy[offset_of(at.image, at.y / size, at.x / size, at.channel, p, q, c)] / (float)(size * size);
        dx[i] = value;
    }
}

// R_i = x_i / sum(x) R over the window; 0 where the sum is 0.
extern "C" __global__ void pool2d_average_relevance(const float* __restrict__ x, const float* __restrict__ r,
                                                    float* __restrict__ rx, int size, int height, int width, int c,
                                                    int count) {
    const int p = height / size, q = width / size;
    EACH(i, count) {
        Place at = place_of(i, height, width, c);
        float value = 0.0f;
        if (at.y < p * size && at.x < q * size) {
            at.y /= size;
            at.x /= size;
            const float total = window_sum(x, at, size, height, width, c);
            const float share = r[offset_of(at.image, at.y, at.x, at.channel, p, q, c)];
            if (total != 0.0f) value = x[i] * (share / total);
        }
        rx[i] = value;
    }
}

// x with zeros around: y is (n, h + 2 pad, w + 2 pad, c).
extern "C" __global__ void pool2d_zero_pad(const float* __restrict__ x, float* __restrict__ y, int pad, int height,
                                           int width, int c, int count) {
    EACH(i, count) {
        Place at = place_of(i, height + 2 * pad, width + 2 * pad, c);
        at.y -= pad;
        at.x -= pad;
        const bool inside = at.y >= 0 && at.y < height && at.x >= 0 && at.x < width;
        y[i] = inside ? x[offset_of(at.image, at.y, at.x, at.channel, height, width, c)] : 0.0f;
    }
}
