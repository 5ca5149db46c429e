// The five convolutions that chain.cu computes, and the order of their packed weights (chain_pack.cu).
//
// Weights come in stages of 6144 bytes, as the lanes of a warp take them: those of layers 1 and 2, once for each image
// of a block, then those of layers 3 to 5. A stage holds blocks: a block is the weights of one tap row, for K
// neighbouring k (a k-step) and all columns, as [pair of eight columns][lane][4 words].
#pragma once
#include "operands.cuh"

constexpr int LAYERS = 5;
constexpr int STAGE = 6144;             // bytes
constexpr int BIASES = 32 + 32 + 3 * 64;  // of the five layers in a row
constexpr int BLOCK_32 = 1024, BLOCK_64 = 2048;  // bytes of a block, of 32 and of 64 columns

template <class T>
struct Stages {
    static constexpr int K = 2 * T::CHANNELS;       // k of a product
    static constexpr int FIRST = 16 / K;            // of layer 1: four tap rows, a k-step of each
    static constexpr int STEPS_32 = 32 / K;         // k-steps of a tap with 32 channels
    static constexpr int STEPS_64 = 64 / K;
    static constexpr int SECOND = 3 * STEPS_32 / 2;  // of layer 2: two k-steps of three tap rows each
    static constexpr int PER_IMAGE = FIRST + SECOND;
    static constexpr int SHARED_BY_IMAGES = 3 * STEPS_32 + 2 * 3 * STEPS_64;  // of layers 3 to 5: a k-step each
    // Of a training step's way back through layers 5 to 2, whose k are the channels of dz: stages of layers 5 and 4, with
    // 64 columns, hold a k-step, those of the others two.
    static constexpr int BACKWARD = 2 * 3 * STEPS_64 + 3 * STEPS_64 / 2 + SECOND;
};
