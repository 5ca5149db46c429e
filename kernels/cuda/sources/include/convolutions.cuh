// The five convolutions of CAP and Deep-HiTS on the rotations of one stamp of 21 x 21 pixels, one after another in one
// block, whose six warps go through the layers together. `Keep` is told what they find: chain.cu keeps the features alone,
// step_chain.cu every map.
#pragma once
#include "maps.cuh"

constexpr int STAMP = 21, BORDER = 3, PADDED = STAMP + 2 * BORDER;
constexpr int FEATURES = 36 * 64;  // of an image

// The bytes of a block's shared memory: the maps, the ring, the biases. A padded stamp lies where its first map comes.
template <class T, int IMAGES, int SLOTS>
struct Memory {
    static constexpr int MAP = 32 / T::CHANNELS * CELLS_24 * 16;  // the first map is the largest
    static constexpr int PIXEL = 4 * 4 / T::PER_WORD;             // of the padded stamp, four channels
    static constexpr int BYTES = IMAGES * MAP + SLOTS * STAGE + BIASES * 4;
};

// Write act(z + b) of every pixel to a map, where the lane's first pixel of tile 0 lies at `map` and its second one
// `further`. `keep(y, h, channel, pair)` is given two channels of pixel h of tile y.
template <class T, int DOWN, int PITCH, int CELLS, class Keep>
__device__ inline void store_map(const Sums<DOWN>& sums, SharedAddress map, int further, int first, SharedAddress bias,
                                 float slope, Keep keep) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const float2 b = load_two_words(bias + ((first + n) * 8 + 2 * t) * 4);
#pragma unroll
        for (int y = 0; y < DOWN; ++y)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float(&z)[4] = sums.of[y][n];
                const typename T::Pair v =
                    T::pair(activated(z[2 * h] + b.x, slope), activated(z[2 * h + 1] + b.y, slope));
                T::template store<CELLS>(map + h * further + y * PITCH * 16, first + n, t, v);
                keep(y, h, (first + n) * 8 + 2 * t, v);
            }
    }
}

// The first maximum of a window's pixels for two channels, as `beats` (common.cuh) chooses among them row by row, and
// which pixels they are (0 to 3), in a byte each. Half of a window is a column's two pixels; the other half is that of
// lane ^ 4.
struct Winners {
    float2 v;
    unsigned pixels;

    __device__ static Winners of_column(float2 up, float2 down, int column) {
        const bool first = beats(down.x, up.x), second = beats(down.y, up.y);
        return {make_float2(first ? down.x : up.x, second ? down.y : up.y),
                (unsigned)(column + 2 * first + (column + 2 * second) * 256)};
    }
    __device__ Winners of_lane_xor(int mask) const {
        return {make_float2(__uint_as_float(from_lane_xor(__float_as_uint(v.x), mask)),
                            __uint_as_float(from_lane_xor(__float_as_uint(v.y), mask))),
                from_lane_xor(pixels, mask)};
    }
    __device__ void join(const Winners& other) {
        if (loses(v.x, other.v.x, pixels & 255, other.pixels & 255))
            v.x = other.v.x, pixels = (pixels & 0xff00) | (other.pixels & 0xff);
        if (loses(v.y, other.v.y, pixels >> 8, other.pixels >> 8))
            v.y = other.v.y, pixels = (pixels & 0xff) | (other.pixels & 0xff00);
    }

private:
    // Whether the other wins: it is larger, or the like and comes first.
    __device__ static bool loses(float mine, float other, unsigned my_pixel, unsigned other_pixel) {
        return other_pixel < my_pixel ? !beats(mine, other) : beats(other, mine);
    }
};

// The largest of each 2 x 2 window, activated. Its upper and lower pixels are the lane's own, the other two those of
// lane g ^ 1: a lane of even g ends with the windows of an even eight of columns, one of odd g with those of the odd
// eight. They are given to `put(w, h, eight, pair, winners)`: of six tiles the window rows w of pixels h; of three tiles
// window row w of three, with h 0. Without WINNERS those are 0.
template <class T, int DOWN, bool WINNERS, class Put>
__device__ inline void pool(const Sums<DOWN>& sums, int first, SharedAddress bias, float slope, Put put) {
    const int t = threadIdx.x % 4;
    const bool odd = threadIdx.x / 4 % 2;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const float2 b[2] = {load_two_words(bias + ((first + 2 * p) * 8 + 2 * t) * 4),
                             load_two_words(bias + ((first + 2 * p + 1) * 8 + 2 * t) * 4)};
#pragma unroll
        for (int w = 0; w < 3; ++w)
#pragma unroll
            for (int h = 0; h < DOWN / 3; ++h) {
                // Six tiles: rows 2 w and 2 w + 1. Three: pixels h of tile y are row y + 3 h.
                const int up = DOWN == 6 ? 2 * w : 2 * w % 3, down = DOWN == 6 ? 2 * w + 1 : (2 * w + 1) % 3;
                const int of_up = DOWN == 6 ? h : 2 * w / 3, of_down = DOWN == 6 ? h : (2 * w + 1) / 3;
                if constexpr (WINNERS) {
                    Winners of[2];
#pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        const float(&u)[4] = sums.of[up][2 * p + side], (&d)[4] = sums.of[down][2 * p + side];
                        of[side] = Winners::of_column(
                            make_float2(activated(u[2 * of_up] + b[side].x, slope),
                                        activated(u[2 * of_up + 1] + b[side].y, slope)),
                            make_float2(activated(d[2 * of_down] + b[side].x, slope),
                                        activated(d[2 * of_down + 1] + b[side].y, slope)),
                            odd);
                    }
                    const Winners given = odd ? of[0] : of[1];
                    Winners kept = odd ? of[1] : of[0];
                    kept.join(given.of_lane_xor(4));
                    put(w, h, first + 2 * p + odd, T::pair(kept.v.x, kept.v.y), kept.pixels);
                } else {
                    typename T::Pair of[2];
#pragma unroll
                    for (int side = 0; side < 2; ++side) {
                        const float(&u)[4] = sums.of[up][2 * p + side], (&d)[4] = sums.of[down][2 * p + side];
                        of[side] = T::pair(
                            activated(larger(u[2 * of_up], d[2 * of_down]) + b[side].x, slope),
                            activated(larger(u[2 * of_up + 1], d[2 * of_down + 1]) + b[side].y, slope));
                    }
                    const typename T::Pair given = odd ? of[0] : of[1], kept = odd ? of[1] : of[0];
                    put(w, h, first + 2 * p + odd, T::larger_pair(kept, T::of_lane_xor(given, 4)), 0);
                }
            }
    }
}

// The pixel of a stamp that comes to (i, j) in its k-th rotation; source_pixel of cyclic.cu.
__device__ inline int turned_pixel(int k, int i, int j) {
    const int last = STAMP - 1;
    return k == 0   ? i * STAMP + j
           : k == 1 ? j * STAMP + last - i
           : k == 2 ? (last - i) * STAMP + last - j
                    : (last - j) * STAMP + i;
}

// Load a rotation of a stamp, padded with zeros; channels that there are not are zeros. `keep(pixel, v)` is given each.
template <class T, class Keep>
__device__ inline void load_stamp(const float* stamp, int turn, int channels, SharedAddress input, Keep keep) {
    for (int pixel = threadIdx.x; pixel < PADDED * PADDED; pixel += THREADS) {
        const int i = pixel / PADDED - BORDER, j = pixel % PADDED - BORDER;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i >= 0 && i < STAMP && j >= 0 && j < STAMP) {
            const float* from = stamp + turned_pixel(turn, i, j) * channels;
            v.x = from[0];
            if (channels > 1) v.y = from[1];
            if (channels > 2) v.z = from[2];
            if (channels > 3) v.w = from[3];
        }
        T::store_pixel(input + pixel * Memory<T, 1, 1>::PIXEL, v);
        keep(pixel, v);
    }
}

// The rotations turn, turn + 1, … of a stamp (21, 21, channels), IMAGES of them.
template <class T, int IMAGES, int SLOTS, class Keep>
__device__ inline void convolutions(const float* stamp, int turn, int channels, const byte* packed, const float* biases,
                                    float slope, SharedAddress maps, Keep keep) {
    using M = Memory<T, IMAGES, SLOTS>;
    using S = Stages<T>;
    Ring<SLOTS, IMAGES * S::PER_IMAGE + S::SHARED_BY_IMAGES> ring(maps + IMAGES * M::MAP, packed);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    SharedAddress bias = ring.at + ring.BYTES;
    if (threadIdx.x < BIASES / 4)  // with the first stage
        copy_async(bias + threadIdx.x * 16, biases + threadIdx.x * 4);
    ring.begin();
    for (int image = 0; image < IMAGES; ++image)
        load_stamp<T>(stamp, turn + image, channels, maps + image * M::MAP,
                      [&](int pixel, float4 v) { keep.padded(pixel, channels, v); });
    // Of load_matrices, lane 8 m + r names row r of matrix m: of pixels m % 2, of side m / 2 of k.
    const int h = lane / 8 % 2, side = lane / 16, r = lane % 8;

    {  // Layers 1 and 2: a warp owns a strip of 8 x 12 pixels, all 32 columns; a tile has its rows y and y + 6
        const int left = warp % 3 * 8, top = warp / 3 * 12;
        Sums<6> sums;
#pragma unroll 1
        for (int image = 0; image < IMAGES; ++image) {
            const SharedAddress map = maps + image * M::MAP;
            sums.clear();
            const SharedAddress pixels = map + (top * PADDED + left + g) * M::PIXEL + t * 4;
#pragma unroll 1
            for (int stage = 0; stage < S::FIRST; ++stage) {
                const SharedAddress weights = ring.next();
                unsigned a[9][4];
#pragma unroll
                for (int y = 0; y < 9; ++y)
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        a[y][e] = load_word(pixels + stage * 32 + (y + e % 2 * 6) * PADDED * M::PIXEL + e / 2 * 16);
                multiply_taps<T, 6, 4>(sums, a, weights + lane * 16, BLOCK_32);
            }
            __syncthreads();  // all have read the stamp that is now overwritten
            keep.begin_layer();
            clear_borders_24<T>(map);
            store_map<T, 6, PITCH_24, CELLS_24>(
                sums, map + ((top + 1) * PITCH_24 + left + g + 1) * 16, 6 * PITCH_24 * 16, 0, bias, slope,
                [&](int y, int half, int channel, typename T::Pair v) {
                    keep.first((top + y + 6 * half) * 24 + left + g, channel, v);
                });
            sums.clear();
            const SharedAddress rows = map + (side * CELLS_24 + (top + h * 6) * PITCH_24 + left + r) * 16;
#pragma unroll 1
            for (int step = 0; step < 3 * S::STEPS_32; step += 2) {
                const SharedAddress weights = ring.next() + lane * 16;
                const SharedAddress at = rows + (step % S::STEPS_32 * 2 * CELLS_24 + step / S::STEPS_32) * 16;
#pragma unroll 1
                for (int s = 0; s < 2; ++s)
                    multiply_step<T, 6, PITCH_24>(sums, at + s * 2 * CELLS_24 * 16, weights + s * (STAGE / 2),
                                                  BLOCK_32);
            }
            __syncthreads();  // all have read the map that is now overwritten
            keep.begin_layer();
            clear_borders_12<T>(map);
            const SharedAddress to = map + ((top / 2 + 1) * PITCH_12 + (left + g) / 2 + 1) * 16;
            pool<T, 6, Keep::WINNERS>(sums, 0, bias + 32 * 4, slope,
                                      [&](int w, int half, int eight, typename T::Pair v, unsigned winners) {
                                          T::template store<CELLS_12>(to + (w + 3 * half) * PITCH_12 * 16, eight, t, v);
                                          const int pixel = (top / 2 + w + 3 * half) * 12 + (left + g) / 2;
                                          keep.second(pixel, eight * 8 + 2 * t, v, winners);
                                      });
        }
        bias += 64 * 4;
    }

    // Layers 3 to 5: a warp owns a strip of 4 x 12 pixels, 32 of 64 columns. Of two images, a tile has rows y and y + 6
    // of either; of one, rows y and y + 6 and those three further.
    constexpr int DOWN = 3 * IMAGES, FURTHER = IMAGES == 2 ? M::MAP : 3 * PITCH_12 * 16;
    const int left = warp / 2 * 4, first = warp % 2 * 4;
    const SharedAddress rows = maps + h * FURTHER + (side * CELLS_12 + r / 4 * 6 * PITCH_12 + left + r % 4) * 16;
    Sums<DOWN> sums;
#pragma unroll 1
    for (int layer = 3; layer <= LAYERS; ++layer) {
        const unsigned steps = layer == 3 ? S::STEPS_32 : S::STEPS_64;  // powers of two
        sums.clear();
#pragma unroll 1
        for (unsigned step = 0; step < 3 * steps; ++step) {
            const SharedAddress at = rows + ((step & (steps - 1)) * 2 * CELLS_12 + step / steps) * 16;
            multiply_step<T, DOWN, PITCH_12>(sums, at, ring.next() + lane * 16 + first * 256, BLOCK_64);
        }
        keep.begin_layer();
        if (layer == LAYERS) break;
        __syncthreads();  // as above
        const SharedAddress to = maps + ((g / 4 * 6 + 1) * PITCH_12 + left + g % 4 + 1) * 16;
        store_map<T, DOWN, PITCH_12, CELLS_12>(
            sums, to, FURTHER, first, bias, slope, [&](int y, int half, int channel, typename T::Pair v) {
                keep.later(layer, (g / 4 * 6 + y + 3 * half) * 12 + left + g % 4, channel, v);
            });
        bias += 64 * 4;
    }
    pool<T, DOWN, Keep::WINNERS>(sums, first, bias, slope,
                                 [&](int w, int image, int eight, typename T::Pair v, unsigned winners) {
                                     const int pixel = (w + g / 4 * 3) * 6 + (left + g % 4) / 2;
                                     keep.features(image, pixel, eight * 8 + 2 * t, v, winners);
                                 });
}
