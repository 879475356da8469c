// Rows of four pixels, between the pictures (channels interleaved) and the planes of a tile's blocks.
#pragma once

#include <algorithm>
#include <cstring>

#include "simd.h"

namespace splat {

// Four pixels of a row.
using Quad = float __attribute__((vector_size(16)));

SPLAT_INLINE Quad load_quad(const float* p, int n = 4) {
    Quad v{};
    if (n == 4) std::memcpy(&v, p, sizeof v);
    else
        for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
SPLAT_INLINE void store_quad(float* p, Quad v, int n = 4) {
    if (n == 4) std::memcpy(p, &v, sizeof v);
    else
        for (int i = 0; i < n; ++i) p[i] = v[i];
}
// n pixels' three interleaved channels, to and from memory.
SPLAT_INLINE void store_triples(float* p, Quad a, Quad b, Quad c, int n) {
    const Quad low = __builtin_shufflevector(a, b, 0, 4, 1, 5), high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Quad out[3] = {__builtin_shufflevector(low, c, 0, 1, 4, 2),
                         __builtin_shufflevector(__builtin_shufflevector(low, c, 3, 5, 3, 5), high, 0, 1, 4, 5),
                         __builtin_shufflevector(c, high, 2, 6, 7, 3)};
    for (int i = 0; i < 3; ++i) store_quad(p + 4 * i, out[i], std::clamp(3 * n - 4 * i, 0, 4));
}
SPLAT_INLINE void load_triples(const float* p, int n, Quad (&out)[3]) {
    Quad v[3];
    for (int i = 0; i < 3; ++i) v[i] = load_quad(p + 4 * i, std::clamp(3 * n - 4 * i, 0, 4));
    // v: a0 b0 c0 a1 | b1 c1 a2 b2 | c2 a3 b3 c3
    out[0] = __builtin_shufflevector(__builtin_shufflevector(v[0], v[1], 0, 3, 6, 6), v[2], 0, 1, 2, 5);
    out[1] = __builtin_shufflevector(__builtin_shufflevector(v[0], v[1], 1, 4, 7, 7), v[2], 0, 1, 2, 6);
    out[2] = __builtin_shufflevector(__builtin_shufflevector(v[0], v[1], 2, 5, 5, 5), v[2], 0, 1, 4, 7);
}

}  // namespace splat
