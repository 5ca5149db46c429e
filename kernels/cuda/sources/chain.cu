// The five convolutions of CAP and Deep-HiTS on the rotations of one stamp of 21 x 21 pixels, one after another in one
// block: their maps never leave the multiprocessor.
//
// A block owns IMAGES rotations of one stamp; its six warps go through the layers together. A map lies in shared
// memory as cells of 16 bytes, [channels of a cell][position], with a border of zeros. Eight pixels of a row are then
// 128 bytes in a row, so that neither ldmatrix nor the stores meet a bank twice. A layer is summed in registers, and
// after a barrier written where its input was.
//
// A warp's tile y holds the pixels of a strip's row y, and of six rows (or of an image) further on. Tap row i of tile y
// reads what tap row 0 of tile y + i reads, so a warp loads each row once for all tap rows. Weights come through a ring
// of stages by asynchronous copies (chain.cuh).
#include "include/chain.cuh"

constexpr int STAMP = 21, BORDER = 3, PADDED = STAMP + 2 * BORDER, WARPS = 6, THREADS = WARPS * 32;
// Cells of a slab: 4 modulo 8, so that two slabs never meet in a bank. In maps of 24 x 24 a row's right border is the
// next row's left one.
constexpr int PITCH_24 = 25, CELLS_24 = 652;
constexpr int PITCH_12 = 14, CELLS_12 = 196;
constexpr int RING = 3;  // stages
constexpr int FEATURES = 36 * 64;  // of an image

// The bytes of a block's shared memory: the maps, the padded stamps, the ring, the biases.
template <class T, int IMAGES>
struct Memory {
    static constexpr int MAP = 32 / T::CHANNELS * CELLS_24 * 16;  // the first map is the largest
    static constexpr int PIXEL = 4 * 4 / T::PER_WORD;             // of the padded stamp, four channels
    static constexpr int INPUT = (PADDED * PADDED * PIXEL + 15) / 16 * 16;
    static constexpr int BYTES = IMAGES * (MAP + INPUT) + RING * STAGE + BIASES * 4;
};

// A warp's sums: DOWN tiles of 16 pixels (the product's rows) and 32 columns. Element e is of column 2 t + e % 2 and
// pixel g + 8 (e / 2).
template <int DOWN>
struct Sums {
    float of[DOWN][4][4];
    __device__ void clear() {
#pragma unroll
        for (int y = 0; y < DOWN; ++y)
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) of[y][n][e] = 0.0f;
    }
};

// Add a k-step of TAPS tap rows: `a` are the strip's rows, `weights` this lane's of the first block.
template <class T, int DOWN, int TAPS>
__device__ inline void multiply_taps(Sums<DOWN>& sums, const unsigned (&a)[DOWN + TAPS - 1][4], SharedAddress weights,
                                     int block) {
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
#pragma unroll
        for (int p = 0; p < 2; ++p) {
            const uint4 b = load_four_words(weights + i * block + p * 512);
#pragma unroll
            for (int y = 0; y < DOWN; ++y) {
                T::multiply(sums.of[y][2 * p], a[y + i], b.x, b.y);
                T::multiply(sums.of[y][2 * p + 1], a[y + i], b.z, b.w);
            }
        }
    }
}

template <class T, int DOWN, int PITCH>
__device__ inline void multiply_step(Sums<DOWN>& sums, SharedAddress rows, SharedAddress weights, int block) {
    unsigned a[DOWN + 2][4];
#pragma unroll
    for (int y = 0; y < DOWN + 2; ++y) load_matrices(a[y], rows + y * PITCH * 16);
    multiply_taps<T, DOWN, 3>(sums, a, weights, block);
}

// Write act(z + b) of every pixel to a map, where the lane's first pixel of tile 0 lies at `map` and its second one
// `further`.
template <class T, int DOWN, int PITCH, int CELLS>
__device__ inline void store_map(const Sums<DOWN>& sums, SharedAddress map, int further, int first, SharedAddress bias,
                                 float slope) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const float2 b = load_two_words(bias + ((first + n) * 8 + 2 * t) * 4);
#pragma unroll
        for (int y = 0; y < DOWN; ++y)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float(&z)[4] = sums.of[y][n];
                T::template store<CELLS>(
                    map + h * further + y * PITCH * 16, first + n, t,
                    T::pair(activated(z[2 * h] + b.x, slope), activated(z[2 * h + 1] + b.y, slope)));
            }
    }
}

// The largest of each 2 x 2 window, activated. Its upper and lower pixels are the lane's own, the other two those of
// lane g ^ 1: a lane of even g ends with the windows of an even eight of columns, one of odd g with those of the odd
// eight. They are given to `put(w, h, eight, pair)`: of six tiles the window rows w of pixels h; of three tiles window
// row w of three, with h 0.
template <class T, int DOWN, class Put>
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
                typename T::Pair of[2];
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const float(&u)[4] = sums.of[up][2 * p + side], (&d)[4] = sums.of[down][2 * p + side];
                    of[side] = T::pair(
                        activated(larger(u[2 * of_up], d[2 * of_down]) + b[side].x, slope),
                        activated(larger(u[2 * of_up + 1], d[2 * of_down + 1]) + b[side].y, slope));
                }
                const typename T::Pair given = odd ? of[0] : of[1], kept = odd ? of[1] : of[0];
                put(w, h, first + 2 * p + odd, T::larger_pair(kept, T::of_lane_xor(given, 4)));
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

// Load the block's rotations of its stamp, padded with zeros; channels that there are not are zeros.
template <class T, int IMAGES>
__device__ inline void load_stamp(const float* stamp, int turn, int channels, SharedAddress input) {
    using M = Memory<T, IMAGES>;
    for (int e = threadIdx.x; e < IMAGES * PADDED * PADDED; e += THREADS) {
        const int image = e / (PADDED * PADDED), pixel = e % (PADDED * PADDED);
        const int i = pixel / PADDED - BORDER, j = pixel % PADDED - BORDER;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i >= 0 && i < STAMP && j >= 0 && j < STAMP) {
            const float* from = stamp + turned_pixel(turn + image, i, j) * channels;
            v.x = from[0];
            if (channels > 1) v.y = from[1];
            if (channels > 2) v.z = from[2];
            if (channels > 3) v.w = from[3];
        }
        T::store_pixel(input + image * M::INPUT + pixel * M::PIXEL, v);
    }
}

// The zeros around maps of 24 x 24.
template <class T, int IMAGES>
__device__ inline void clear_borders_24(SharedAddress maps) {
    for (int e = threadIdx.x; e < IMAGES * (32 / T::CHANNELS) * CELLS_24; e += THREADS) {
        const int cell = e % CELLS_24, row = cell / PITCH_24;
        if (row == 0 || row > 24 || cell % PITCH_24 == 0) store_four_words(maps + e * 16, make_uint4(0, 0, 0, 0));
    }
}

// The zeros around an image's map of 12 x 12, of 64 channels.
template <class T>
__device__ inline void clear_borders_12(SharedAddress map) {
    for (int e = threadIdx.x; e < 64 / T::CHANNELS * CELLS_12; e += THREADS) {
        const int cell = e % CELLS_12, row = cell / PITCH_12, column = cell % PITCH_12;
        if (row == 0 || row == 13 || column == 0 || column == 13)
            store_four_words(map + e * 16, make_uint4(0, 0, 0, 0));
    }
}

// x (stamps, 21, 21, channels) -> features (stamps, 4, 36, 64): rotation, pixel of 6 x 6, channel.
template <class T, int IMAGES>
__device__ inline void chain(const float* __restrict__ x, const byte* __restrict__ packed,
                             const float* __restrict__ biases, typename T::number* __restrict__ features, float slope,
                             int channels) {
    using M = Memory<T, IMAGES>;
    using S = Stages<T>;
    DYNAMIC_SHARED(memory, M::BYTES);
    const SharedAddress maps = shared_address(memory), input = maps + IMAGES * M::MAP,
                        ring = input + IMAGES * M::INPUT;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int stamp = blockIdx.x / (4 / IMAGES), turn = blockIdx.x % (4 / IMAGES) * IMAGES;

    int sent = 0;  // bytes of the stages that are on their way or have come
    int slot = 0;  // of the ring, in bytes: where the next stage goes; RING - 1 stages are then on their way
    const auto send = [&] {
        if (sent < (IMAGES * S::PER_IMAGE + S::SHARED_BY_IMAGES) * STAGE) {
#pragma unroll
            for (int e = 0; e < STAGE; e += THREADS * 16)
                copy_async(ring + threadIdx.x * 16 + slot + e, packed + sent + e + threadIdx.x * 16);
            sent += STAGE;
        }
        slot = slot == (RING - 1) * STAGE ? 0 : slot + STAGE;
        commit_copies();
    };
    // The weights of the next stage, whose slot is the one after that which is filled. All warps are done with the
    // stage before, and see what was stored before.
    const auto next_stage = [&] {
        wait_for_copies<RING - 2>();
        __syncthreads();
        send();
        return ring + slot;
    };

    if (threadIdx.x < BIASES / 4)  // with the first stage
        copy_async(ring + RING * STAGE + threadIdx.x * 16, biases + threadIdx.x * 4);
    for (int stage = 0; stage < RING - 1; ++stage) send();
    load_stamp<T, IMAGES>(x + (size_t)stamp * STAMP * STAMP * channels, turn, channels, input);
    clear_borders_24<T, IMAGES>(maps);
    // Of load_matrices, lane 8 m + r names row r of matrix m: of pixels m % 2, of side m / 2 of k.
    const int h = lane / 8 % 2, side = lane / 16, r = lane % 8;

    SharedAddress bias = ring + RING * STAGE;
    {  // Layers 1 and 2: a warp owns a strip of 8 x 12 pixels, all 32 columns; a tile has its rows y and y + 6
        const int left = warp % 3 * 8, top = warp / 3 * 12;
        Sums<6> sums;
#pragma unroll 1
        for (int image = 0; image < IMAGES; ++image) {
            sums.clear();
            const SharedAddress pixels = input + image * M::INPUT + (top * PADDED + left + g) * M::PIXEL + t * 4;
#pragma unroll 1
            for (int stage = 0; stage < S::FIRST; ++stage) {
                const SharedAddress weights = next_stage();
                unsigned a[9][4];
#pragma unroll
                for (int y = 0; y < 9; ++y)
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        a[y][e] = load_word(pixels + stage * 32 + (y + e % 2 * 6) * PADDED * M::PIXEL + e / 2 * 16);
                multiply_taps<T, 6, 4>(sums, a, weights + lane * 16, BLOCK_32);
            }
            const SharedAddress map = maps + image * M::MAP;
            store_map<T, 6, PITCH_24, CELLS_24>(sums, map + ((top + 1) * PITCH_24 + left + g + 1) * 16,
                                                6 * PITCH_24 * 16, 0, bias, slope);
            sums.clear();
            const SharedAddress rows = map + (side * CELLS_24 + (top + h * 6) * PITCH_24 + left + r) * 16;
#pragma unroll 1
            for (int step = 0; step < 3 * S::STEPS_32; step += 2) {
                const SharedAddress weights = next_stage() + lane * 16;
                const SharedAddress at = rows + (step % S::STEPS_32 * 2 * CELLS_24 + step / S::STEPS_32) * 16;
#pragma unroll 1
                for (int s = 0; s < 2; ++s)
                    multiply_step<T, 6, PITCH_24>(sums, at + s * 2 * CELLS_24 * 16, weights + s * (STAGE / 2),
                                                  BLOCK_32);
            }
            __syncthreads();  // all have read the map that is now overwritten
            clear_borders_12<T>(map);
            const SharedAddress to = map + ((top / 2 + 1) * PITCH_12 + (left + g) / 2 + 1) * 16;
            pool<T, 6>(sums, 0, bias + 32 * 4, slope, [&](int w, int half, int eight, typename T::Pair v) {
                T::template store<CELLS_12>(to + (w + 3 * half) * PITCH_12 * 16, eight, t, v);
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
            multiply_step<T, DOWN, PITCH_12>(sums, at, next_stage() + lane * 16 + first * 256, BLOCK_64);
        }
        if (layer == LAYERS) break;
        __syncthreads();  // as above
        const SharedAddress to = maps + ((g / 4 * 6 + 1) * PITCH_12 + left + g % 4 + 1) * 16;
        store_map<T, DOWN, PITCH_12, CELLS_12>(sums, to, FURTHER, first, bias, slope);
        bias += 64 * 4;
    }
    typename T::number* out = features + (size_t)blockIdx.x * (IMAGES * FEATURES);
    pool<T, DOWN>(sums, first, bias, slope, [&](int w, int image, int eight, typename T::Pair v) {
        const int pixel = (w + g / 4 * 3) * 6 + (left + g % 4) / 2;
        T::write(out + image * FEATURES + pixel * 64 + eight * 8 + 2 * t, v);
    });
}

extern "C" __global__ void __launch_bounds__(192, 2) chain_fp16(const float* __restrict__ x,
                                                                const unsigned char* __restrict__ packed,
                                                                const float* __restrict__ biases,
                                                                unsigned short* __restrict__ features, float slope,
                                                                int channels) {
    chain<Half, 2>(x, packed, biases, features, slope, channels);
}

// One image a block: for GPUs whose blocks cannot have the memory of two. The same bits.
extern "C" __global__ void __launch_bounds__(192, 2) chain_fp16_one(const float* __restrict__ x,
                                                                    const unsigned char* __restrict__ packed,
                                                                    const float* __restrict__ biases,
                                                                    unsigned short* __restrict__ features,
                                                                    float slope, int channels) {
    chain<Half, 1>(x, packed, biases, features, slope, channels);
}

extern "C" __global__ void __launch_bounds__(192, 2) chain_tf32(const float* __restrict__ x,
                                                                    const unsigned char* __restrict__ packed,
                                                                    const float* __restrict__ biases,
                                                                    float* __restrict__ features, float slope,
                                                                    int channels) {
    chain<Tf32, 1>(x, packed, biases, features, slope, channels);
}
