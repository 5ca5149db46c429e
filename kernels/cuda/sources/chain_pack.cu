// What chain.cu and head.cu take, made of a network's weights: powers of two, weights as the lanes take them, biases.
//
// In halves, layer l computes 2^-e_l times what it would, so that no activation of a stamp in [0, 1] overflows. Powers
// of two are exact, and act is homogeneous: weights are taken times 2^(e_(l-1) - e_l), biases times 2^-e_l, and the
// first dense layer takes its sums times 2^e_5.
#include "include/chain.cuh"

constexpr int SUMMERS = 4;       // threads that share out a column's sum
constexpr float MOST = 64000.0f;  // of a half's 65504; the rest is for the rounding of weights and sums

#define PACK_PARAMETERS                                                                                      \
    const float* __restrict__ w1, const float* __restrict__ w2, const float* __restrict__ w3,                \
        const float* __restrict__ w4, const float* __restrict__ w5, const float* __restrict__ b1,            \
        const float* __restrict__ b2, const float* __restrict__ b3, const float* __restrict__ b4,            \
        const float* __restrict__ b5, int channels, int images, const float* __restrict__ powers,            \
        unsigned char* __restrict__ packed, float* __restrict__ biases, int count
#define PACK_ARGUMENTS w1, w2, w3, w4, w5, b1, b2, b3, b4, b5, channels, images, powers, packed, biases, count
#define POWERS_PARAMETERS                                                                                    \
    const float* __restrict__ w1, const float* __restrict__ w2, const float* __restrict__ w3,                \
        const float* __restrict__ w4, const float* __restrict__ w5, const float* __restrict__ b1,            \
        const float* __restrict__ b2, const float* __restrict__ b3, const float* __restrict__ b4,            \
        const float* __restrict__ b5, int channels, float* __restrict__ powers

__device__ inline int columns_of(int layer) { return layer < 2 ? 32 : 64; }
__device__ inline int inputs_of(int layer) { return layer < 3 ? 32 : 64; }  // channels, of all but layer 0
__device__ inline const float* array_of(int layer, const float* a0, const float* a1, const float* a2, const float* a3,
                                        const float* a4) {
    return layer == 0 ? a0 : layer == 1 ? a1 : layer == 2 ? a2 : layer == 3 ? a3 : a4;
}
// Of the columns of all layers in a row: the layer's first one, and the layer of one.
__device__ inline int column_begin(int layer) { return layer < 2 ? 32 * layer : 64 * layer - 64; }
__device__ inline int layer_of(int column) { return column < 64 ? column / 32 : column / 64 + 1; }

// powers[l] = 2^-e_l, e_l >= 0 the least for which no |activation| of layer l can exceed MOST. One block: a thread
// sums |w| of a part of a column.
extern "C" __global__ void __launch_bounds__(1024) chain_powers(POWERS_PARAMETERS) {
    SHARED(float, sums, [SUMMERS][BIASES]);
    SHARED(float, factors, [LAYERS]);
    SHARED(float, shifts, [LAYERS]);
    const int at = threadIdx.x % BIASES, part = threadIdx.x / BIASES;
    const int layer = layer_of(at), column = at - column_begin(layer), columns = columns_of(layer);
    const float* const w = array_of(layer, w1, w2, w3, w4, w5);
    const int taps = layer == 0 ? 16 * channels : 9 * inputs_of(layer);
    float sum = 0.0f;
    for (int k = part; k < taps; k += SUMMERS) sum += fabsf(w[k * columns + column]);
    sums[part][at] = sum;
    __syncthreads();
    if (threadIdx.x < LAYERS) {
        const int mine = threadIdx.x;
        const float* const b = array_of(mine, b1, b2, b3, b4, b5);
        float factor = 0.0f, shift = 0.0f;
        for (int o = 0; o < columns_of(mine); ++o) {
            float whole = 0.0f;
            for (int other = 0; other < SUMMERS; ++other) whole += sums[other][column_begin(mine) + o];
            factor = fmaxf(factor, whole);
            shift = fmaxf(shift, fabsf(b[o]));
        }
        factors[mine] = factor;
        shifts[mine] = shift;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    float bound = 1.0f;
    for (int l = 0; l < LAYERS; ++l) {
        bound = bound * factors[l] + shifts[l];
        float power = 1.0f;
        while (bound * power > MOST && power > 1e-30f) power *= 0.5f;
        powers[l] = power;
    }
}

// Which weights a word of the packed ones holds: of a layer (0 to 4), the tap, the first channel of the k-step, and the
// words of its block.
struct Where {
    int layer, row, column, channel, block;
};

template <class T>
__device__ inline Where where_of(int stage, int byte_of_stage, int images) {
    using S = Stages<T>;
    if (stage < images * S::PER_IMAGE) {
        stage %= S::PER_IMAGE;
        if (stage < S::FIRST) return {0, byte_of_stage / BLOCK_32, stage * (S::K / 4), 0, BLOCK_32};
        const int step = (stage - S::FIRST) * 2 + byte_of_stage / (STAGE / 2);
        return {1, byte_of_stage % (STAGE / 2) / BLOCK_32, step / S::STEPS_32, step % S::STEPS_32 * S::K, BLOCK_32};
    }
    stage -= images * S::PER_IMAGE;
    int layer = 2, steps = S::STEPS_32;
    for (; stage >= 3 * steps; ++layer) stage -= 3 * steps, steps = S::STEPS_64;
    return {layer, byte_of_stage / BLOCK_64, stage / steps, stage % steps * S::K, BLOCK_64};
}

// A number of an operand: that of row k and column `column` of where `in` is.
__device__ inline float weight_of(const Where& in, int k, int column, int channels, const float* w) {
    const int columns = columns_of(in.layer);
    if (in.layer > 0)
        return w[((in.row * 3 + in.column) * inputs_of(in.layer) + in.channel + k) * columns + column];
    // k goes through taps of four channels; a third of these stages is empty
    if (in.row >= 4 || k % 4 >= channels) return 0.0f;
    return w[((in.row * 4 + in.column + k / 4) * channels + k % 4) * columns + column];
}

// A thread has a word of the packed weights, and the first ones a bias each. Without powers all are 1.
template <class T>
__device__ inline void pack(PACK_PARAMETERS) {
    EACH(e, count) {
        if (e < BIASES) {
            const int layer = layer_of((int)e);
            const float b = array_of(layer, b1, b2, b3, b4, b5)[e - column_begin(layer)];
            biases[e] = powers == nullptr ? b : b * powers[layer];
        }
        const int at = e % (STAGE / 4) * 4;  // bytes
        const Where in = where_of<T>(e / (STAGE / 4), at, images);
        const int lane = at / 16 % 32, g = lane / 4, t = lane % 4, word = at / 4 % 4;
        const int column = (at % in.block / 512 * 2 + word / 2) * 8 + g;
        const float* const w = array_of(in.layer, w1, w2, w3, w4, w5);
        float two[2] = {0.0f, 0.0f};
        for (int n = 0; n < T::PER_WORD; ++n) {
            two[n] = weight_of(in, T::PER_WORD * t + n + T::CHANNELS * (word % 2), column, channels, w);
            if (powers != nullptr) two[n] *= in.layer == 0 ? powers[0] : powers[in.layer] / powers[in.layer - 1];
        }
        reinterpret_cast<unsigned*>(packed)[e] = T::word(two[0], two[1]);
    }
}

extern "C" __global__ void chain_pack_fp16(PACK_PARAMETERS) { pack<Half>(PACK_ARGUMENTS); }
extern "C" __global__ void chain_pack_tf32(PACK_PARAMETERS) { pack<Tf32>(PACK_ARGUMENTS); }

// The weights of a training step's way back, which goes through the taps the other way round: columns are the channels of x.
extern "C" __global__ void chain_pack_backward(const float* __restrict__ w2, const float* __restrict__ w3,
                                               const float* __restrict__ w4, const float* __restrict__ w5,
                                               unsigned char* __restrict__ packed, int count) {
    using S = Stages<Tf32>;
    constexpr int OF_64 = 3 * S::STEPS_64;  // stages of layers 5 and 4
    EACH(e, count) {
        const int stage = e / (STAGE / 4), at = e % (STAGE / 4) * 4;
        const int lane = at / 16 % 32, g = lane / 4, t = lane % 4, word = at / 4 % 4;
        const bool wide = stage < 2 * OF_64;  // else layers 3 and 2
        const int layer = wide ? 4 - stage / OF_64 : stage < 2 * OF_64 + OF_64 / 2 ? 2 : 1;
        const int block = wide ? BLOCK_64 : BLOCK_32, steps = layer == 1 ? S::STEPS_32 : S::STEPS_64;
        const int step = wide ? stage % OF_64
                              : (stage - 2 * OF_64 - (layer == 1 ? OF_64 / 2 : 0)) * 2 + at / (STAGE / 2);
        const int row = (wide ? at : at % (STAGE / 2)) / block, column_of_tap = step / steps;
        const int c = (at % block / 512 * 2 + word / 2) * 8 + g, o = step % steps * S::K + t + 4 * (word % 2);
        const int tap = (2 - row) * 3 + 2 - column_of_tap;
        const float* const w = layer == 4 ? w5 : layer == 3 ? w4 : layer == 2 ? w3 : w2;
        reinterpret_cast<unsigned*>(packed)[e] =
            Tf32::word(w[(tap * inputs_of(layer) + c) * columns_of(layer) + o], 0.0f);
    }
}
