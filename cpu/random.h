// Counter-based random numbers: Philox4x32 with 10 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
// The numbers depend on key and counter alone, so threads, vector width and interrupted runs do not change them.
#pragma once

#include "simd.h"

#include "math/random.h"

namespace splat {

// High and low halves of the 64-bit products a[lane] · b.
SPLAT_INLINE void multiply_wide(VU a, uint32_t b, VU& high, VU& low) {
    using VL = uint64_t __attribute__((vector_size(W * 4)));
    const VL factor = b - VL{};
    const VL even = (VL)a & 0xffffffffu, odd = (VL)a >> 32;
#if defined(__AVX512F__)
    const VL pe = (VL)_mm512_mul_epu32((__m512i)even, (__m512i)factor), po = (VL)_mm512_mul_epu32((__m512i)odd, (__m512i)factor);
#elif defined(__AVX2__)
    const VL pe = (VL)_mm256_mul_epu32((__m256i)even, (__m256i)factor), po = (VL)_mm256_mul_epu32((__m256i)odd, (__m256i)factor);
#elif defined(__SSE2__)
    const VL pe = (VL)_mm_mul_epu32((__m128i)even, (__m128i)factor), po = (VL)_mm_mul_epu32((__m128i)odd, (__m128i)factor);
#else
    const VL pe = even * factor, po = odd * factor;
#endif
    high = (VU)((pe >> 32) | (po & 0xffffffff00000000u));
    low = (VU)((pe & 0xffffffffu) | (po << 32));
}

// counter: four words per lane, replaced by four random words.
SPLAT_INLINE void philox(VU (&counter)[4], uint64_t key) {
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        VU high0, low0, high1, low1;
        multiply_wide(counter[0], PHILOX_FACTOR_0, high0, low0);
        multiply_wide(counter[2], PHILOX_FACTOR_1, high1, low1);
        counter[0] = high1 ^ counter[1] ^ k0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ k1;
        counter[3] = low0;
        k0 += PHILOX_WEYL_0;
        k1 += PHILOX_WEYL_1;
    }
}

// A number in (0, 1], a multiple of 2⁻²⁴.
SPLAT_INLINE VF unit(VU word) { return to_float((VI)((word >> 8) + 1u)) * RANDOM_UNIT; }

// sin 2πu and cos 2πu for u in [0, 1], absolute error below 2e-7.
SPLAT_INLINE void sincos_turn(VF u, VF& sine, VF& cosine) {
    const VI quarter = round_int(u * 4.0f);
    const VF r = fma(to_float(quarter), set1(-0.25f), u) * 6.283185307179586f;  // |r| ≤ π/4
    const VF r2 = r * r;
    VF s = set1(-1.9515295891e-4f);  // Cephes' coefficients
    s = fma(s, r2, set1(8.3321608736e-3f));
    s = fma(s, r2, set1(-1.6666654611e-1f));
    s = fma(s * r2, r, r);
    VF c = set1(2.443315711809948e-5f);
    c = fma(c, r2, set1(-1.388731625493765e-3f));
    c = fma(c, r2, set1(4.166664568298827e-2f));
    c = fma(c * r2, r2, fma(r2, set1(-0.5f), set1(1.0f)));
    const VM swap = eq(quarter & set1(1), set1(1));
    const VI flip_sine = (quarter & set1(2)) << 30, flip_cosine = ((quarter + set1(1)) & set1(2)) << 30;
    sine = from_bits(bits(select(swap, c, s)) ^ flip_sine);
    cosine = from_bits(bits(select(swap, s, c)) ^ flip_cosine);
}

// Two independent standard normal numbers per lane from two random words (Box & Muller 1958).
SPLAT_INLINE void normals(VU a, VU b, VF& first, VF& second) {
    const VF radius = sqrt(log(unit(a)) * -2.0f);
    VF sine, cosine;
    sincos_turn(unit(b), sine, cosine);
    first = radius * cosine;
    second = radius * sine;
}

}  // namespace splat
