// A block's threads as fibers: each runs until it waits at a barrier, or shows its warp something (schedule.h lets it
// go on).
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
static int current;
static void* scheduler_sp;
static void* scheduler_tsan;
static const std::function<void()>* body;
static int any;
static std::string failure;
constexpr int SLOTS = 12;
static uint32_t slots[2][MOST][SLOTS];  // what the lanes of a warp show one another
[[maybe_unused]] static char block_token, tokens[2], warp_tokens[MOST / WARP][2];
[[maybe_unused]] static unsigned barriers, warp_barriers[MOST / WARP];

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

}  // namespace emu
