// The order in which the threads of a block, and the blocks of a launch, take their turns.
//
// By number; or drawn from a seed. Then warps take turns at random, or by priorities that change now and then (Burckhardt et
// al. 2010, "A randomized scheduler with probabilistic guarantees of finding bugs": some warps run far ahead of others), the
// lanes of a warp in random order; turns end where threads meet and before atomics.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "block.h"

namespace emulation {

// SplitMix64 (Steele, Lea & Flood 2014).
struct Random {
    std::uint64_t state;

    std::uint64_t next() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        return z ^ z >> 31;
    }
    int below(int count) { return static_cast<int>(next() % static_cast<std::uint64_t>(count)); }
    template <class T>
    void shuffle(std::vector<T>& items) {
        for (int i = static_cast<int>(items.size()) - 1; i > 0; --i) std::swap(items[i], items[below(i + 1)]);
    }
};

// Lets thread `number` run until it waits; false once the block has failed.
inline bool run_thread(int number) {
    self = &block.threads[number];
    switch_to(block.scheduler, self->fiber);
    return block.error.empty();
}

// Lets every thread that is ready run, in order of number; false if none was or the block has failed.
inline bool turn_by_number() {
    bool moved = false;
    for (std::size_t i = 0; i < block.threads.size(); ++i) {
        if (block.threads[i].state != State::Ready) continue;
        moved = true;
        if (!run_thread(static_cast<int>(i))) return false;
    }
    return moved;
}

class RandomTurns {
   public:
    explicit RandomTurns(std::uint64_t seed) : random{seed}, priorities(block.warps.size()) {
        by_priority = random.below(2) == 1;
        for (auto& priority : priorities) priority = random.next();
    }

    // Lets the ready lanes of one warp run.
    bool turn() {
        int chosen = -1, seen = 0;
        for (int warp = 0; warp < static_cast<int>(priorities.size()); ++warp) {
            if (!is_ready(warp)) continue;
            ++seen;
            if (chosen < 0 || (by_priority ? priorities[warp] > priorities[chosen] : random.below(seen) == 0)) chosen = warp;
        }
        if (chosen < 0) return false;
        if (random.below(CHANGE) == 0) priorities[chosen] = random.next();
        lanes.clear();
        for (int i = 32 * chosen; i < end_of(chosen); ++i)
            if (block.threads[i].state == State::Ready) lanes.push_back(i);
        random.shuffle(lanes);
        for (const int lane : lanes)
            if (!run_thread(lane)) return false;
        return true;
    }

   private:
    static constexpr int CHANGE = 16;  // turns, on average, between two changes of priority

    static int end_of(int warp) { return std::min(32 * warp + 32, static_cast<int>(block.threads.size())); }
    static bool is_ready(int warp) {
        for (int i = 32 * warp; i < end_of(warp); ++i)
            if (block.threads[i].state == State::Ready) return true;
        return false;
    }

    Random random;
    bool by_priority;
    std::vector<std::uint64_t> priorities;
    std::vector<int> lanes;
};

// Numbers of the blocks to run, in order.
inline std::vector<unsigned> block_order(unsigned blocks) {
    std::vector<unsigned> order(plan.blocks ? plan.count : blocks);
    if (plan.blocks)
        std::copy(plan.blocks, plan.blocks + plan.count, order.begin());
    else
        std::iota(order.begin(), order.end(), 0u);
    if (plan.seed != 0) Random{plan.seed}.shuffle(order);
    return order;
}

}  // namespace emulation
