// Which tiles a Gaussian's ellipse {α ≥ 1/255} reaches, exactly, one row of tiles at a time (the AccuTile test of
// Speedy-Splat, Hanson et al. 2025, in the whitened coordinates of math/blending.h).
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
    const int first = static_cast<int>(ceilf(min(max(low - 0.5f - slack, 0.0f), end)));
    const int last = static_cast<int>(floorf(min(max(high - 0.5f + slack, -1.0f), end - 1.0f)));
    return {first / TILE, last < first ? first / TILE - 1 : last / TILE};
}

SPLAT_FN Range tile_rows(const Splat& s, int rows) { return tiles_between(s.y - s.extent_y, s.y + s.extent_y, rows); }

// Columns of tiles that the ellipse reaches within tile row `row`.
SPLAT_FN Range tile_columns(const Splat& s, int row, int columns) {
    const float reach = s.peak - LOG2_ALPHA_MIN;  // u² + v² ≤ reach
    if (!(reach >= 0.0f)) return {0, -1};
    const float radius = sqrt(reach);
    // dy of the first and last pixel centre of the row, within the ellipse
    const float limit = radius / s.m22;
    const float low = static_cast<float>(row * TILE) + 0.5f - s.y, high = low + static_cast<float>(TILE - 1);
    const float y0 = min(max(low, -limit), limit), y1 = min(max(high, -limit), limit);
    // dx = (u − m12 dy) / m11 is largest on the ellipse at v = −radius·k / √(1 + k²), k = m12 / m22, and falls off to both
    // sides: the largest within the row is at the nearest dy. The ellipse is symmetric about its centre.
    const float k = s.m12 / s.m22;
    const float extreme = -limit * k / sqrt(1.0f + k * k);
    const float right_y = min(max(extreme, y0), y1), left_y = min(max(-extreme, y0), y1);
    const float right_v = s.m22 * right_y, left_v = s.m22 * left_y;
    const float right = (sqrt(max(reach - right_v * right_v, 0.0f)) - s.m12 * right_y) / s.m11;
    const float left = (-sqrt(max(reach - left_v * left_v, 0.0f)) - s.m12 * left_y) / s.m11;
    return tiles_between(s.x + left, s.x + right, columns);
}

}  // namespace splat
