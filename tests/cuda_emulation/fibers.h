// A block's threads as fibers: each runs until it waits at a barrier; blocks run one after another.
//
// A kernel that is right gives the same bits in every order of its threads. Three orders (forward, reverse, random)
// let each thread run to its next barrier or exchange, so that all warps advance together. Two more (first warp, last
// warp) run a warp as far as it can go before the next one: they find races between warps that the first three hide.
// Before a block, its shared memory is filled with NaN.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define EMU_TSAN 1
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_poison_memory_region(const volatile void*, size_t);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#endif

#if defined(__x86_64__)
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#else
#error "the emulator switches fibers by x86-64 instructions"
#endif

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {

// The emulator's own functions are hidden from the thread sanitizer, which watches the kernels.
#define QUIET __attribute__((no_sanitize("thread"))) static

enum State { READY, AT_BARRIER, IN_WARP, DONE };
constexpr int MOST = 1024, WARP = 32;
constexpr size_t STACK = 1 << 16;
// Bytes of a block's shared memory: of arrays that are declared with their size, and of all on sm_90.
constexpr size_t SHARED_LIMIT = 48 * 1024, MOST_SHARED = 227 * 1024;
constexpr int FIRST_WARP = 3, LAST_WARP = 4;  // the orders that run a warp as far as it can go

struct Thread {
    void* sp;
    State state;
    int line;       // of the barrier where it waits
    int predicate;  // of __syncthreads_or
    unsigned exchanges;
    void* tsan;
};

static Thread threads[MOST];
static char* stacks;
static int current, live;
static void* scheduler_sp;
static void* scheduler_tsan;
static const std::function<void()>* body;
static int any;
static std::string failure;
static struct {
    void* at;
    size_t size;
} shared[16];
static int shared_count;
static size_t dynamic_bytes;  // of shared memory that the launch asked for
QUIET void forget_copies(int t);      // machine.h
QUIET void count_block(int threads);  // counts.h
constexpr int SLOTS = 12;
static uint32_t slots[2][MOST][SLOTS];  // what the lanes of a warp show one another
static uint64_t random_state;
[[maybe_unused]] static char block_token, tokens[2], warp_tokens[MOST / WARP][2];
[[maybe_unused]] static unsigned barriers, warp_barriers[MOST / WARP];

// Memory is poisoned by a loop of its own: the sanitizers watch memset.
__attribute__((no_sanitize("thread", "address"))) static void poison(void* p, size_t size) {
    volatile char* bytes = (volatile char*)p;
    for (size_t i = 0; i < size; ++i) bytes[i] = (char)0xff;
}

QUIET uint64_t random_number() {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return random_state >> 33;
}

[[maybe_unused]] static void* asan_main_stack;
[[maybe_unused]] static const void* asan_bottom;
[[maybe_unused]] static size_t asan_size;

QUIET void to_scheduler(bool done) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(done ? nullptr : &fake, asan_bottom, asan_size);
#endif
#if EMU_TSAN
    if (done) __tsan_release(&block_token);
    __tsan_switch_to_fiber(scheduler_tsan, 1);
#endif
    emu_switch(&threads[current].sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

[[noreturn]] QUIET void fail(const char* what) {
    char text[400];
    snprintf(text, sizeof text, "%s (block %u,%u,%u thread %d)", what, blockIdx.x, blockIdx.y, blockIdx.z, current);
    failure = text;
    threads[current].state = DONE;
    to_scheduler(true);
    abort();
}

QUIET void entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &asan_bottom, &asan_size);
#endif
    (*body)();
    threads[current].state = DONE;
    to_scheduler(true);
    abort();
}

// Wait for all threads of the block; gives whether any predicate is true.
QUIET int barrier(int line, int predicate) {
    Thread& me = threads[current];
    me.state = AT_BARRIER;
    me.line = line;
    me.predicate = predicate;
#if EMU_TSAN
    void* token = &tokens[barriers & 1];
    __tsan_release(token);
#endif
    to_scheduler(false);
#if EMU_TSAN
    __tsan_acquire(token);
#endif
    return any;
}

// Wait for all lanes of the warp.
QUIET void warp_barrier() {
    threads[current].state = IN_WARP;
#if EMU_TSAN
    const int warp = current / WARP;
    void* token = &warp_tokens[warp][warp_barriers[warp] & 1];
    __tsan_release(token);
#endif
    to_scheduler(false);
#if EMU_TSAN
    __tsan_acquire(token);
#endif
}

// Show the warp up to SLOTS words; gives the slots of all its lanes. They hold until the exchange after the
// next one, for slots are used in turns.
QUIET uint32_t (*exchange(const uint32_t* words, int count))[SLOTS] {
    const int warp = current / WARP;
    uint32_t (*side)[SLOTS] = slots[threads[current].exchanges++ & 1];
    for (int i = 0; i < count; ++i) side[current][i] = words[i];
    warp_barrier();
    return side + warp * WARP;
}

alignas(128) static char dynamic_memory[MOST_SHARED];

QUIET void register_shared(void* p, size_t size) {
    size_t total = size;
    for (int i = 0; i < shared_count; ++i) {
        if (shared[i].at == p) return;
        if (shared[i].at != dynamic_memory) total += shared[i].size;
    }
    shared[shared_count++] = {p, size};
    if (total > SHARED_LIMIT) fail("more than 48 KiB of shared memory");
    poison(p, size);
}

// The block's dynamic shared memory, of which the kernel uses so many bytes.
QUIET char* register_dynamic(size_t bytes) {
    if (bytes > dynamic_bytes) fail("more dynamic shared memory than the launch gives");
    for (int i = 0; i < shared_count; ++i)
        if (shared[i].at == dynamic_memory) return dynamic_memory;
    shared[shared_count++] = {dynamic_memory, bytes};
    poison(dynamic_memory, bytes);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(dynamic_memory, bytes);
    __asan_poison_memory_region(dynamic_memory + bytes, MOST_SHARED - bytes);
#endif
    return dynamic_memory;
}

QUIET void prepare(int t) {
    char* top = stacks + (t + 1) * STACK;
    void** sp = (void**)top;
    *--sp = nullptr;
    *--sp = nullptr;
    *--sp = nullptr;  // the return address of entry, at 8 modulo 16
    *--sp = (void*)entry;
    for (int i = 0; i < 6; ++i) *--sp = nullptr;
    threads[t] = {sp, READY, 0, 0, 0, nullptr};
#if EMU_TSAN
    threads[t].tsan = __tsan_create_fiber(0);
#endif
}

QUIET void resume(int t) {
    current = t;
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stacks + t * STACK, STACK);
#endif
#if EMU_TSAN
    __tsan_switch_to_fiber(threads[t].tsan, 1);
#endif
    emu_switch(&scheduler_sp, threads[t].sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

// Let go a warp whose lanes have all come to an exchange; says whether it was.
QUIET bool release_warp(int first, int count) {
    const int last = first + WARP < count ? first + WARP : count;
    for (int t = first; t < last; ++t)
        if (threads[t].state != IN_WARP) return false;
    for (int t = first; t < last; ++t) threads[t].state = READY;
    ++warp_barriers[first / WARP];
    return true;
}

// Let go those that wait at a barrier where all have come; says whether any were.
QUIET bool release(int count) {
    bool released = false;
    int waiting = 0, alive = 0, line = -1;
    any = 0;
    for (int t = 0; t < count; ++t) {
        if (threads[t].state == DONE) continue;
        ++alive;
        if (threads[t].state != AT_BARRIER) continue;
        ++waiting;
        any |= threads[t].predicate != 0;
        if (line >= 0 && line != threads[t].line && failure.empty())
            failure = "threads of a block wait at different barriers, lines " + std::to_string(line) + " and " +
                      std::to_string(threads[t].line);
        line = threads[t].line;
    }
    if (alive && waiting == alive) {
        if (alive < count && failure.empty()) failure = "a thread has ended while others wait at a barrier";
        for (int t = 0; t < count; ++t)
            if (threads[t].state == AT_BARRIER) threads[t].state = READY;
        ++barriers;
        return true;
    }
    for (int first = 0; first < count; first += WARP) released |= release_warp(first, count);
    return released;
}

QUIET void arrange(std::vector<int>& order, int how) {
    const int n = (int)order.size();
    for (int i = 0; i < n; ++i) order[i] = how == 1 || how == LAST_WARP ? n - 1 - i : i;
    if (how == 2)
        for (int i = n - 1; i > 0; --i) std::swap(order[i], order[random_number() % (i + 1)]);
}

// Run each warp until it waits for the others or has ended, from the first warp on or from the last.
QUIET void run_warps(int count, int how) {
    const int warps = (count + WARP - 1) / WARP;
    for (int i = 0; i < warps; ++i) {
        const int first = (how == FIRST_WARP ? i : warps - 1 - i) * WARP;
        do {
            for (int t = first; t < first + WARP && t < count; ++t) {
                if (threads[t].state == READY) resume(t);
                if (!failure.empty()) return;
            }
        } while (release_warp(first, count));
    }
}

QUIET void run_block(int count, int how) {
    for (int i = 0; i < shared_count; ++i) poison(shared[i].at, shared[i].size);
    for (int t = 0; t < count; ++t) prepare(t);
    std::vector<int> order(count);
    for (bool going = true; going && failure.empty();) {
        going = false;
        if (how >= FIRST_WARP) run_warps(count, how);
        arrange(order, how);
        for (int t : order) {
            if (!failure.empty()) break;
            if (threads[t].state == READY) resume(t);
        }
        bool alive = false;
        for (int t = 0; t < count; ++t) alive |= threads[t].state != DONE;
        if (!alive) break;
        if (!release(count) && failure.empty()) failure = "the threads of a block wait for one another for ever";
        going = true;
    }
    count_block(count);
    for (int t = 0; t < count; ++t) forget_copies(t);
#if EMU_TSAN  // a block comes after the one before it, for their shared memory is the same
    __tsan_acquire(&block_token);
    for (int t = 0; t < count; ++t) __tsan_destroy_fiber(threads[t].tsan);
#endif
}

// Run a kernel with so many bytes of dynamic shared memory; gives an empty text, or what went wrong.
QUIET const char* run(const unsigned* grid, unsigned block, unsigned bytes, int how, const std::function<void()>& f) {
    if (!stacks) {
        stacks = (char*)mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stacks == MAP_FAILED) return "no memory for the threads' stacks";
    }
#if EMU_TSAN
    scheduler_tsan = __tsan_get_current_fiber();
#endif
    body = &f;
    failure.clear();
    shared_count = 0;
    dynamic_bytes = bytes;
    random_state = 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block, 1, 1};
    std::vector<int> order(grid[0] * grid[1] * grid[2]);
    arrange(order, how);
    for (int b : order) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / (grid[0] * grid[1])};
        run_block((int)block, how);
        if (!failure.empty()) break;
    }
    return failure.c_str();
}

}  // namespace emu
