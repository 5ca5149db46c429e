// The instructions of kernels/cuda/sources/include/machine.cuh and tensor.cuh, emulated.
#pragma once

struct uint4 {
    unsigned x, y, z, w;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

typedef char* SharedAddress;
#define DYNAMIC_SHARED(name, bytes) char* name = emu::register_dynamic(bytes)
static inline SharedAddress shared_address(const void* p) { return (SharedAddress)p; }
static inline void forget(int&) {}

namespace emu {

// Copies that a thread has begun, by groups. They arrive when their thread waits for them, and not before; but as the
// hardware may write at any time from their beginning on, what was there is NaN as soon as they begin.
struct Copy {
    char* to;
    const char* from;
};
static std::vector<std::vector<Copy>> groups[MOST];
static std::vector<Copy> open_group[MOST];

QUIET void forget_copies(int t) {
    groups[t].clear();
    open_group[t].clear();
}

inline void check_aligned(const void* p, int bytes) {
    if ((uintptr_t)p & (bytes - 1)) fail("an access to shared memory that is not aligned");
}

}  // namespace emu

static inline void copy_async(SharedAddress to, const void* from) {
    if (((uintptr_t)to | (uintptr_t)from) & 15) emu::fail("a copy of 16 bytes that is not aligned");
    memset(to, 0xff, 16);
    emu::open_group[emu::current].push_back({to, (const char*)from});
}
static inline void commit_copies() {
    auto& open = emu::open_group[emu::current];
    emu::groups[emu::current].push_back(open);
    open.clear();
}
template <int LEFT>
static inline void wait_for_copies() {
    auto& groups = emu::groups[emu::current];
    while (groups.size() > LEFT) {
        for (const auto& copy : groups.front()) memcpy(copy.to, copy.from, 16);
        groups.erase(groups.begin());
    }
}

// ldmatrix.x4: a gather over the lanes; lane 8 m + r names row r of matrix m.
static inline void load_matrices(unsigned (&a)[4], SharedAddress at, int line = __builtin_LINE()) {
    emu::check_aligned(at, 16);
    emu::note(line, at, 16, false);
    unsigned row[4];
    memcpy(row, at, 16);
    const auto lanes = emu::exchange(row, 4);
    const int lane = emu::current % 32;
    for (int m = 0; m < 4; ++m) a[m] = lanes[8 * m + lane / 4][lane % 4];
}

template <class T>
static inline T emu_load(SharedAddress at, int line) {
    emu::check_aligned(at, sizeof(T));
    emu::note(line, at, sizeof(T), false);
    T v;
    memcpy(&v, at, sizeof(T));
    return v;
}
template <class T>
static inline void emu_store(SharedAddress at, const T& v, int line) {
    emu::check_aligned(at, sizeof(T));
    emu::note(line, at, sizeof(T), true);
    memcpy(at, &v, sizeof(T));
}
static inline unsigned load_word(SharedAddress at, int line = __builtin_LINE()) { return emu_load<unsigned>(at, line); }
static inline float2 load_two_words(SharedAddress at, int line = __builtin_LINE()) {
    return emu_load<float2>(at, line);
}
static inline uint4 load_four_words(SharedAddress at, int line = __builtin_LINE()) { return emu_load<uint4>(at, line); }
static inline void store_word(SharedAddress at, unsigned v, int line = __builtin_LINE()) { emu_store(at, v, line); }
static inline void store_two_words(SharedAddress at, unsigned v, unsigned w, int line = __builtin_LINE()) {
    const unsigned both[2] = {v, w};
    emu_store(at, both, line);
}
static inline void store_four_words(SharedAddress at, uint4 v, int line = __builtin_LINE()) { emu_store(at, v, line); }

// cvt.rna.tf32.f32: to 10 bits of mantissa, ties away from zero.
static inline unsigned to_tf32(float x) {
    const unsigned u = __float_as_uint(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}

// cvt.rn.f16x2.f32: to halves, ties to even.
static inline unsigned emu_half(float x) {
    const _Float16 half = (_Float16)x;
    unsigned short u;
    memcpy(&u, &half, 2);
    return u;
}
static inline float emu_of_half(unsigned u) {
    const unsigned short bits = (unsigned short)u;
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}
static inline unsigned to_halves(float low, float high) { return emu_half(low) | emu_half(high) << 16; }

// max.NaN
static inline float larger(float a, float b) { return a != a ? a : b != b ? b : a > b ? a : b; }
static inline unsigned larger_halves(unsigned a, unsigned b) {
    return to_halves(larger(emu_of_half(a), emu_of_half(b)), larger(emu_of_half(a >> 16), emu_of_half(b >> 16)));
}

static inline unsigned from_lane_xor(unsigned v, int mask) {
    return emu::exchange(&v, 1)[emu::current % 32 ^ mask][0];
}

namespace emu {

// A warp's products of the last two exchanges, (16 x 8); the first lane that goes on computes one for all.
typedef float Eight __attribute__((vector_size(32)));
static struct {
    unsigned exchange;  // whose product it is
    Eight row[16];
} products[MOST / WARP][2];

// The product of the numbers that the lanes show: those of the four words of a and of the two of b, PER_WORD each. The
// hardware's order of additions within a product is not known; here it is that of k.
template <int PER_WORD>
QUIET const Eight* product(const uint32_t (*lanes)[SLOTS]) {
    const unsigned exchange = threads[current].exchanges;
    auto& found = products[current / WARP][exchange & 1];
    if (found.exchange == exchange) return found.row;
    found.exchange = exchange;
    constexpr int K = 8 * PER_WORD, OWNED = 4 * PER_WORD;  // of a side: owned by four lanes, PER_WORD each
    const auto number_of = [&](int lane, int word, int k) {
        return __uint_as_float(lanes[lane * 4 + k % OWNED / PER_WORD][word * PER_WORD + k % PER_WORD]);
    };
    Eight b[K];
    for (int k = 0; k < K; ++k)
        for (int column = 0; column < 8; ++column) b[k][column] = number_of(column, 4 + k / OWNED, k);
    for (int row = 0; row < 16; ++row) {
        Eight sum = {};
        for (int k = 0; k < K; ++k) sum += number_of(row % 8, row / 8 + 2 * (k / OWNED), k) * b[k];
        found.row[row] = sum;
    }
    return found.row;
}

QUIET void forget_products() {
    for (auto& of_warp : products)
        for (auto& each : of_warp) each.exchange = 0;  // a thread's first exchange is number 1
}

}  // namespace emu

// c (16 x 8) += a b.
template <int PER_WORD>
static inline void emu_multiply(float (&c)[4], const float (&numbers)[6 * PER_WORD]) {
    unsigned shown[6 * PER_WORD];
    memcpy(shown, numbers, sizeof shown);
    const emu::Eight* const rows = emu::product<PER_WORD>(emu::exchange(shown, 6 * PER_WORD));
    const int lane = emu::current % 32, group = lane / 4, within = lane % 4;
    for (int i = 0; i < 4; ++i) c[i] += rows[group + 8 * (i / 2)][2 * within + i % 2];
}
static inline void multiply_tf32_words(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    float numbers[6];
    for (int i = 0; i < 6; ++i) {
        if (words[i] & 0x1fffu) emu::fail("an operand of tf32's product that is not rounded to tf32");
        numbers[i] = __uint_as_float(words[i]);
    }
    emu_multiply<1>(c, numbers);
}
static inline void mma_tf32(float (&c)[4], float4 a, float b0, float b1) {
    const unsigned words[4] = {__float_as_uint(a.x), __float_as_uint(a.y), __float_as_uint(a.z), __float_as_uint(a.w)};
    multiply_tf32_words(c, words, __float_as_uint(b0), __float_as_uint(b1));
}
static inline void multiply_halves(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    float numbers[12];
    for (int i = 0; i < 6; ++i) {
        numbers[2 * i] = emu_of_half(words[i]);
        numbers[2 * i + 1] = emu_of_half(words[i] >> 16);
    }
    emu_multiply<2>(c, numbers);
}
