// Which pixels a Gaussian's ellipse {α ≥ 1/255} reaches, exactly, one strip of rows at a time (the AccuTile test of
// Speedy-Splat, Hanson et al. 2025, in the whitened coordinates of math/blending.h).
//
// Projection counts a Gaussian's tiles and binning writes them later: two kernels that must come to the same number. So
// each operation here is one of CUDA's functions of stated rounding (`__fmul_rn`, …), which no compiler may contract
// into another one, however it optimises the code around it.
#pragma once

#include "frame.h"

namespace splat {

struct Range {
    int first, last;  // inclusive; empty when last < first
    SPLAT_FN int count() const { return upper(0, last - first + 1); }
};

// Tiles of `TILE` pixels whose pixel centres lie in [low, high]; 0 … tiles−1.
SPLAT_FN Range tiles_between(float low, float high, int tiles) {
    // Clamped before the conversion: a huge Gaussian may reach beyond what an int holds. The slack covers rounding.
    constexpr float slack = 1e-3f;
    const float end = static_cast<float>(tiles * TILE);
    const int first = static_cast<int>(ceilf(min(max(__fadd_rn(low, -0.5f - slack), 0.0f), end)));
    const int last = static_cast<int>(floorf(min(max(__fadd_rn(high, -0.5f + slack), -1.0f), __fadd_rn(end, -1.0f))));
    return {first / TILE, last < first ? first / TILE - 1 : last / TILE};
}

// Square root and reciprocal: rounded to nearest where two kernels must agree to the bit, else one instruction each.
struct ExactRoots {
    static SPLAT_FN float root(float x) { return __fsqrt_rn(x); }
    static SPLAT_FN float inverse(float x) { return __fdiv_rn(1.0f, x); }
};
struct FastRoots {
    static SPLAT_FN float root(float x) { return fast_root(x); }
    static SPLAT_FN float inverse(float x) { return fast_reciprocal(x); }
};

// u² + v² ≤ reach around a centre, u = m11 dx + m12 dy and v = m22 dy. Never empty: reach ≥ 0.
struct Ellipse {
    float m12, m22, inverse_m11, reach;
    float limit, extreme;  // largest dy; dy where dx is largest, at v = −√reach·k / √(1 + k²) with k = m12 / m22
};

template <class Roots>
SPLAT_FN Ellipse ellipse_of(float m11, float m12, float m22, float reach) {
    const float inverse_m22 = Roots::inverse(m22), limit = __fmul_rn(Roots::root(reach), inverse_m22);
    const float k = __fmul_rn(m12, inverse_m22);
    const float shrink = Roots::inverse(Roots::root(__fmaf_rn(k, k, 1.0f)));
    return {m12, m22, Roots::inverse(m11), reach, limit, __fmul_rn(-limit, __fmul_rn(k, shrink))};
}

// The least and the largest dx of the ellipse in rows low ≤ dy ≤ high, which it must reach (|dy| ≤ limit for some of
// them). dx falls off to both sides of its extreme: the largest is at the nearest dy. The ellipse is symmetric.
template <class Roots>
SPLAT_FN void extent_in_rows(const Ellipse& e, float low, float high, float& left, float& right) {
    const float y0 = min(max(low, -e.limit), e.limit), y1 = min(max(high, -e.limit), e.limit);
    const float right_y = min(max(e.extreme, y0), y1), left_y = min(max(-e.extreme, y0), y1);
    const float right_v = __fmul_rn(e.m22, right_y), left_v = __fmul_rn(e.m22, left_y);
    const float right_u = Roots::root(max(__fmaf_rn(-right_v, right_v, e.reach), 0.0f));
    const float left_u = -Roots::root(max(__fmaf_rn(-left_v, left_v, e.reach), 0.0f));
    right = __fmul_rn(__fmaf_rn(-e.m12, right_y, right_u), e.inverse_m11);
    left = __fmul_rn(__fmaf_rn(-e.m12, left_y, left_u), e.inverse_m11);
}

// The tiles that a Gaussian reaches. All kernels that count or list them go through this.
struct Reached {
    Ellipse ellipse;
    float x, y;
    Range rows;
    int columns;

    SPLAT_FN Reached(const Splat& s, int tile_columns, int tile_rows) : ellipse(), x(s.x), y(s.y), rows({0, -1}), columns(tile_columns) {
        const float reach = __fadd_rn(s.peak, -LOG2_ALPHA_MIN);
        if (!(reach >= 0.0f)) return;
        ellipse = ellipse_of<ExactRoots>(s.m11, s.m12, s.m22, reach);
        rows = tiles_between(__fadd_rn(s.y, -s.extent_y), __fadd_rn(s.y, s.extent_y), tile_rows);
    }

    // Columns within tile row `row`, one of `rows`.
    SPLAT_FN Range across(int row) const {
        const float low = __fadd_rn(static_cast<float>(row * TILE) + 0.5f, -y), high = __fadd_rn(low, static_cast<float>(TILE - 1));
        float left, right;
        extent_in_rows<ExactRoots>(ellipse, low, high, left, right);
        return tiles_between(__fadd_rn(x, left), __fadd_rn(x, right), columns);
    }
};

}  // namespace splat
