// What the forward blending keeps for the backward one.
#pragma once

#include "tiles.h"

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
    float x, y;  // centre, from the tile's
    int index;
    bool inside;
};

// Column and row of a thread's pixel in its tile. A warp takes 8 × 4 pixels: fewer Gaussians touch them than 16 × 2.
SPLAT_FN int column_in_tile(int thread) { return thread % 8 + thread / WARP % 2 * 8; }
SPLAT_FN int row_in_tile(int thread) { return thread / 8 % 4 + thread / (2 * WARP) * 4; }

SPLAT_FN Pixel pixel_of(int tile, int thread, const Screen& screen) {
    const int across = column_in_tile(thread), down = row_in_tile(thread);
    const int column = tile % screen.columns * TILE + across, row = tile / screen.columns * TILE + down;
    const bool inside = column < screen.width && row < screen.height;
    constexpr float half = 0.5f * TILE - 0.5f;
    return {static_cast<float>(across) - half, static_cast<float>(down) - half, row * screen.width + column, inside};
}

// ---- list entries in shared memory ----

constexpr int WARPS = TILE_PIXELS / WARP;  // each takes 8 × 4 pixels; also: groups of 32 entries in a chunk
static_assert(WARPS * WARP == CHUNK, "one thread per entry when a chunk is loaded");

// A list entry as the pixels of a tile see it, with (x, y) from the tile's centre: u = m11 x + m12 y + u0, v = m22 y + v0.
// Two float4: (m11, m12, u0, peak) and (m22, v0, id, warps reached), the last two as bits.
SPLAT_FN float4 first_half(const Splat& s, float to_x, float to_y) {
    return make_float4(s.m11, s.m12, __fmaf_rn(s.m11, to_x, __fmul_rn(s.m12, to_y)), s.peak);
}
SPLAT_FN float4 second_half(const Splat& s, float to_y, int id, int warps) {
    return make_float4(s.m22, __fmul_rn(s.m22, to_y), __int_as_float(id), __int_as_float(warps));
}

// log₂(o·exp(−σ)) at a pixel, and (u, v) there. Of stated rounding, so that the forward and the backward pass agree on
// which side of a threshold a pixel lies.
SPLAT_FN float log2_alpha(const float4& a, const float4& b, float x, float y, float& u, float& v) {
    u = __fmaf_rn(a.x, x, __fmaf_rn(a.y, y, a.z));
    v = __fmaf_rn(b.x, y, b.y);
    return __fmaf_rn(-v, v, __fmaf_rn(-u, u, a.w));
}

// Bit w: the ellipse {α ≥ 1/255} may reach one of the 8 × 4 pixels of warp w. (x, y): its centre, from the tile's. Of
// stated rounding, too; never leaves out a warp that has a pixel above the threshold by more than rounding.
SPLAT_FN int warps_reached(const Splat& s, float x, float y) {
    const float reach = __fmaf_rn(__fadd_rn(s.peak, -LOG2_ALPHA_MIN), 1.0001f, 1e-4f);
    const Ellipse e = ellipse_of<FastRoots>(s.m11, s.m12, s.m22, reach);
    int warps = 0;
#pragma unroll
    for (int strip = 0; strip < TILE / 4; ++strip) {
        const float low = __fadd_rn(static_cast<float>(4 * strip) - 7.5f, -y), high = __fadd_rn(low, 3.0f);
        float left, right;
        extent_in_rows<FastRoots>(e, low, high, left, right);
        const float first = __fadd_rn(x, left), last = __fadd_rn(x, right);
        const bool reached = low <= e.limit && high >= -e.limit;
        if (reached && first <= -0.5f && last >= -7.5f) warps |= 1 << (2 * strip);
        if (reached && first <= 7.5f && last >= 0.5f) warps |= 2 << (2 * strip);
    }
    return warps;
}

// Loads `count` entries of a tile's list from `begin` on, a thread each. A barrier must follow.
template <int FEATURES, class Quads, class Normals>
SPLAT_FN void load_chunk(const Lists& lists, const Splats& splats, int tile, const Screen& screen, int begin, int count, Quads& near_a,
                         Quads& near_b, Quads& near_feature, Normals& near_normal) {
    const int t = threadIdx.x;
    if (t >= count) return;
    const float centre_x = static_cast<float>(tile % screen.columns * TILE + TILE / 2);
    const float centre_y = static_cast<float>(tile / screen.columns * TILE + TILE / 2);
    const int id = lists.ids[begin + t];
    const Splat s = load_splat(splats.splats, id);
    const float to_x = __fadd_rn(centre_x, -s.x), to_y = __fadd_rn(centre_y, -s.y);
    near_a[t] = first_half(s, to_x, to_y);
    near_b[t] = second_half(s, to_y, id, warps_reached(s, -to_x, -to_y));
    near_feature[t] = splats.features[id];
    if constexpr (FEATURES > 4) near_normal[t] = splats.normals[id];
}

// Which entries of the chunk's `group`-th 32, before `end`, may reach the pixels of this warp: bit i for entry i.
template <class Quads>
SPLAT_FN unsigned entries_reaching(Quads& near_b, int group, int end) {
    const int own = group * WARP + threadIdx.x % WARP, warp = threadIdx.x / WARP;
    bool reaching = false;
    if (own < end) {
        const float4 b = near_b[own];
        reaching = __float_as_int(b.w) >> warp & 1;
    }
    return __ballot_sync(ALL_LANES, reaching);
}

// ---- what is kept ----

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
