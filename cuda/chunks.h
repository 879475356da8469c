// What the forward blending keeps for the backward one.
#pragma once

#include "frame.h"

namespace splat {

constexpr int CHUNK = 256;  // list entries per block of the backward pass, and per load of the forward pass

// Ids of Gaussians per tile, nearest first: ids[ranges[tile].x … ranges[tile].y). Chunks are numbered through all tiles,
// every tile has at least one; chunk_ends[tile] is one past the number of the tile's last.
struct Lists {
    const int* ids;
    const int2* ranges;
    const int* chunk_ends;
};

// The Gaussians on the image: splats (N × 2), RGB and depth (N), normals and depth squared (N, null where not asked for).
struct Splats {
    const float4 *splats, *features, *normals;
};

struct Screen {
    int width, height, columns;  // pixels, pixels, tiles
    float background[3];
};

// chunk_tiles (chunks): the tile of each chunk that some pixel reached, −1 elsewhere (set by the caller). states: per chunk
// that is not a tile's first, and per pixel of its tile, transmittance and sums before it, one plane of 256 per value.
// finals: transmittance and sums after all, 4, 8 or 9 values per pixel of the image. last (H × W): entries up to the last one
// blended. All null when no backward pass will follow.
struct Kept {
    int* chunk_tiles;
    float *states, *finals;
    int* last;
};

SPLAT_FN int chunks_of(int2 range) { return upper(1, (range.y - range.x + CHUNK - 1) / CHUNK); }

// Where the state before chunk `slot` of `tile` is kept. Up to here, tile + 1 chunks were first ones and have none.
SPLAT_FN int state_of(int slot, int tile) { return slot - tile - 1; }

struct Pixel {
    float x, y;  // centre
    int index;
    bool inside;
};

// Column and row of a thread's pixel in its tile. A warp takes 8 × 4 pixels: fewer Gaussians touch them than 16 × 2.
SPLAT_FN int column_in_tile(int thread) { return thread % 8 + thread / WARP % 2 * 8; }
SPLAT_FN int row_in_tile(int thread) { return thread / 8 % 4 + thread / (2 * WARP) * 4; }

SPLAT_FN Pixel pixel_of(int tile, int thread, const Screen& screen) {
    const int column = tile % screen.columns * TILE + column_in_tile(thread), row = tile / screen.columns * TILE + row_in_tile(thread);
    const bool inside = column < screen.width && row < screen.height;
    return {static_cast<float>(column) + 0.5f, static_cast<float>(row) + 0.5f, row * screen.width + column, inside};
}

// Whether the ellipse {alpha >= 1/255} may reach a pixel centre of the 8 x 4 pixels whose first centre is (x0, y0): the least
// u^2 + v^2 over the rectangle lies on one of its two edges that face the centre. Never says no wrongly (slack for rounding).
SPLAT_FN bool may_reach(const float4& a, const float4& b, float x0, float y0) {
    const float left = x0 - a.x, right = left + 7.0f, low = y0 - a.y, high = low + 3.0f;
    const float near_x = min(max(0.0f, left), right), near_y = min(max(0.0f, low), high);
    const float along_x = min(max(-a.w * near_y * fast_reciprocal(a.z), left), right);
    const float along_y = min(max(-a.z * a.w * near_x * fast_reciprocal(a.w * a.w + b.x * b.x), low), high);
    const float u0 = a.z * along_x + a.w * near_y, v0 = b.x * near_y;
    const float u1 = a.z * near_x + a.w * along_y, v1 = b.x * along_y;
    return min(u0 * u0 + v0 * v0, u1 * u1 + v1 * v1) <= (b.y - LOG2_ALPHA_MIN) * 1.0001f + 1e-4f;
}

template <int FEATURES>
SPLAT_FN void keep_state(float* states, int slot, int thread, float transmittance, const float sums[FEATURES]) {
    float* at = states + static_cast<i64>(slot) * (FEATURES + 1) * TILE_PIXELS + thread;
    at[0] = transmittance;
    for (int c = 0; c < FEATURES; ++c) at[(c + 1) * TILE_PIXELS] = sums[c];
}

template <int FEATURES>
SPLAT_FN void keep_final(float* finals, int pixel, float transmittance, const float sums[FEATURES]) {
    float* at = finals + static_cast<i64>(pixel) * (FEATURES + 1);
    at[0] = transmittance;
    for (int c = 0; c < FEATURES; ++c) at[c + 1] = sums[c];
}

}  // namespace splat
