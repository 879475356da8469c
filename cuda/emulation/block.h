// The block that runs: its threads as fibers, and where they meet, at barriers and in the exchanges of a warp.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fiber.h"

namespace emulation {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

enum class State { Ready, AtBlock, AtWarp, Done };

struct Thread {
    Fiber fiber;
    State state = State::Ready;
    int number = 0;
    Index index;
    std::uint32_t warp_epoch = 0;  // __syncwarp passed
};

struct Warp {
    std::uint64_t slots[2][32] = {};  // of even and odd exchanges, so that a fast lane cannot overwrite a slow one's
    std::uint32_t arrived = 0, lanes = 0;
    std::uint32_t exchange = 0;
    const char* kind = nullptr;
};

struct Block {
    Index index, size, grid;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::uint32_t serial = 0;  // of all blocks ever run
    std::uint32_t epoch = 0;   // __syncthreads passed
    int arrived = 0, alive = 0;
    int votes[2] = {};
    const char* kind = nullptr;
    Fiber scheduler;
    void (*call)(const void*) = nullptr;
    const void* closure = nullptr;
    std::string error;
};

// What a launch does in another way than block by block and thread by thread.
struct Plan {
    std::uint64_t seed = 0;           // of a random order of blocks, warps and lanes; 0: all by number
    const unsigned* blocks = nullptr;  // the blocks to run, all others are left out; null: all
    unsigned count = 0;
};

inline Block block;
inline Thread* self = nullptr;
inline Plan plan;

[[noreturn]] inline void fail(const std::string& what) {
    block.error = "block " + std::to_string(block.index.x) + "," + std::to_string(block.index.y) + " thread " +
                  std::to_string(self->number) + ": " + what;
    self->state = State::Done;
    switch_to(self->fiber, block.scheduler);
    std::abort();  // not reached: a failed block is never resumed
}

inline void wait(State state) {
    self->state = state;
    switch_to(self->fiber, block.scheduler);
}

// With a random schedule, others may go on here.
inline void may_switch() {
    if (plan.seed != 0) wait(State::Ready);
}

// ---- barriers of a block ----

// Returns the sum of the votes of all threads.
inline int meet_block(const char* kind, int vote) {
    if (block.alive != static_cast<int>(block.threads.size())) fail(std::string(kind) + " after a thread has returned");
    if (block.arrived == 0) block.kind = kind;
    if (block.kind != kind) fail(std::string(kind) + " meets " + block.kind);
    const int parity = block.epoch & 1;
    if (block.arrived == 0) block.votes[parity] = 0;
    block.votes[parity] += vote;
    if (++block.arrived < block.alive) {
        wait(State::AtBlock);
    } else {
        block.arrived = 0;
        ++block.epoch;
        for (Thread& other : block.threads)
            if (other.state == State::AtBlock) other.state = State::Ready;
        may_switch();
    }
    return block.votes[parity];
}

// ---- exchanges of a warp ----

// Every lane gives a value; returns those of all.
template <class T>
const std::uint64_t* meet_warp(const char* kind, unsigned mask, T value) {
    static_assert(sizeof(T) <= 8);
    Warp& warp = block.warps[self->number / 32];
    const int lane = self->number % 32;
    if (mask != 0xffffffffu) fail(std::string(kind) + " with less than all lanes");
    if (warp.lanes != 0xffffffffu) fail(std::string(kind) + " after a lane has returned, or in a partial warp");
    if (warp.arrived == 0) warp.kind = kind;
    if (warp.kind != kind) fail(std::string(kind) + " meets " + warp.kind);
    const std::uint32_t exchange = warp.exchange;
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    warp.slots[exchange & 1][lane] = bits;
    warp.arrived |= 1u << lane;
    if (warp.arrived != warp.lanes) {
        wait(State::AtWarp);
    } else {
        warp.arrived = 0;
        ++warp.exchange;
        const int first = self->number - lane;
        for (int i = 0; i < 32; ++i)
            if (block.threads[first + i].state == State::AtWarp) block.threads[first + i].state = State::Ready;
        may_switch();
    }
    return warp.slots[exchange & 1];
}

template <class T>
T unpack(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace emulation
