// Sums over the lanes of several vectors at once: transposing while adding costs about three operations a vector.
#pragma once

#include "simd.h"

namespace splat {

#if defined(__AVX512F__)
namespace detail {
// [a's 128-bit lanes 0+2, 1+3, b's 0+2, 1+3]
SPLAT_INLINE __m512 fold_quarters(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
// From [a a b b], [c c d d]: [a b c d]
SPLAT_INLINE __m512 fold_halves(__m512 ab, __m512 cd) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}
}  // namespace detail
#endif

// out[i] = sum of v[i]'s lanes for i < N, N = 12 or 16; `out` has room for N floats. One fixed order of additions.
template <int N>
SPLAT_INLINE void sums(const VF* v, float* out) {
    static_assert(N == 12 || N == 16, "a multiple of four");
#if defined(__AVX512F__)
    using namespace detail;
    __m512 q[4];  // q[i]: in 128-bit lane l the four partial sums of v[4 i + l]
    for (int i = 0; i < 4; ++i)
        q[i] = 4 * i >= N ? _mm512_setzero_ps()
                          : fold_halves(fold_quarters((__m512)v[4 * i], (__m512)v[4 * i + 1]),
                                        fold_quarters((__m512)v[4 * i + 2], (__m512)v[4 * i + 3]));
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(q[0], q[1]), _mm512_unpackhi_ps(q[0], q[1]));  // 0 1 0 1
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(q[2], q[3]), _mm512_unpackhi_ps(q[2], q[3]));  // 2 3 2 3
    const __m512 c = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));    // 0 1 2 3
    // Lane 4 l + i holds the sum of v[4 i + l].
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512 r = _mm512_permutexvar_ps(order, c);
    _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << N) - 1), r);
#elif defined(__AVX2__)
    for (int i = 0; i < N; i += 4) {
        const __m256 a = _mm256_hadd_ps((__m256)v[i], (__m256)v[i + 1]);
        const __m256 b = _mm256_hadd_ps((__m256)v[i + 2], (__m256)v[i + 3]);
        const __m256 c = _mm256_hadd_ps(a, b);
        _mm_storeu_ps(out + i, _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1)));
    }
#else
    for (int i = 0; i < N; i += 4) {
        const VF a = __builtin_shufflevector(v[i], v[i + 1], 0, 4, 1, 5) + __builtin_shufflevector(v[i], v[i + 1], 2, 6, 3, 7);
        const VF b = __builtin_shufflevector(v[i + 2], v[i + 3], 0, 4, 1, 5) +
                     __builtin_shufflevector(v[i + 2], v[i + 3], 2, 6, 3, 7);
        store(out + i, __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7));
    }
#endif
}

}  // namespace splat
