// Counts of shared memory's wavefronts. Shared memory has 32 banks of a word; of a warp's access, 32, 16 or 8 lanes are
// served at once, for 4, 8 or 16 bytes each, in one wavefront unless two different words are of the same bank.
//
// Each thread logs its accesses. At a block's end the n-th accesses of a line of the source by a warp's lanes are laid
// together, which is exact where the lanes do not part. Only accesses by functions of the shim are logged.
#pragma once
#include "shared_memory.h"

#include <map>

namespace emu {

struct Access {
    int line;
    uint32_t at;  // from the beginning of its array
    uint8_t size;
    bool store;
};
struct Count {
    int size, store;
    uint64_t wavefronts, least;  // of them; `least` would be without conflicts
};

static bool counting = false;
static std::vector<Access> logs[MOST];
static std::map<int, Count> counts;  // by line

QUIET void note(int line, const void* p, int size, bool store) {
    if (!counting) return;
    for (int i = 0; i < shared_count; ++i) {
        const size_t at = (const char*)p - (const char*)shared[i].at;
        if (at < shared[i].size) logs[current].push_back({line, (uint32_t)at, (uint8_t)size, store});
    }
}

// The wavefronts of lanes that are served together.
QUIET int wavefronts(const std::vector<uint32_t>& lanes, int size) {
    std::vector<uint32_t> words[32];
    size_t most = 0;
    for (uint32_t at : lanes) {
        for (uint32_t word = at / 4; word < (at + size) / 4; ++word) {
            auto& bank = words[word % 32];
            bool there = false;
            for (uint32_t other : bank) there |= other == word;
            if (!there) bank.push_back(word);
            if (bank.size() > most) most = bank.size();
        }
    }
    return (int)most;
}

// Add a warp's access, of each lane its own or none.
QUIET void count_access(const std::vector<std::pair<int, Access>>& lanes) {
    const Access& first = lanes[0].second;
    Count& count = counts.insert({first.line, {first.size, first.store, 0, 0}}).first->second;
    const int together = 128 / (first.size < 4 ? 4 : first.size);
    for (int begin = 0; begin < WARP; begin += together) {
        std::vector<uint32_t> served;
        for (const auto& [lane, access] : lanes)
            if (lane >= begin && lane < begin + together) served.push_back(access.at);
        if (served.empty()) continue;
        count.wavefronts += wavefronts(served, first.size);
        count.least += 1;
    }
}

QUIET void count_block(int threads) {
    for (int first = 0; counting && first < threads; first += WARP) {
        std::map<int, std::vector<std::vector<std::pair<int, Access>>>> visits;
        for (int lane = 0; lane < WARP && first + lane < threads; ++lane) {
            std::map<int, size_t> met;
            for (const Access& access : logs[first + lane]) {
                auto& of_line = visits[access.line];
                const size_t n = met[access.line]++;
                if (of_line.size() <= n) of_line.resize(n + 1);
                of_line[n].push_back({lane, access});
            }
        }
        for (const auto& [line, accesses] : visits)
            for (const auto& lanes : accesses) count_access(lanes);
    }
    for (int t = 0; t < threads; ++t) logs[t].clear();
}

}  // namespace emu

// Begin to count, or stop.
extern "C" void emu_count(int on) {
    emu::counting = on;
    emu::counts.clear();
}

// Write (line, bytes of an access, whether a store, wavefronts, least) of each line; gives how many lines there are.
extern "C" int emu_counts(uint64_t* rows, int most) {
    int found = 0;
    for (const auto& [line, count] : emu::counts) {
        if (found < most) {
            const uint64_t row[5] = {(uint64_t)line, (uint64_t)count.size, (uint64_t)count.store, count.wavefronts,
                                     count.least};
            memcpy(rows + 5 * found, row, sizeof row);
        }
        ++found;
    }
    return found;
}
