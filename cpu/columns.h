// Rows of a few floats in memory (one per Gaussian) ↔ vectors with one Gaussian per lane.
//
// Four columns at a time are moved by 128-bit pieces and transposed in registers; what is not a multiple of four goes
// through a small buffer.
#pragma once

#include "simd.h"

namespace splat {

// v[i] holds, in its j-th 128 bits, four numbers of row 4 j + i; afterwards v[k] holds number k of every row, in order.
// Its own inverse.
SPLAT_INLINE void transpose_quads(VF v[4]) {
#if defined(__AVX512F__)
    const __m512 a = _mm512_unpacklo_ps((__m512)v[0], (__m512)v[1]), b = _mm512_unpackhi_ps((__m512)v[0], (__m512)v[1]);
    const __m512 c = _mm512_unpacklo_ps((__m512)v[2], (__m512)v[3]), d = _mm512_unpackhi_ps((__m512)v[2], (__m512)v[3]);
    v[0] = (VF)_mm512_shuffle_ps(a, c, 0x44), v[1] = (VF)_mm512_shuffle_ps(a, c, 0xee);
    v[2] = (VF)_mm512_shuffle_ps(b, d, 0x44), v[3] = (VF)_mm512_shuffle_ps(b, d, 0xee);
#elif defined(__AVX2__)
    const __m256 a = _mm256_unpacklo_ps((__m256)v[0], (__m256)v[1]), b = _mm256_unpackhi_ps((__m256)v[0], (__m256)v[1]);
    const __m256 c = _mm256_unpacklo_ps((__m256)v[2], (__m256)v[3]), d = _mm256_unpackhi_ps((__m256)v[2], (__m256)v[3]);
    v[0] = (VF)_mm256_shuffle_ps(a, c, 0x44), v[1] = (VF)_mm256_shuffle_ps(a, c, 0xee);
    v[2] = (VF)_mm256_shuffle_ps(b, d, 0x44), v[3] = (VF)_mm256_shuffle_ps(b, d, 0xee);
#else
    const VF a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    const VF c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5), d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5), v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5), v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#endif
}

// The 16 bytes at each of W / 4 addresses, side by side, and back.
SPLAT_INLINE VF load_quads(const float* const* p) {
#if defined(__AVX512F__)
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p[0]));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p[4]), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p[8]), 2);
    return (VF)_mm512_insertf32x4(v, _mm_loadu_ps(p[12]), 3);
#elif defined(__AVX2__)
    return (VF)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p[0])), _mm_loadu_ps(p[4]), 1);
#else
    return load(p[0]);
#endif
}
SPLAT_INLINE void store_quads(float* const* p, VF v) {
#if defined(__AVX512F__)
    _mm_storeu_ps(p[0], _mm512_castps512_ps128((__m512)v));
    _mm_storeu_ps(p[4], _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_storeu_ps(p[8], _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_storeu_ps(p[12], _mm512_extractf32x4_ps((__m512)v, 3));
#elif defined(__AVX2__)
    _mm_storeu_ps(p[0], _mm256_castps256_ps128((__m256)v));
    _mm_storeu_ps(p[4], _mm256_extractf128_ps((__m256)v, 1));
#else
    store(p[0], v);
#endif
}

// Where the rows of W lanes begin. Lanes past the first n share the first row when reading (their values are
// meaningless but finite where the row is) and a waste row when writing.
template <class Pointer>
struct RowPointers {
    Pointer p[W];
};
SPLAT_INLINE RowPointers<const float*> rows_at(const float* base, int64_t stride, int n) {
    RowPointers<const float*> rows;
    for (int lane = 0; lane < W; ++lane) rows.p[lane] = base + (lane < n ? lane : 0) * stride;
    return rows;
}
SPLAT_INLINE RowPointers<const float*> rows_at(const float* base, int64_t stride, const uint32_t* index, int n) {
    RowPointers<const float*> rows;
    for (int lane = 0; lane < W; ++lane) rows.p[lane] = base + static_cast<int64_t>(index[lane < n ? lane : 0]) * stride;
    return rows;
}

// columns[k][lane] = row[lane][k]
template <int K>
SPLAT_INLINE void load_columns(const RowPointers<const float*>& rows, VF* columns) {
    if constexpr (K < 4) {
        alignas(64) float buffer[K][W];
        for (int lane = 0; lane < W; ++lane)
            for (int k = 0; k < K; ++k) buffer[k][lane] = rows.p[lane][k];
        for (int k = 0; k < K; ++k) columns[k] = load(buffer[k]);
    } else {
        for (int next = 0; next < K; next += 4) {
            const int k = next + 4 <= K ? next : K - 4;  // the last four overlap the ones before
            const float* at[W];
            for (int lane = 0; lane < W; ++lane) at[lane] = rows.p[lane] + k;
            VF v[4];
            for (int i = 0; i < 4; ++i) v[i] = load_quads(at + i);
            transpose_quads(v);
            for (int i = 0; i < 4; ++i) columns[k + i] = v[i];
        }
    }
}

// row[lane][k] = columns[k][lane] for the first n lanes, row[lane] = base + index[lane]·stride
template <int K>
SPLAT_INLINE void scatter_columns(float* base, int64_t stride, const uint32_t* index, int n, const VF* columns) {
    if constexpr (K < 4) {
        alignas(64) float buffer[K][W];
        for (int k = 0; k < K; ++k) store(buffer[k], columns[k]);
        for (int lane = 0; lane < n; ++lane)
            for (int k = 0; k < K; ++k) base[static_cast<int64_t>(index[lane]) * stride + k] = buffer[k][lane];
    } else {
        alignas(64) float waste[4];
        for (int next = 0; next < K; next += 4) {
            const int k = next + 4 <= K ? next : K - 4;
            float* at[W];
            for (int lane = 0; lane < W; ++lane) at[lane] = lane < n ? base + static_cast<int64_t>(index[lane]) * stride + k : waste;
            VF v[4] = {columns[k], columns[k + 1], columns[k + 2], columns[k + 3]};
            transpose_quads(v);
            for (int i = 0; i < 4; ++i) store_quads(at + i, v[i]);
        }
    }
}

}  // namespace splat
