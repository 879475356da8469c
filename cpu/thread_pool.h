// A small persistent pool of threads. PyTorch ships its own OpenMP runtime, and a second one in the same process
// oversubscribes the cores, so the core brings its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace splat {

// How many threads parallel loops use, the caller included.
int thread_count();
// Set it; 0 returns to the default: the cores this process may use (affinity mask and cgroup quota).
void set_thread_count(int count);
// The default of `set_thread_count`.
int usable_cores();

namespace detail {
using Task = void (*)(void* context, int64_t begin, int64_t end, int worker);
void run(int64_t count, int64_t chunk, bool fixed, Task task, void* context);
}  // namespace detail

// Calls body(begin, end, worker) on disjoint ranges of at most `chunk` items that together cover [0, count).
// Threads take the next chunk when they are free, so `worker` (0 ≤ worker < thread_count()) for a range varies from
// run to run; results must not depend on it. Loops inside a body run on the body's own thread.
// Several threads of the program may call this at once; their loops run one after the other.
// Inside a body denormal numbers count as zero. What a body throws is thrown here, when no thread works any more.
template <class Body>
void parallel_for(int64_t count, int64_t chunk, Body&& body) {
    auto task = [](void* context, int64_t begin, int64_t end, int worker) {
        (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, worker);
    };
    detail::run(count, chunk, false, task, const_cast<void*>(static_cast<const void*>(&body)));
}

// The same, but chunk c always goes to worker c mod thread_count(): for equal work, and for data that a thread should
// find in its own cache again.
template <class Body>
void parallel_for_fixed(int64_t count, int64_t chunk, Body&& body) {
    auto task = [](void* context, int64_t begin, int64_t end, int worker) {
        (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, worker);
    };
    detail::run(count, chunk, true, task, const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace splat
