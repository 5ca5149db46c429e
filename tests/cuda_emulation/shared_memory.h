// A block's shared memory, which is filled with NaN before each block.
#pragma once
#include "fibers.h"

namespace emu {

// Bytes of a block's shared memory: of arrays that are declared with their size, and of all on sm_90.
constexpr size_t SHARED_LIMIT = 48 * 1024, MOST_SHARED = 227 * 1024;

static struct {
    void* at;
    size_t size;
} shared[16];
static int shared_count;
static size_t dynamic_bytes;  // of shared memory that the launch asked for

// Memory is poisoned by a loop of its own: the sanitizers watch memset.
__attribute__((no_sanitize("thread", "address"))) static void poison(void* p, size_t size) {
    volatile char* bytes = (volatile char*)p;
    for (size_t i = 0; i < size; ++i) bytes[i] = (char)0xff;
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

}  // namespace emu
