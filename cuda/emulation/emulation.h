// Runs CUDA kernels on a CPU, so that they are tested where there is no GPU.
//
// Blocks run one after the other; the threads of a block are fibers that switch only where CUDA threads meet: at barriers
// and warp exchanges. Checked on the way, each with one sentence naming the kernel, block and thread:
//  - shared arrays: index out of bounds; read before written; and two threads touching one element, at least one of them
//    writing, with no barrier between (`__syncwarp` counts within a warp, atomics do not conflict with each other);
//  - barriers and warp exchanges that some thread has left the kernel without reaching, or that threads reach in
//    different places.
// What it cannot see: races in global memory, ordering weaker than sequential, speed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "fiber.h"

#define KERNEL(threads) extern "C" void
#define SHARED(type, name, count) static ::emulation::Shared<type, (count)> name(#name)
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__

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

inline Block block;
inline Thread* self = nullptr;

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
    }
    return warp.slots[exchange & 1];
}

template <class T>
T unpack(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

// ---- shared memory ----

// Who touched an element, and when: block epoch, and within a warp its warp epoch.
struct Access {
    std::uint32_t serial = 0;  // block; anything older is forgotten
    std::uint32_t epoch = 0, warp_epoch = 0;
    int thread = -1;  // -2: several of one warp, -3: of several warps
    int warp = -1;
    bool atomic = false;

    bool current() const { return serial == block.serial && epoch == block.epoch; }
    bool conflicts() const {
        if (!current() || thread == self->number) return false;
        return !(thread != -3 && warp == self->number / 32 && warp_epoch < self->warp_epoch);
    }
    void note(bool is_atomic) {
        const int own_warp = self->number / 32;
        if (!current()) {
            *this = {block.serial, block.epoch, self->warp_epoch, self->number, own_warp, is_atomic};
            return;
        }
        if (thread != self->number) thread = (warp == own_warp && thread != -3) ? -2 : -3;
        if (warp_epoch < self->warp_epoch) warp_epoch = self->warp_epoch;
        atomic = atomic && is_atomic;
    }
    void set(bool is_atomic) { *this = {block.serial, block.epoch, self->warp_epoch, self->number, self->number / 32, is_atomic}; }
};

template <class T>
struct Element {
    T value;
    Access written, read;
};

// One element of a shared array, as an expression.
template <class T>
class Reference {
   public:
    Reference(Element<T>& element, const char* name, std::size_t index) : e(element), name(name), index(index) {}

    operator T() const {
        if (e.written.serial != block.serial) complain("is read before it is written");
        if (e.written.conflicts()) complain("is read while another thread writes it, without a barrier between");
        e.read.note(false);
        return e.value;
    }
    Reference& operator=(T value) {
        check_write();
        e.written.set(false);
        e.value = value;
        return *this;
    }
    Reference& operator=(const Reference& other) { return *this = static_cast<T>(other); }
    Reference& operator+=(T value) { return *this = static_cast<T>(*this) + value; }
    const Reference* operator&() const { return this; }

    T atomic_add(T value) const {
        if (e.written.serial != block.serial) complain("is read before it is written");
        if (!e.written.atomic && e.written.conflicts()) complain("is changed while another thread writes it");
        if (e.read.conflicts()) complain("is changed while another thread reads it, without a barrier between");
        const bool only_atomics = !e.written.current() || e.written.atomic;
        if (e.written.current())
            e.written.note(true), e.written.atomic = only_atomics;
        else
            e.written.set(true);
        const T before = e.value;
        e.value = before + value;
        return before;
    }

   private:
    void check_write() const {
        if (e.written.conflicts()) complain("is written by two threads without a barrier between");
        if (e.read.conflicts()) complain("is written while another thread reads it, without a barrier between");
    }
    [[noreturn]] void complain(const char* what) const {
        fail(std::string("shared ") + name + "[" + std::to_string(index) + "] " + what);
    }

    Element<T>& e;
    const char* name;
    std::size_t index;
};

template <class T, std::size_t N>
class Shared {
   public:
    explicit Shared(const char* name) : name(name), elements(N) {}

    template <class I>
    Reference<T> operator[](I index) {
        const long long i = static_cast<long long>(index);
        if (i < 0 || i >= static_cast<long long>(N))
            fail(std::string("shared ") + name + "[" + std::to_string(i) + "] is out of bounds (" + std::to_string(N) + ")");
        return Reference<T>(elements[i], name, i);
    }

   private:
    const char* name;
    std::vector<Element<T>> elements;
};

// ---- running a kernel ----

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
    while (block.alive > 0) {
        bool moved = false;
        for (Thread& thread : block.threads) {
            if (thread.state != State::Ready) continue;
            moved = true;
            self = &thread;
            switch_to(block.scheduler, thread.fiber);
            if (!block.error.empty()) return;
        }
        if (!moved) {
            for (Thread& thread : block.threads)
                if (thread.state != State::Done) self = &thread;
            block.error = "block " + std::to_string(block.index.x) + ": threads wait for each other in different places (thread " +
                          std::to_string(self->number) + (self->state == State::AtBlock ? " at a block barrier)" : " at a warp exchange)");
            return;
        }
    }
}

// `arguments` point to the values, as for cuLaunchKernel. Returns an empty string, or what went wrong.
template <class... A>
const char* launch(void (*kernel)(A...), Index grid, Index size, void** arguments) {
    auto call = [&]() {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
        }(std::index_sequence_for<A...>());
    };
    block.error.clear();
    block.size = size;
    block.grid = grid;
    block.threads.resize(static_cast<std::size_t>(size.x) * size.y * size.z);
    block.closure = &call;
    block.call = [](const void* closure) { (*static_cast<const decltype(call)*>(closure))(); };
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                block.index = {x, y, z};
                run_block();
                if (!block.error.empty()) return block.error.c_str();
            }
    return "";
}

}  // namespace emulation

// ---- CUDA's names ----

#define threadIdx (::emulation::self->index)
#define blockIdx (::emulation::block.index)
#define blockDim (::emulation::block.size)
#define gridDim (::emulation::block.grid)

struct int2 {
    int x, y;
};
struct float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads() { ::emulation::meet_block("__syncthreads", 0); }
inline int __syncthreads_count(int vote) { return ::emulation::meet_block("__syncthreads_count", vote != 0); }
inline int __syncthreads_or(int vote) { return ::emulation::meet_block("__syncthreads_or", vote != 0) != 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    ::emulation::meet_warp("__syncwarp", mask, 0);
    ++::emulation::self->warp_epoch;
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
    const std::uint64_t* all = ::emulation::meet_warp("__ballot_sync", mask, vote != 0 ? 1 : 0);
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= static_cast<unsigned>(all[i]) << i;
    return bits;
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == 0xffffffffu; }
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    const std::uint64_t* all = ::emulation::meet_warp("__reduce_add_sync", mask, value);
    unsigned sum = 0;
    for (int i = 0; i < 32; ++i) sum += static_cast<unsigned>(all[i]);
    return sum;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return ::emulation::unpack<T>(::emulation::meet_warp("__shfl_sync", mask, value)[lane & 31]);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned step) {
    const int lane = ::emulation::self->number % 32, from = lane - static_cast<int>(step);
    return ::emulation::unpack<T>(::emulation::meet_warp("__shfl_up_sync", mask, value)[from < 0 ? lane : from]);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned step) {
    const int lane = ::emulation::self->number % 32, from = lane + static_cast<int>(step);
    return ::emulation::unpack<T>(::emulation::meet_warp("__shfl_down_sync", mask, value)[from > 31 ? lane : from]);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
    const int lane = ::emulation::self->number % 32;
    return ::emulation::unpack<T>(::emulation::meet_warp("__shfl_xor_sync", mask, value)[lane ^ step]);
}

template <class T>
T atomicAdd(T* address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}
template <class T>
T atomicAdd(const ::emulation::Reference<T>* element, std::common_type_t<T> value) {
    return element->atomic_add(value);
}

template <class T>
T atomicMin(T* address, T value) {
    const T before = *address;
    if (value < before) *address = value;
    return before;
}
inline int atomicOr(int* address, int bits) {
    const int before = *address;
    *address = before | bits;
    return before;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32); }
inline void sincospif(float half_turns, float* sine, float* cosine) {
    const double angle = 3.14159265358979323846 * half_turns;
    *sine = static_cast<float>(std::sin(angle));
    *cosine = static_cast<float>(std::cos(angle));
}
