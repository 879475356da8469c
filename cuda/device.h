// What every kernel file begins with: names for the few things that NVRTC and the emulation on a CPU spell differently.
#pragma once

#if defined(__CUDACC__)
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED(type, name, count) __shared__ type name[count]
#else
#include "emulation/emulation.h"
#endif

// A kernel under `#if WANTED(name)` can be compiled alone, with -DSPLAT_ONLY=1 -DSPLAT_ONLY_name=1 (see splat/native/nvrtc.py).
#ifndef SPLAT_ONLY
#define SPLAT_ONLY 0
#endif
#define WANTED(kernel) (!SPLAT_ONLY || SPLAT_ONLY_##kernel)

#include "math/base.h"

namespace splat {

using i64 = long long;
using u64 = unsigned long long;

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;
constexpr int TILE_PIXELS = TILE * TILE;  // and threads of a block that works on a tile

SPLAT_FN int lower(int a, int b) { return a < b ? a : b; }
SPLAT_FN int upper(int a, int b) { return a > b ? a : b; }
SPLAT_FN int thread_of_grid() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// Sum over the lanes of a warp, in every lane.
SPLAT_FN float warp_sum(float value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}

// The same for unsigned integers: one instruction since sm_80.
SPLAT_FN unsigned warp_sum(unsigned value) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    return __reduce_add_sync(ALL_LANES, value);
#else
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
#endif
}

// 2^x, √x and 1/x for arguments far from the ends of a float's range: an instruction or two each, to about 2 units in the
// last place.
SPLAT_FN float fast_exp2(float x) {
#if defined(__CUDACC__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

SPLAT_FN float fast_root(float x) {
#if defined(__CUDACC__)
    float y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return sqrtf(x);
#endif
}

SPLAT_FN float fast_reciprocal(float x) {
#if defined(__CUDACC__)
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

}  // namespace splat
