// Vectors of the widest native width: VF (float), VI (int32) and VM (one bool per lane), W lanes each.
//
// Plain arithmetic (+ − × ÷, & | ^ ~ << >> on VI) is the compiler's own on vector types; the functions below are what it
// does not offer or does badly. Comparisons give VM, which is a k-register on AVX-512 and a lane mask elsewhere:
// combine them with & | ~, and ask any/all/none rather than summing lanes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#else
#error "no vector unit that this library knows"
#endif

namespace splat {

#define SPLAT_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

using VF = float __attribute__((vector_size(W * 4)));
using VI = int32_t __attribute__((vector_size(W * 4)));
using VU = uint32_t __attribute__((vector_size(W * 4)));

// ---- making, loading, storing ----

SPLAT_INLINE VF set1(float x) { return x - VF{}; }
SPLAT_INLINE VI set1(int32_t x) { return x - VI{}; }
SPLAT_INLINE VF zero() { return VF{}; }

template <class V>
SPLAT_INLINE V load_as(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
SPLAT_INLINE VF load(const float* p) { return load_as<VF>(p); }
SPLAT_INLINE VI load(const int32_t* p) { return load_as<VI>(p); }
SPLAT_INLINE void store(float* p, VF v) { std::memcpy(p, &v, sizeof v); }
SPLAT_INLINE void store(int32_t* p, VI v) { std::memcpy(p, &v, sizeof v); }

// 0, 1, …, W−1
SPLAT_INLINE VI iota() {
    VI v;
    for (int i = 0; i < W; ++i) v[i] = i;
    return v;
}

SPLAT_INLINE VI bits(VF v) { return (VI)v; }
SPLAT_INLINE VF from_bits(VI v) { return (VF)v; }
// int → float, and float → int towards zero
SPLAT_INLINE VF to_float(VI v) { return __builtin_convertvector(v, VF); }
SPLAT_INLINE VI to_int(VF v) { return __builtin_convertvector(v, VI); }

// ---- masks ----

#if defined(__AVX512F__)

struct VM {
    __mmask16 k;
};
SPLAT_INLINE VM operator&(VM a, VM b) { return {static_cast<__mmask16>(a.k & b.k)}; }
SPLAT_INLINE VM operator|(VM a, VM b) { return {static_cast<__mmask16>(a.k | b.k)}; }
SPLAT_INLINE VM operator^(VM a, VM b) { return {static_cast<__mmask16>(a.k ^ b.k)}; }
SPLAT_INLINE VM operator~(VM a) { return {static_cast<__mmask16>(~a.k)}; }
SPLAT_INLINE uint32_t to_bitmask(VM m) { return m.k; }
SPLAT_INLINE VM lt(VF a, VF b) { return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ)}; }
SPLAT_INLINE VM le(VF a, VF b) { return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ)}; }
SPLAT_INLINE VM eq(VF a, VF b) { return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ)}; }
SPLAT_INLINE VM lt(VI a, VI b) { return {_mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b)}; }
SPLAT_INLINE VM eq(VI a, VI b) { return {_mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b)}; }
SPLAT_INLINE VM first_lanes(int n) { return {static_cast<__mmask16>(n >= W ? 0xffff : (1u << (n > 0 ? n : 0)) - 1u)}; }
SPLAT_INLINE VF select(VM m, VF a, VF b) { return (VF)_mm512_mask_mov_ps((__m512)b, m.k, (__m512)a); }
SPLAT_INLINE VI select(VM m, VI a, VI b) { return (VI)_mm512_mask_mov_epi32((__m512i)b, m.k, (__m512i)a); }
// a where m, else 0
SPLAT_INLINE VF keep(VM m, VF a) { return (VF)_mm512_maskz_mov_ps(m.k, (__m512)a); }

#else

struct VM {
    VI k;  // all bits set or none
};
SPLAT_INLINE VM operator&(VM a, VM b) { return {a.k & b.k}; }
SPLAT_INLINE VM operator|(VM a, VM b) { return {a.k | b.k}; }
SPLAT_INLINE VM operator^(VM a, VM b) { return {a.k ^ b.k}; }
SPLAT_INLINE VM operator~(VM a) { return {~a.k}; }
#if defined(__AVX2__)
SPLAT_INLINE uint32_t to_bitmask(VM m) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)m.k)); }
#elif defined(__SSE2__)
SPLAT_INLINE uint32_t to_bitmask(VM m) { return static_cast<uint32_t>(_mm_movemask_ps((__m128)m.k)); }
#else
SPLAT_INLINE uint32_t to_bitmask(VM m) { return vaddvq_u32((uint32x4_t)(m.k & VI{1, 2, 4, 8})); }
#endif
SPLAT_INLINE VM lt(VF a, VF b) { return {a < b}; }
SPLAT_INLINE VM le(VF a, VF b) { return {a <= b}; }
SPLAT_INLINE VM eq(VF a, VF b) { return {a == b}; }
SPLAT_INLINE VM lt(VI a, VI b) { return {a < b}; }
SPLAT_INLINE VM eq(VI a, VI b) { return {a == b}; }
SPLAT_INLINE VM first_lanes(int n) { return {iota() < set1(n)}; }
SPLAT_INLINE VI select(VM m, VI a, VI b) {
#if defined(__AVX2__)
    return (VI)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m.k);
#else
    return (a & m.k) | (b & ~m.k);
#endif
}
SPLAT_INLINE VF select(VM m, VF a, VF b) { return (VF)select(m, (VI)a, (VI)b); }
SPLAT_INLINE VF keep(VM m, VF a) { return (VF)((VI)a & m.k); }

#endif

SPLAT_INLINE VM gt(VF a, VF b) { return lt(b, a); }
SPLAT_INLINE VM ge(VF a, VF b) { return le(b, a); }
SPLAT_INLINE bool none(VM m) { return to_bitmask(m) == 0; }
SPLAT_INLINE bool any(VM m) { return to_bitmask(m) != 0; }
SPLAT_INLINE bool all(VM m) { return to_bitmask(m) == (1u << (W - 1)) * 2u - 1u; }
SPLAT_INLINE int count(VM m) { return __builtin_popcount(to_bitmask(m)); }

// The first n lanes of memory; the rest of the vector is 0. Nothing outside them is touched.
SPLAT_INLINE VF load_first(const float* p, int n) {
#if defined(__AVX512F__)
    return (VF)_mm512_maskz_loadu_ps(first_lanes(n).k, p);
#elif defined(__AVX2__)
    return (VF)_mm256_maskload_ps(p, (__m256i)first_lanes(n).k);
#else
    VF v{};
    std::memcpy(&v, p, sizeof(float) * (n < W ? (n > 0 ? n : 0) : W));
    return v;
#endif
}
SPLAT_INLINE void store_first(float* p, VF v, int n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, first_lanes(n).k, (__m512)v);
#elif defined(__AVX2__)
    _mm256_maskstore_ps(p, (__m256i)first_lanes(n).k, (__m256)v);
#else
    std::memcpy(p, &v, sizeof(float) * (n < W ? (n > 0 ? n : 0) : W));
#endif
}

// base[index[lane]] for every lane
SPLAT_INLINE VF gather(const float* base, VI index) {
#if defined(__AVX512F__)
    return (VF)_mm512_i32gather_ps((__m512i)index, base, 4);
#elif defined(__AVX2__)
    return (VF)_mm256_i32gather_ps(base, (__m256i)index, 4);
#else
    VF v;
    for (int i = 0; i < W; ++i) v[i] = base[index[i]];
    return v;
#endif
}

// ---- arithmetic ----

// a·b + c; one rounding where the processor has it
SPLAT_INLINE VF fma(VF a, VF b, VF c) {
#if defined(__AVX512F__)
    return (VF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (VF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
    return (VF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// Of two numbers; where one is NaN the result is b (x86) or NaN (ARM).
SPLAT_INLINE VF min(VF a, VF b) {
#if defined(__AVX512F__)
    return (VF)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (VF)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (VF)_mm_min_ps((__m128)a, (__m128)b);
#else
    return (VF)vminq_f32((float32x4_t)a, (float32x4_t)b);
#endif
}
SPLAT_INLINE VF max(VF a, VF b) {
#if defined(__AVX512F__)
    return (VF)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (VF)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (VF)_mm_max_ps((__m128)a, (__m128)b);
#else
    return (VF)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#endif
}
SPLAT_INLINE VF abs(VF a) { return from_bits(bits(a) & set1(0x7fffffff)); }
// |a| with the sign of s
SPLAT_INLINE VF copysign(VF a, VF s) { return from_bits((bits(a) & set1(0x7fffffff)) | (bits(s) & set1(INT32_MIN))); }

SPLAT_INLINE VF sqrt(VF a) {
#if defined(__AVX512F__)
    return (VF)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
    return (VF)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE2__)
    return (VF)_mm_sqrt_ps((__m128)a);
#else
    return (VF)vsqrtq_f32((float32x4_t)a);
#endif
}

// To the nearest integer (ties to even), as int; |a| < 2³¹.
SPLAT_INLINE VI round_int(VF a) {
#if defined(__AVX512F__)
    return (VI)_mm512_cvtps_epi32((__m512)a);
#elif defined(__AVX2__)
    return (VI)_mm256_cvtps_epi32((__m256)a);
#elif defined(__SSE2__)
    return (VI)_mm_cvtps_epi32((__m128)a);
#else
    return (VI)vcvtnq_s32_f32((float32x4_t)a);
#endif
}
SPLAT_INLINE VF floor(VF a) {
#if defined(__AVX512F__)
    return (VF)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return (VF)_mm256_floor_ps((__m256)a);
#elif defined(__ARM_NEON)
    return (VF)vrndmq_f32((float32x4_t)a);
#else
    const VF truncated = to_float(to_int(a));  // |a| < 2³¹
    return truncated - keep(lt(a, truncated), set1(1.0f));
#endif
}

// Sum of the lanes, in one fixed tree order.
SPLAT_INLINE float sum(VF v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) v[i] += v[i + half];
    return v[0];
#endif
}

// eˣ, relative error below 2e-7; inputs are clamped to [−87.3, 88.3] (no infinity, no denormals). NaN stays NaN on ARM only.
SPLAT_INLINE VF exp(VF x) {
    x = min(max(x, set1(-87.3f)), set1(88.3f));
    const VI n = round_int(x * 1.44269504088896341f);
    const VF k = to_float(n);
    // x − n ln 2 with ln 2 in two parts, the first short enough that its product with n is exact.
    VF r = fma(k, set1(-0.693359375f), x);
    r = fma(k, set1(2.12194440e-4f), r);
    // Minimax polynomial of eʳ on |r| ≤ ln 2 / 2 (Cephes' coefficients).
    VF p = set1(1.9875691500e-4f);
    p = fma(p, r, set1(1.3981999507e-3f));
    p = fma(p, r, set1(8.3334519073e-3f));
    p = fma(p, r, set1(4.1665795894e-2f));
    p = fma(p, r, set1(1.6666665459e-1f));
    p = fma(p, r, set1(5.0000001201e-1f));
    p = fma(p, r * r, r + 1.0f);
    return from_bits((VI)((VU)bits(p) + ((VU)n << 23)));  // unsigned: these may wrap
}

// ln x for positive normal x, absolute error below 1e-7 · max(1, |ln x|).
SPLAT_INLINE VF log(VF x) {
    const VI b = bits(x);
    // Mantissa in [√½, √2).
    const VI e = (VI)((VU)b - 0x3f3504f3u) >> 23;  // unsigned: what is not positive may wrap
    const VF m = from_bits((VI)((VU)b - ((VU)e << 23))) - 1.0f;
    const VF k = to_float(e);
    VF p = set1(7.0376836292e-2f);
    p = fma(p, m, set1(-1.1514610310e-1f));
    p = fma(p, m, set1(1.1676998740e-1f));
    p = fma(p, m, set1(-1.2420140846e-1f));
    p = fma(p, m, set1(1.4249322787e-1f));
    p = fma(p, m, set1(-1.6668057665e-1f));
    p = fma(p, m, set1(2.0000714765e-1f));
    p = fma(p, m, set1(-2.4999993993e-1f));
    p = fma(p, m, set1(3.3333331174e-1f));
    const VF m2 = m * m;
    VF y = p * m2 * m;
    y = fma(k, set1(-2.12194440e-4f), y);
    y = fma(m2, set1(-0.5f), y);
    return fma(k, set1(0.693359375f), m + y);
}

SPLAT_INLINE VF sigmoid(VF x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace splat
