// What all kernels share: grid-stride loops, shared memory, vectors, the activation.
//
// SHARED(type, name, dims) declares shared memory; the emulator defines it otherwise and poisons it.

#ifndef EMULATED
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#endif

typedef unsigned char byte;
typedef unsigned long long word;

// i = 0 .. count - 1, shared out over all threads of the grid.
#define EACH(i, count)                                                                                       \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(count); i += gridDim.x * blockDim.x)

// act(z) = z where z > 0, slope z elsewhere.
__device__ inline float activated(float z, float slope) { return z > 0.0f ? z : slope * z; }

// Whether a value takes the place of the best so far: the first maximum wins, and the first NaN.
__device__ inline bool beats(float value, float best) { return best == best && !(value <= best); }

__device__ inline bool is_aligned(const void* p) { return ((size_t)p & 15) == 0; }

#ifndef EMULATED
__device__ inline float2 load2(const float* p) { return *reinterpret_cast<const float2*>(p); }
__device__ inline float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ inline void store2(float* p, float2 v) { *reinterpret_cast<float2*>(p) = v; }
__device__ inline void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }
#endif
