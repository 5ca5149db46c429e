// Maps of a chain of convolutions in a block's shared memory, and the products of a strip of them on tensor cores: for
// chain.cu (scoring) and step_chain.cu (training).
//
// A map lies there as cells of 16 bytes, [channels of a cell][position], with a border of zeros. Eight pixels of a row are
// then 128 bytes in a row, so that neither ldmatrix nor the stores meet a bank twice. A layer is summed in registers, and
// after a barrier written where its input was.
//
// A warp's tile y holds the pixels of a strip's row y, and of six rows (or of an image, or of three rows) further on. Tap
// row i of tile y reads what tap row 0 of tile y + i reads, so a warp loads each row once for all tap rows. Weights come
// through a ring of stages by asynchronous copies (chain.cuh).
#pragma once
#include "chain.cuh"

constexpr int WARPS = 6, THREADS = WARPS * 32;
// Cells of a slab: 4 modulo 8, so that two slabs never meet in a bank. In maps of 24 x 24 a row's right border is the
// next row's left one.
constexpr int PITCH_24 = 25, CELLS_24 = 652;
constexpr int PITCH_12 = 14, CELLS_12 = 196;

// A warp's sums: DOWN tiles of 16 pixels (the product's rows) and PAIRS times 16 columns. Element e is of column 2 t + e % 2 and
// pixel g + 8 (e / 2).
template <int DOWN, int PAIRS = 2>
struct Sums {
    float of[DOWN][2 * PAIRS][4];
    __device__ void clear() {
#pragma unroll
        for (int y = 0; y < DOWN; ++y)
#pragma unroll
            for (int n = 0; n < 2 * PAIRS; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) of[y][n][e] = 0.0f;
    }
};

// Add a k-step of TAPS tap rows: `a` are the strip's rows, `weights` this lane's of the first block.
template <class T, int DOWN, int TAPS, int PAIRS>
__device__ inline void multiply_taps(Sums<DOWN, PAIRS>& sums, const unsigned (&a)[DOWN + TAPS - 1][4],
                                     SharedAddress weights, int block) {
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
#pragma unroll
        for (int p = 0; p < PAIRS; ++p) {
            const uint4 b = load_four_words(weights + i * block + p * 512);
#pragma unroll
            for (int y = 0; y < DOWN; ++y) {
                T::multiply(sums.of[y][2 * p], a[y + i], b.x, b.y);
                T::multiply(sums.of[y][2 * p + 1], a[y + i], b.z, b.w);
            }
        }
    }
}

template <class T, int DOWN, int PITCH, int PAIRS>
__device__ inline void multiply_step(Sums<DOWN, PAIRS>& sums, SharedAddress rows, SharedAddress weights, int block) {
    unsigned a[DOWN + 2][4];
#pragma unroll
    for (int y = 0; y < DOWN + 2; ++y) load_matrices(a[y], rows + y * PITCH * 16);
    multiply_taps<T, DOWN, 3, PAIRS>(sums, a, weights, block);
}

// The zeros around an image's map of 24 x 24, of 32 channels.
template <class T>
__device__ inline void clear_borders_24(SharedAddress map) {
    for (int e = threadIdx.x; e < 32 / T::CHANNELS * CELLS_24; e += THREADS) {
        const int cell = e % CELLS_24, row = cell / PITCH_24;
        if (row == 0 || row > 24 || cell % PITCH_24 == 0) store_four_words(map + e * 16, make_uint4(0, 0, 0, 0));
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

// STAGES stages of packed weights on their way through a ring of SLOTS slots at `at`.
template <int SLOTS, int STAGES>
struct Ring {
    static constexpr int BYTES = SLOTS * STAGE;
    SharedAddress at;
    const byte* packed;
    int sent = 0;  // bytes of the stages that are on their way or have come
    int slot = 0;  // in bytes: where the next stage goes; SLOTS - 1 stages are then on their way

    __device__ Ring(SharedAddress at, const byte* packed) : at(at), packed(packed) {}

    __device__ void send() {
        if (sent < STAGES * STAGE) {
#pragma unroll
            for (int e = 0; e < STAGE; e += THREADS * 16)
                copy_async(at + threadIdx.x * 16 + slot + e, packed + sent + e + threadIdx.x * 16);
            sent += STAGE;
        }
        slot = slot == (SLOTS - 1) * STAGE ? 0 : slot + STAGE;
        commit_copies();
    }

    __device__ void begin() {
        for (int stage = 0; stage < SLOTS - 1; ++stage) send();
    }

    // The weights of the next stage, whose slot is the one after that which is filled. All warps are done with the
    // stage before, and see what was stored before.
    __device__ SharedAddress next() {
        wait_for_copies<SLOTS - 2>();
        __syncthreads();
        send();
        return at + slot;
    }
};
