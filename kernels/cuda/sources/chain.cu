// The five convolutions of CAP and Deep-HiTS on the rotations of one stamp of 21 x 21 pixels: scoring, which keeps the
// features alone. A block owns one or two rotations, whose maps never leave the multiprocessor.
#include "include/convolutions.cuh"

// features (stamps, 4, 36, 64): rotation, pixel of 6 x 6, channel.
template <class T>
struct Features {
    static constexpr bool WINNERS = false;
    typename T::number* to;  // of the block's first image

    __device__ void begin_layer() {}
    __device__ void padded(int, int, float4) const {}
    __device__ void first(int, int, typename T::Pair) const {}
    __device__ void second(int, int, typename T::Pair, unsigned) const {}
    __device__ void later(int, int, int, typename T::Pair) const {}
    __device__ void features(int image, int pixel, int channel, typename T::Pair v, unsigned) const {
        T::write(to + image * FEATURES + pixel * 64 + channel, v);
    }
};

// x (stamps, 21, 21, channels). The four rotations of a stamp are IMAGES to a block.
template <class T, int IMAGES, int SLOTS>
__device__ inline void chain(const float* __restrict__ x, const byte* __restrict__ packed,
                             const float* __restrict__ biases, typename T::number* __restrict__ features, float slope,
                             int channels) {
    using M = Memory<T, IMAGES, SLOTS>;
    DYNAMIC_SHARED(memory, M::BYTES);
    const int stamp = blockIdx.x / (4 / IMAGES), turn = blockIdx.x % (4 / IMAGES) * IMAGES;
    convolutions<T, IMAGES, SLOTS>(x + (size_t)stamp * STAMP * STAMP * channels, turn, channels, packed, biases, slope,
                                   shared_address(memory),
                                   Features<T>{features + (size_t)blockIdx.x * (IMAGES * FEATURES)});
}

extern "C" __global__ void __launch_bounds__(192, 2) chain_fp16(const float* __restrict__ x,
                                                                const unsigned char* __restrict__ packed,
                                                                const float* __restrict__ biases,
                                                                unsigned short* __restrict__ features, float slope,
                                                                int channels) {
    chain<Half, 2, 3>(x, packed, biases, features, slope, channels);
}

// One image a block: for GPUs whose blocks cannot have the memory of two. The same bits.
extern "C" __global__ void __launch_bounds__(192, 2) chain_fp16_one(const float* __restrict__ x,
                                                                    const unsigned char* __restrict__ packed,
                                                                    const float* __restrict__ biases,
                                                                    unsigned short* __restrict__ features,
                                                                    float slope, int channels) {
    chain<Half, 1, 3>(x, packed, biases, features, slope, channels);
}

extern "C" __global__ void __launch_bounds__(192, 2) chain_tf32(const float* __restrict__ x,
                                                                    const unsigned char* __restrict__ packed,
                                                                    const float* __restrict__ biases,
                                                                    float* __restrict__ features, float slope,
                                                                    int channels) {
    chain<Tf32, 1, 3>(x, packed, biases, features, slope, channels);
}

// One stage of weights on its way, not two: as above.
extern "C" __global__ void __launch_bounds__(192, 2) chain_tf32_small(const float* __restrict__ x,
                                                                          const unsigned char* __restrict__ packed,
                                                                          const float* __restrict__ biases,
                                                                          float* __restrict__ features, float slope,
                                                                          int channels) {
    chain<Tf32, 1, 2>(x, packed, biases, features, slope, channels);
}
