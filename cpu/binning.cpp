// Stage 2: depth order of the visible Gaussians once per frame (radix sort), then a stable counting pass into tiles.
// Both give the same result for any number of threads.
#include <algorithm>
#include <cmath>

#include "rasterizer.h"
#include "thread_pool.h"

namespace splat {
namespace {

// Rounding must not drop a tile whose outermost pixel centre is just reached; blending tests every pixel again.
float generous(float limit) { return limit * 1.0001f + 1e-4f; }

float clamp(float value, float low, float high) { return std::min(std::max(value, low), high); }

// Smallest u² + v² over rectangles of the pixel centres of a tile, whose first one lies at (x0, y0) from the centre. A convex
// form is least on the edges that face the centre (or at the centre).
SPLAT_INLINE VF nearest(const Whitening<float>& m, float slope_x, float slope_y, VF x0, VF y0) {
    const VF x1 = x0 + (TILE_W - 1.0f), y1 = y0 + (TILE_H - 1.0f);
    const VF dx = max(min(zero(), x1), x0), dy = max(min(zero(), y1), y0);
    const VF y = max(min(slope_y * dx, y1), y0), x = max(min(slope_x * dy, x1), x0);  // best on either edge
    const VF u1 = m.m11 * dx + m.m12 * y, v1 = m.m22 * y;
    const VF u2 = m.m11 * x + m.m12 * dy, v2 = m.m22 * dy;
    return min(u1 * u1 + v1 * v1, u2 * u2 + v2 * v2);
}

// Index of the first pixel whose centre is not left of `x`, clamped to [0, size]. NaN gives 0.
int first_pixel(float x, int size) { return static_cast<int>(std::ceil(clamp(x - 0.5f, 0.0f, static_cast<float>(size)))); }
// One past the last pixel whose centre is not right of `x`.
int end_pixel(float x, int size) { return static_cast<int>(std::floor(clamp(x + 0.5f, 0.0f, static_cast<float>(size)))); }

// Depth order is random order in memory: records must be asked for early. (Forced inline: GCC takes a function that only
// prefetches for one without effect and drops the call.)
constexpr int64_t AHEAD = 24;
SPLAT_INLINE void prefetch_tiles(const Workspace& w, int64_t i) {
    if (i < w.visible) __builtin_prefetch(&w.records[static_cast<uint32_t>(w.order[i])].tile_x);
}

template <class Visit>
void visit_tiles(const Record& r, int tiles_x, Visit&& visit) {
    const int wide = r.tiles_wide, high = r.tiles_high;
    if (wide * high <= 32) {
        for (uint32_t rest = r.tile_mask; rest != 0; rest &= rest - 1) {
            const int bit = __builtin_ctz(rest);
            const int row = bit / wide;
            visit((r.tile_y + row) * tiles_x + r.tile_x + bit - row * wide);
        }
        return;
    }
    for (int ty = r.tile_y; ty < r.tile_y + high; ++ty) {
        int x0, x1;
        row_span(r, ty, tiles_x, x0, x1);
        for (int tx = x0; tx < x1; ++tx) visit(ty * tiles_x + tx);
    }
}

}  // namespace

__attribute__((noinline)) void row_span(const Record& r, int ty, int tiles_x, int& x0, int& x1) {
    const auto& m = r.white;
    const float limit = generous(m.peak - LOG2_ALPHA_MIN);
    const float top = static_cast<float>(ty * TILE_H) + 0.5f - r.y;
    const float reach = std::sqrt(limit) / m.m22;  // half height of the ellipse
    const float low = std::max(top, -reach), high = std::min(top + TILE_H - 1, reach);
    x0 = x1 = r.tile_x;
    if (!(low <= high)) return;
    // The ellipse is widest to the right at dy = turn, to the left at −turn; within the strip, at the nearest dy to that.
    const float turn = -m.m12 * reach / std::sqrt(m.m12 * m.m12 + m.m22 * m.m22);
    const float dy_right = clamp(turn, low, high), dy_left = clamp(-turn, low, high);
    const float v_right = m.m22 * dy_right, v_left = m.m22 * dy_left;
    const float right = (-m.m12 * dy_right + std::sqrt(std::max(0.0f, limit - v_right * v_right))) / m.m11;
    const float left = (-m.m12 * dy_left - std::sqrt(std::max(0.0f, limit - v_left * v_left))) / m.m11;
    const int begin = first_pixel(r.x + left - 0.01f, tiles_x * TILE_W), end = end_pixel(r.x + right + 0.01f, tiles_x * TILE_W);
    if (begin >= end) return;
    x0 = std::max<int>(r.tile_x, begin / TILE_W);
    x1 = std::min<int>(r.tile_x + r.tiles_wide, (end + TILE_W - 1) / TILE_W);
    if (x1 < x0) x1 = x0;
}

int64_t touch_tiles(Record& r, float extent_x, float extent_y, int tiles_x, int width, int height) {
    const int left = first_pixel(r.x - extent_x - 0.01f, width), right = end_pixel(r.x + extent_x + 0.01f, width);
    const int top = first_pixel(r.y - extent_y - 0.01f, height), bottom = end_pixel(r.y + extent_y + 0.01f, height);
    r.tile_x = static_cast<int16_t>(left / TILE_W), r.tile_y = static_cast<int16_t>(top / TILE_H);
    r.tiles_wide = r.tiles_high = 0;
    r.tile_mask = 0;
    if (left >= right || top >= bottom) return 0;  // between pixel centres
    const int wide = (right + TILE_W - 1) / TILE_W - r.tile_x, high = (bottom + TILE_H - 1) / TILE_H - r.tile_y;
    r.tiles_wide = static_cast<int16_t>(wide), r.tiles_high = static_cast<int16_t>(high);
    if (wide * high == 1) {
        r.tile_mask = 1;
        return 1;
    }
    if (wide * high > 32) {
        int64_t touched = 0;
        for (int ty = r.tile_y; ty < r.tile_y + high; ++ty) {
            int x0, x1;
            row_span(r, ty, tiles_x, x0, x1);
            touched += x1 - x0;
        }
        return touched;
    }
    const auto& m = r.white;
    const float limit = generous(m.peak - LOG2_ALPHA_MIN);
    const float slope_x = -m.m12 / m.m11, slope_y = -m.m11 * m.m12 / (m.m12 * m.m12 + m.m22 * m.m22);
    const float first_x = static_cast<float>(r.tile_x * TILE_W) + 0.5f - r.x, first_y = static_cast<float>(r.tile_y * TILE_H) + 0.5f - r.y;
    const float per_row = 1.0f / static_cast<float>(wide);
    for (int first = 0; first < wide * high; first += W) {
        const VF index = to_float(iota() + set1(first));
        const VF row = to_float(to_int((index + 0.5f) * per_row)), column = index - row * static_cast<float>(wide);
        const VF distance = nearest(m, slope_x, slope_y, first_x + column * TILE_W, first_y + row * TILE_H);
        const VM touched = le(distance, set1(limit)) & first_lanes(wide * high - first);
        r.tile_mask |= to_bitmask(touched) << first;
    }
    return __builtin_popcount(r.tile_mask);
}

void sort_by_depth(Workspace& w) {
    constexpr int DIGIT = 11, BINS = 1 << DIGIT;
    const int64_t n = w.visible;
    const int64_t parts = std::clamp<int64_t>(n / 4096, 1, 2 * thread_count());
    const int64_t part = (n + parts - 1) / parts;
    uint32_t* counts = w.histogram.reserve(parts * BINS);
    uint64_t *from = w.order.data(), *to = w.order_spare.data();
    for (int shift = 32; shift < 64; shift += DIGIT) {
        parallel_for(parts, 1, [&](int64_t p, int64_t, int) {
            uint32_t* mine = counts + p * BINS;
            std::fill_n(mine, BINS, 0u);
            for (int64_t i = p * part; i < std::min(n, (p + 1) * part); ++i) ++mine[from[i] >> shift & (BINS - 1)];
        });
        uint32_t next = 0;
        bool sorted = false;  // one digit for all: nothing to move
        for (int bin = 0; bin < BINS; ++bin) {
            const uint32_t start = next;
            for (int64_t p = 0; p < parts; ++p) {
                const uint32_t here = counts[p * BINS + bin];
                counts[p * BINS + bin] = next;
                next += here;
            }
            sorted |= next - start == n;
        }
        if (sorted) continue;
        parallel_for(parts, 1, [&](int64_t p, int64_t, int) {
            uint32_t* mine = counts + p * BINS;
            for (int64_t i = p * part; i < std::min(n, (p + 1) * part); ++i) to[mine[from[i] >> shift & (BINS - 1)]++] = from[i];
        });
        std::swap(from, to);
    }
    if (from != w.order.data()) w.order.swap(w.order_spare);
}

void bin(Workspace& w) {
    const int64_t tiles = static_cast<int64_t>(w.tiles_x) * w.tiles_y, n = w.visible;
    const int64_t parts = std::clamp<int64_t>(n / 2048, 1, 2 * thread_count());
    const int64_t part = (n + parts - 1) / parts;
    // Where each part's entries of each tile go; 64-bit, because a large frame may have more than 2³² pairs.
    int64_t* counts = w.tile_cursor.reserve(parts * tiles);
    w.tile_first.reserve(tiles + 1);
    w.entries.reserve(w.pairs);
    parallel_for(parts, 1, [&](int64_t p, int64_t, int) {
        int64_t* mine = counts + p * tiles;
        std::fill_n(mine, tiles, int64_t{0});
        for (int64_t i = p * part; i < std::min(n, (p + 1) * part); ++i) {
            prefetch_tiles(w, i + AHEAD);
            visit_tiles(w.records[static_cast<uint32_t>(w.order[i])], w.tiles_x, [&](int tile) { ++mine[tile]; });
        }
    });
    int64_t next = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        w.tile_first[tile] = next;
        for (int64_t p = 0; p < parts; ++p) {
            const int64_t here = counts[p * tiles + tile];
            counts[p * tiles + tile] = next;
            next += here;
        }
    }
    w.tile_first[tiles] = next;
    parallel_for(parts, 1, [&](int64_t p, int64_t, int) {
        int64_t* mine = counts + p * tiles;
        for (int64_t i = p * part; i < std::min(n, (p + 1) * part); ++i) {
            prefetch_tiles(w, i + AHEAD);
            const uint32_t g = static_cast<uint32_t>(w.order[i]);
            uint32_t local = 0;
            visit_tiles(w.records[g], w.tiles_x, [&](int tile) { w.entries[mine[tile]++] = {g, local++}; });
        }
    });
}

}  // namespace splat
