// Runs CUDA kernels on a CPU, so that they are tested where there is no GPU.
//
// Blocks run one after the other; the threads of a block are fibers that switch only where CUDA threads meet: at barriers
// and warp exchanges. The order is by number, or drawn from a seed (schedule.h). Checked on the way, each with one sentence naming the kernel, block and thread:
//  - shared arrays: index out of bounds; read before written; and two threads touching one element, at least one of them
//    writing, with no barrier between (`__syncwarp` counts within a warp, atomics do not conflict with each other);
//  - barriers and warp exchanges that some thread has left the kernel without reaching, or that threads reach in
//    different places;
//  - with a compiler's -fsanitize=undefined: undefined behaviour of C++ (undefined.h).
// What it cannot see: races in global memory, ordering weaker than sequential, speed.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "intrinsics.h"
#include "schedule.h"
#include "undefined.h"

#define KERNEL(threads) extern "C" void
#define SHARED(type, name, count) static ::emulation::Shared<type, (count)> name(#name)
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__

namespace emulation {

inline void enter() {
    block.call(block.closure);
    self->state = State::Done;
    --block.alive;
    block.warps[self->number / 32].lanes &= ~(1u << (self->number % 32));
    switch_to(self->fiber, block.scheduler);
}

// Runs all threads until they have returned, or one has failed, or none can go on.
inline void run_block() {
    ++block.serial;
    block.epoch = 0;
    block.arrived = 0;
    const int count = static_cast<int>(block.threads.size());
    block.alive = count;
    block.warps.assign((count + 31) / 32, Warp());
    for (int i = 0; i < count; ++i) {
        Thread& thread = block.threads[i];
        thread.state = State::Ready;
        thread.number = i;
        thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / (block.size.x * block.size.y)};
        thread.warp_epoch = 0;
        thread.fiber.begin(enter);
        block.warps[i / 32].lanes |= 1u << (i % 32);
    }
    RandomTurns random(plan.seed ^ (std::uint64_t(block.index.x) + 1) << 32);
    while (block.alive > 0) {
        if (plan.seed != 0 ? random.turn() : turn_by_number()) continue;
        if (!block.error.empty() || block.alive == 0) return;
        for (Thread& thread : block.threads)
            if (thread.state != State::Done) self = &thread;
        block.error = "block " + std::to_string(block.index.x) + ": threads wait for each other in different places (thread " +
                      std::to_string(self->number) + (self->state == State::AtBlock ? " at a block barrier)" : " at a warp exchange)");
        return;
    }
}

// `arguments` point to the values, as for cuLaunchKernel. Returns an empty string, or what went wrong.
template <class... A>
const char* launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments) {
    auto call = [&]() {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
        }(std::index_sequence_for<A...>());
    };
    block.error.clear();
    block.size = {threads, 1, 1};
    block.grid = {blocks, 1, 1};
    block.threads.resize(threads);
    block.closure = &call;
    block.call = [](const void* closure) { (*static_cast<const decltype(call)*>(closure))(); };
    for (const unsigned number : block_order(blocks)) {
        block.index = {number, 0, 0};
        run_block();
        if (!block.error.empty()) return block.error.c_str();
    }
    return "";
}

}  // namespace emulation
