// One tile and its Gaussians: what the forward and the backward pass of blending have in common.
//
// A tile's pixels lie in memory block by block; a block (4 × W/4 pixels) is one vector. For each Gaussian of the tile's
// list `prepare` finds the blocks that its ellipse touches, and both passes visit just those.
#pragma once

#include <algorithm>

#include "rasterizer.h"

namespace splat {

constexpr int BATCH = 64;  // Gaussians prepared at a time: 10 KB, in the first-level cache with the tile

// A Gaussian as its tile sees it. (u, v) at a pixel is the sum of what its lane, its block's row and its block's column add.
struct Local {
    int64_t pair;
    uint64_t blocks;  // touched ones, as bits
    float m11, m12, m22, peak;
    float colour[3];
    uint32_t gaussian;
    int32_t position;  // one past its place in the tile's list
    float u_column[BLOCK_COLUMNS], u_row[BLOCK_ROWS], v_row[BLOCK_ROWS];
};

// What the lanes add to (u, v) of a Gaussian.
struct Lanes {
    VF u, v;
    SPLAT_INLINE explicit Lanes(const Local& g) {
        const VI i = iota();
        const VF x = to_float(i & set1(BLOCK_W - 1)), y = to_float(i >> 2);
        u = fma(set1(g.m11), x, g.m12 * y);
        v = g.m22 * y;
    }
};

// Fills `batch` from the entries [begin, end) (at most BATCH) of the tile whose first pixel is (x, y) and whose list
// begins at `list`.
void prepare(const Workspace& w, int64_t list, int64_t begin, int64_t end, float x, float y, Local* batch);

// 2^q for −20 < q ≤ 0 with relative error below 3e-6 (pictures are compared to 1e-4); any finite number outside unless the lane is masked away, then 0.
SPLAT_INLINE VF exp2_where(VM m, VF q) {
#if defined(__AVX512F__)
    // f = q − ⌊q⌋ in [0, 1); minimax polynomial of 2^f.
    const __m512 f = _mm512_reduce_ps((__m512)q, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    VF p = set1(1.35341678e-2f);
    p = fma(p, (VF)f, set1(5.20114638e-2f));
    p = fma(p, (VF)f, set1(2.41442755e-1f));
    p = fma(p, (VF)f, set1(6.93003833e-1f));
    p = fma(p, (VF)f, set1(1.00000262e0f));
    return (VF)_mm512_maskz_scalef_ps(m.k, (__m512)p, (__m512)q);
#else
    // Adding 1.5·2²³ rounds q to an integer and leaves it in the low bits.
    const VF magic = set1(12582912.0f);
    const VF z = q + magic;
    const VF f = q - (z - magic);
    VF p = set1(9.57010221e-3f);
    p = fma(p, f, set1(5.59178628e-2f));
    p = fma(p, f, set1(2.40247443e-1f));
    p = fma(p, f, set1(6.93121791e-1f));
    p = fma(p, f, set1(9.99999285e-1f));
    return keep(m, from_bits(bits(p) + (bits(z) << 23)));
#endif
}

// One Gaussian at one block's pixels. Both passes call this with the same numbers, so they take the same decisions.
struct Falloff {
    VF u, v, raw, alpha;  // raw = o·e^{−σ}, 0 where below ALPHA_MIN; alpha = min(raw, ALPHA_MAX)
    VM seen;              // where it is not
};

SPLAT_INLINE Falloff falloff(const Local& g, const Lanes& lanes, int block) {
    Falloff s;
    s.u = lanes.u + g.u_row[block / BLOCK_COLUMNS] + g.u_column[block % BLOCK_COLUMNS];
    s.v = lanes.v + g.v_row[block / BLOCK_COLUMNS];
    const VF q = fma(-s.u, s.u, fma(-s.v, s.v, set1(g.peak)));
    s.seen = ge(q, set1(LOG2_ALPHA_MIN));
    s.raw = exp2_where(s.seen, q);
    s.alpha = min(s.raw, set1(ALPHA_MAX));
    return s;
}

}  // namespace splat
