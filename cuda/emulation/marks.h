// Counts how often the warps of a kernel reach numbered places of its source (put in by tools/instruction_count).
//
// A warp is at a place once, however many of its lanes are there in the same round of the loops and the same call around it:
// diverged lanes are taken to meet again at the end of a branch or of a loop's round, as the compiler arranges.
#pragma once

#include <vector>

#include "block.h"

namespace emulation {

constexpr int MARKS = 512;
inline unsigned long long mark_totals[MARKS];

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    a = (a ^ (b + 0x9e3779b97f4a7c15ull)) * 0xbf58476d1ce4e5b9ull;
    return a ^ a >> 29;
}

// Where a lane is: `context` stands for the calls and the rounds of the loops around it.
struct LanePlace {
    std::uint64_t context = 0;
    struct Rounds {
        std::uint64_t since = 0, context = 0;
        std::uint32_t count = 0;
    } rounds[MARKS];
};

// The places a warp has been at since its last exchange or barrier, by hash.
struct WarpPlaces {
    std::uint64_t since = 0;  // unique number of that exchange or barrier
    std::uint32_t serial = 0, epoch = 0, exchange = 0;
    std::size_t used = 0;
    struct Entry {
        std::uint64_t key = 0, since = 0;
    };
    std::vector<Entry> entries = std::vector<Entry>(1024);

    // Whether `key` is new.
    bool insert(std::uint64_t key) {
        if (2 * used >= entries.size()) grow();
        Entry& entry = find(key);
        if (entry.since == since) return false;
        entry = {key, since};
        ++used;
        return true;
    }

   private:
    Entry& find(std::uint64_t key) {
        std::size_t at = key & (entries.size() - 1);
        while (entries[at].since == since && entries[at].key != key) at = (at + 1) & (entries.size() - 1);
        return entries[at];
    }
    void grow() {
        std::vector<Entry> old(2 * entries.size());
        old.swap(entries);
        for (const Entry& entry : old)
            if (entry.since == since) find(entry.key) = entry;
    }
};

inline std::vector<LanePlace> lane_places;
inline std::vector<WarpPlaces> warp_places;

inline LanePlace& own_place() {
    if (lane_places.size() < block.threads.size()) lane_places.resize(block.threads.size());
    return lane_places[self->number];
}

inline WarpPlaces& own_warp() {
    static std::uint64_t numbers = 0;
    if (warp_places.size() < block.warps.size()) warp_places.resize(block.warps.size());
    WarpPlaces& places = warp_places[self->number / 32];
    const std::uint32_t exchange = block.warps[self->number / 32].exchange;
    if (places.serial != block.serial || places.epoch != block.epoch || places.exchange != exchange || places.since == 0) {
        if (places.serial != block.serial)
            for (int i = self->number / 32 * 32; i < self->number / 32 * 32 + 32 && i < static_cast<int>(lane_places.size()); ++i)
                lane_places[i].context = 0;
        places.serial = block.serial, places.epoch = block.epoch, places.exchange = exchange;
        places.since = ++numbers;
        places.used = 0;
    }
    return places;
}

inline void mark(int number) {
    LanePlace& lane = own_place();
    WarpPlaces& warp = own_warp();
    if (warp.insert(mix(number, lane.context))) ++mark_totals[number];
}

// A round of a loop, or a call of a function, from here to the end of the scope.
class Nested {
   public:
    Nested(int number, bool counted) {
        LanePlace& lane = own_place();
        WarpPlaces& warp = own_warp();
        outer = lane.context;
        LanePlace::Rounds& rounds = lane.rounds[number];
        if (rounds.since != warp.since || rounds.context != outer) rounds = {warp.since, outer, 0};
        lane.context = mix(mix(number, outer), ++rounds.count);
        if (counted && warp.insert(lane.context)) ++mark_totals[number];
    }
    ~Nested() { lane_places[self->number].context = outer; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    std::uint64_t outer;
};

}  // namespace emulation

extern "C" inline unsigned long long* __attribute__((used)) mark_totals() { return emulation::mark_totals; }
