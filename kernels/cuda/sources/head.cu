// What follows the convolutions in CAP and Deep-HiTS, on tensor cores up to the first dense layer: dense to 64 units,
// dense 64 to 64, the mean of the rotations (CAP), dense to the classes.
//
// A row is a stamp in one rotation. CAP reads 2304 features of a row, Deep-HiTS the four rotations' side by side, itself
// first. A block owns 32 rows; its eight warps share out the features, and their sums are added in the warps' order.
// A lane takes its numbers by 16 bytes from where they lie: a sum may go through its k in any order that the weights
// have too (head_pack).
#include "include/operands.cuh"

constexpr int FEATURES = 2304, UNITS = 64, ROWS = 32, WARPS = 8;
constexpr int WIDE = 72;  // floats of a row in shared memory: neighbouring rows begin 8 banks apart

// k of two products: 16 bytes of each of four lanes.
template <class T>
constexpr int CHUNK = 4 * T::CHANNELS;

// Where row `row` of features begins, in its part `part` of `parts`; rows beyond the last are read as the last.
__device__ inline size_t row_begin(int row, int stamps, int rotations, int part) {
    const int last = stamps * rotations - 1, at = row < last ? row : last;
    return ((size_t)(at / rotations) * 4 + (at % rotations + part) % 4) * FEATURES;
}

// The block's sums of the first dense layer, each warp's own, to parts [warp][row][WIDE].
template <class T, int PARTS>
__device__ inline void multiply_features(const typename T::number* features, const uint4* packed, int stamps,
                                         int rotations, float* parts) {
    constexpr int CHUNKS = PARTS * FEATURES / CHUNK<T> / WARPS;  // of a warp, all of one part
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int part = warp * PARTS / WARPS, within = warp % (WARPS / PARTS) * CHUNKS * CHUNK<T> + t * (CHUNK<T> / 4);
    const typename T::number* from[4];  // rows g, g + 8, g + 16, g + 24
#pragma unroll
    for (int r = 0; r < 4; ++r)
        from[r] = features + row_begin(blockIdx.x * ROWS + g + 8 * r, stamps, rotations, part) + within;
    const uint4* weights = packed + (size_t)warp * CHUNKS * 8 * 32 + lane;
    float sum[2][8][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        uint4 a[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) a[r] = *reinterpret_cast<const uint4*>(from[r] + chunk * CHUNK<T>);
#pragma unroll
        for (int n = 0; n < 8; ++n) {
            const uint4 b = weights[(chunk * 8 + n) * 32];
#pragma unroll
            for (int m = 0; m < 2; ++m) {
                const uint4 u = a[2 * m], v = a[2 * m + 1];
                const unsigned first[4] = {u.x, v.x, u.y, v.y}, second[4] = {u.z, v.z, u.w, v.w};
                T::multiply(sum[m][n], first, b.x, b.y);
                T::multiply(sum[m][n], second, b.z, b.w);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float* to = &parts[(warp * ROWS + 16 * m + 8 * h + g) * WIDE + 8 * n + 2 * t];
                store2(to, make_float2(sum[m][n][2 * h], sum[m][n][2 * h + 1]));
            }
}

#define HEAD_FP16_PARAMETERS                                                                                 \
    const unsigned short* __restrict__ features, const unsigned char* __restrict__ packed,                   \
        const float* __restrict__ b1, const float* __restrict__ w2, const float* __restrict__ b2,            \
        const float* __restrict__ w3, const float* __restrict__ b3, const float* __restrict__ powers,        \
        float* __restrict__ logits, float* __restrict__ each, float* __restrict__ units, float slope,        \
        int stamps, int rotations, int classes
#define HEAD_TF32_PARAMETERS                                                                                 \
    const float* __restrict__ features, const unsigned char* __restrict__ packed,                            \
        const float* __restrict__ b1, const float* __restrict__ w2, const float* __restrict__ b2,            \
        const float* __restrict__ w3, const float* __restrict__ b3, const float* __restrict__ powers,        \
        float* __restrict__ logits, float* __restrict__ each, float* __restrict__ units, float slope,        \
        int stamps, int rotations, int classes
#define HEAD_ARGUMENTS                                                                                       \
    features, packed, b1, w2, b2, w3, b3, powers, logits, each, units, slope, stamps, rotations, classes

// logits (stamps, classes); each (4, stamps, classes), of every rotation, or null; units (stamps, 64), what the last
// layer reads. CAP (one part) has the four rotations' rows and averages them. Deep-HiTS (four parts) has rows of one
// rotation, whose logits are the stamp's, or of four.
template <class T, int PARTS>
__device__ inline void head(const typename T::number* __restrict__ features, const byte* __restrict__ packed,
                            const float* __restrict__ b1, const float* __restrict__ w2, const float* __restrict__ b2,
                            const float* __restrict__ w3, const float* __restrict__ b3,
                            const float* __restrict__ powers, float* __restrict__ logits, float* __restrict__ each,
                            float* __restrict__ units, float slope, int stamps, int rotations, int classes) {
    DYNAMIC_SHARED(memory, (WARPS + 2) * ROWS * WIDE * 4);
    float* const parts = (float*)memory;  // [warp][row][WIDE]
    float* const first = parts + WARPS * ROWS * WIDE;
    float* const second = first + ROWS * WIDE;
    multiply_features<T, PARTS>(features, reinterpret_cast<const uint4*>(packed), stamps, rotations, parts);
    __syncthreads();

    const int row = threadIdx.x / 8, left = threadIdx.x % 8 * 4;
    // The thread's e-th unit of the row: eight threads' four neighbouring units are 128 bytes, of all banks.
    const auto unit = [=](int e) { return left + e / 4 * 32 + e % 4; };
    const float unscaled = 1.0f / powers[4];  // a power of two
    float z[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
        z[e] = 0.0f;
        for (int w = 0; w < WARPS; ++w) z[e] += parts[(w * ROWS + row) * WIDE + unit(e)];
        first[row * WIDE + unit(e)] = activated(z[e] * unscaled + b1[unit(e)], slope);
        z[e] = 0.0f;
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < UNITS; ++k) {
        const float x = first[row * WIDE + k];
#pragma unroll
        for (int e = 0; e < 8; ++e) z[e] += x * w2[k * UNITS + unit(e)];
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) second[row * WIDE + unit(e)] = activated(z[e] + b2[unit(e)], slope);
    __syncthreads();

    constexpr bool MEAN = PARTS == 1;
    if (MEAN) {  // into the rows of `parts`, which are free
        for (int e = threadIdx.x; e < ROWS / 4 * UNITS; e += blockDim.x) {
            const int stamp = e / UNITS, k = e % UNITS;
            const float* of = second + 4 * stamp * WIDE + k;
            parts[stamp * WIDE + k] = ((of[0] + of[2 * WIDE]) + (of[WIDE] + of[3 * WIDE])) / 4.0f;
        }
        __syncthreads();
    }
    // The stamps of the block, as rows of `from`, and then its rows.
    const float* const from = MEAN ? parts : second;
    const int stride = MEAN ? WIDE : rotations * WIDE, held = ROWS / rotations, begin = blockIdx.x * held;
    for (int e = threadIdx.x; e < held * UNITS; e += blockDim.x) {
        const int stamp = begin + e / UNITS;
        if (stamp < stamps) units[(size_t)stamp * UNITS + e % UNITS] = from[e / UNITS * stride + e % UNITS];
    }
    for (int e = threadIdx.x; e < (held + ROWS) * classes; e += blockDim.x) {
        const int which = e / classes, o = e % classes;
        const bool whole = which < held;
        const float* of = whole ? from + which * stride : second + (which - held) * WIDE;
        const int stamp = begin + (whole ? which : (which - held) / rotations);
        if (stamp >= stamps || (!whole && each == nullptr)) continue;
        float sum = 0.0f;
        for (int k = 0; k < UNITS; ++k) sum += of[k] * w3[k * classes + o];
        sum += b3[o];
        if (whole)
            logits[(size_t)stamp * classes + o] = sum;
        else
            each[((size_t)((which - held) % rotations) * stamps + stamp) * classes + o] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) head_mean_fp16(HEAD_FP16_PARAMETERS) {
    head<Half, 1>(HEAD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256, 2) head_mean_tf32(HEAD_TF32_PARAMETERS) {
    head<Tf32, 1>(HEAD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256, 2) head_concat_fp16(HEAD_FP16_PARAMETERS) {
    head<Half, 4>(HEAD_ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256, 2) head_concat_tf32(HEAD_TF32_PARAMETERS) {
    head<Tf32, 4>(HEAD_ARGUMENTS);
}

// The first dense layer's weights w (k, 64) as the lanes take them: [chunk][eight columns][lane][4 words]. A thread has
// a word.
template <class T>
__device__ inline void pack(const float* w, byte* packed, int count) {
    EACH(e, count) {
        const int lane = e / 4 % 32, g = lane / 4, t = lane % 4, column = e / 128 % 8 * 8 + g;
        const size_t k = (size_t)(e / 1024) * CHUNK<T> + t * (CHUNK<T> / 4) + e % 4 * T::PER_WORD;
        const float second = T::PER_WORD == 2 ? w[(k + 1) * UNITS + column] : 0.0f;
        reinterpret_cast<unsigned*>(packed)[e] = T::word(w[k * UNITS + column], second);
    }
}

extern "C" __global__ void head_pack_fp16(const float* __restrict__ w, unsigned char* __restrict__ packed, int count) {
    pack<Half>(w, packed, count);
}
extern "C" __global__ void head_pack_tf32(const float* __restrict__ w, unsigned char* __restrict__ packed, int count) {
    pack<Tf32>(w, packed, count);
}
