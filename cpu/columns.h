// Rows of a few floats in memory (one per Gaussian) ↔ vectors with one Gaussian per lane.
#pragma once

#include "simd.h"

namespace splat {

// columns[k][lane] = rows[lane·stride + k] for the first n lanes, zeros in the others.
template <int K>
SPLAT_INLINE void load_columns(const float* rows, int64_t stride, int n, VF* columns) {
    alignas(64) float buffer[K][W] = {};
    for (int lane = 0; lane < n; ++lane)
        for (int k = 0; k < K; ++k) buffer[k][lane] = rows[lane * stride + k];
    for (int k = 0; k < K; ++k) columns[k] = load(buffer[k]);
}

// The same for rows anywhere: columns[k][lane] = base[index[lane]·stride + k].
template <int K>
SPLAT_INLINE void gather_columns(const float* base, int64_t stride, const uint32_t* index, int n, VF* columns) {
    alignas(64) float buffer[K][W] = {};
    for (int lane = 0; lane < n; ++lane) {
        const float* row = base + static_cast<int64_t>(index[lane]) * stride;
        for (int k = 0; k < K; ++k) buffer[k][lane] = row[k];
    }
    for (int k = 0; k < K; ++k) columns[k] = load(buffer[k]);
}

// rows[lane·stride + k] = columns[k][lane] for the first n lanes.
template <int K>
SPLAT_INLINE void store_columns(float* rows, int64_t stride, int n, const VF* columns) {
    alignas(64) float buffer[K][W];
    for (int k = 0; k < K; ++k) store(buffer[k], columns[k]);
    for (int lane = 0; lane < n; ++lane)
        for (int k = 0; k < K; ++k) rows[lane * stride + k] = buffer[k][lane];
}

// base[index[lane]·stride + k] = columns[k][lane] for the first n lanes.
template <int K>
SPLAT_INLINE void scatter_columns(float* base, int64_t stride, const uint32_t* index, int n, const VF* columns) {
    alignas(64) float buffer[K][W];
    for (int k = 0; k < K; ++k) store(buffer[k], columns[k]);
    for (int lane = 0; lane < n; ++lane) {
        float* row = base + static_cast<int64_t>(index[lane]) * stride;
        for (int k = 0; k < K; ++k) row[k] = buffer[k][lane];
    }
}

}  // namespace splat
