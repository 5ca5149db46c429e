// The orders in which a block's threads run; blocks run one after another.
//
// A kernel that is right gives the same bits in every order of its threads. Three orders (forward, reverse, random)
// let each thread run to its next barrier or exchange, so that all warps advance together. Two more (first warp, last
// warp) run a warp as far as it can go before the next one: they find races between warps that the first three hide.
#pragma once
#include "counts.h"
#include "machine.h"

namespace emu {

constexpr int FIRST_WARP = 3, LAST_WARP = 4;  // the orders that run a warp as far as it can go
static uint64_t random_state;

QUIET uint64_t random_number() {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return random_state >> 33;
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
    forget_products();
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
