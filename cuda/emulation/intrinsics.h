// CUDA's names: indices, vector types, barriers, warp exchanges, atomics and arithmetic.
#pragma once

#include <cmath>
#include <type_traits>

#include "block.h"
#include "shared.h"

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
    ::emulation::may_switch();
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
    ::emulation::may_switch();
    const T before = *address;
    if (value < before) *address = value;
    return before;
}
inline int atomicOr(int* address, int bits) {
    ::emulation::may_switch();
    const int before = *address;
    *address = before | bits;
    return before;
}

// Arithmetic of stated rounding. `rounded` hides a result from the host's compiler, which else might contract it, too.
namespace emulation {
inline float rounded(float value) {
    asm("" : "+m"(value));
    return value;
}
}  // namespace emulation
inline float __fadd_rn(float a, float b) { return ::emulation::rounded(a + b); }
inline float __fmul_rn(float a, float b) { return ::emulation::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return ::emulation::rounded(a / b); }
inline float __fsqrt_rn(float a) { return ::emulation::rounded(std::sqrt(a)); }
inline float __fmaf_rn(float a, float b, float c) { return ::emulation::rounded(std::fma(a, b, c)); }
inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
inline int __reduce_max_sync(unsigned mask, int value) {
    const std::uint64_t* all = ::emulation::meet_warp("__reduce_max_sync", mask, value);
    int most = static_cast<int>(all[0]);
    for (int i = 1; i < 32; ++i) most = static_cast<int>(all[i]) > most ? static_cast<int>(all[i]) : most;
    return most;
}
inline unsigned __brev(unsigned bits) {
    unsigned turned = 0;
    for (int i = 0; i < 32; ++i) turned |= (bits >> i & 1u) << (31 - i);
    return turned;
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32); }
inline void sincospif(float half_turns, float* sine, float* cosine) {
    const double angle = 3.14159265358979323846 * half_turns;
    *sine = static_cast<float>(std::sin(angle));
    *cosine = static_cast<float>(std::cos(angle));
}
