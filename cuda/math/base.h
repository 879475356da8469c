// The ground the shared math stands on. These headers hold what the CPU and the CUDA rasterizer compute alike, as
// templates on the number type F: `float` on the GPU, a SIMD vector (`VF` of cpu/simd.h) on the CPU, `float` or `double`
// in tests. They use operators, the functions below and nothing from a standard library, so that NVRTC compiles them.
//
// A vector type has no namespace of its own, so its functions are found only if declared first: include cpu/simd.h
// before these headers.
#pragma once

#if defined(__CUDACC__)
#define SPLAT_FN __device__ __forceinline__
#else
#include <cmath>
#define SPLAT_FN inline __attribute__((always_inline))
#endif

namespace splat {

// ---- constants, the same in every backend (splat/rendering/types.py) ----

constexpr int TILE = 16;                     // pixels a side
constexpr float BLUR = 0.3f;                 // px², added to the diagonal of the projected covariance
constexpr float ALPHA_MIN = 1.0f / 255.0f;   // a Gaussian below this opacity at a pixel is skipped there
constexpr float ALPHA_MAX = 0.99f;
constexpr float TRANSMITTANCE_MIN = 1e-4f;   // blending stops before falling to this
constexpr float COMPENSATION_MIN = 0.005f;   // lower bound of the anti-aliasing opacity factor
constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;

// ---- the scalar versions of what cpu/simd.h offers for vectors ----

#define SPLAT_SCALAR_FUNCTIONS(F, EXP, LOG, SQRT)                              \
    SPLAT_FN bool lt(F a, F b) { return a < b; }                               \
    SPLAT_FN bool le(F a, F b) { return a <= b; }                              \
    SPLAT_FN bool gt(F a, F b) { return a > b; }                               \
    SPLAT_FN bool ge(F a, F b) { return a >= b; }                              \
    SPLAT_FN F select(bool m, F a, F b) { return m ? a : b; }                  \
    SPLAT_FN F keep(bool m, F a) { return m ? a : F(0); }                      \
    SPLAT_FN F min(F a, F b) { return a < b ? a : b; }                         \
    SPLAT_FN F max(F a, F b) { return a > b ? a : b; }                         \
    SPLAT_FN F exp(F a) { return EXP(a); }                                     \
    SPLAT_FN F log(F a) { return LOG(a); }                                     \
    SPLAT_FN F sqrt(F a) { return SQRT(a); }                                   \
    SPLAT_FN F sigmoid(F a) { return F(1) / (F(1) + EXP(-a)); }

SPLAT_SCALAR_FUNCTIONS(float, ::expf, ::logf, ::sqrtf)
SPLAT_SCALAR_FUNCTIONS(double, ::exp, ::log, ::sqrt)
#undef SPLAT_SCALAR_FUNCTIONS

// What lt(F, F) gives: bool for a scalar, a lane mask for a vector.
template <class F>
struct MaskOf {
    using type = decltype(lt(F(), F()));
};
template <class F>
using Mask = typename MaskOf<F>::type;

}  // namespace splat
