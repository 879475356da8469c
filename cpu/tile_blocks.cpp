// Stage 3, first part: a batch of a tile's Gaussians as the tile sees them, and which of its blocks each touches.
#include "blending.h"
#include "columns.h"

namespace splat {

constexpr int64_t AHEAD = 24;  // entries ahead at which records are asked for

namespace {

// √x or up to 0.1 % more; a little above 0 for x ≤ 0.
SPLAT_INLINE VF root(VF x) {
    x = max(x, set1(1e-12f));
#if defined(__AVX512F__)
    return x * (VF)_mm512_rsqrt14_ps((__m512)x) * 1.0005f;
#elif defined(__AVX2__)
    return x * (VF)_mm256_rsqrt_ps((__m256)x) * 1.0005f;
#else
    return sqrt(x);
#endif
}

// What a row of a tile's blocks is tested against, for W Gaussians at once. The part of an ellipse within a strip of rows
// is convex, so the blocks it touches there are neighbours: from the leftmost to the rightmost of its pixels.
struct Outline {
    VF m12, m22, limit;  // the ellipse is u² + v² ≤ limit
    VF inverse;          // 1 / m11
    VF reach, turn;      // half height; it is widest to the right at dy = turn, to the left at −turn

    explicit Outline(const VF (&record)[6]) : m12(record[3]), m22(record[4]) {
        // A little slack for rounding, as in binning.cpp; every pixel is tested again.
        limit = max((record[5] - LOG2_ALPHA_MIN) * 1.0001f + 1e-4f, zero());
        inverse = 1.0f / record[2];
        reach = sqrt(limit) / m22;
        turn = -m12 * reach / sqrt(m12 * m12 + m22 * m22);
    }

    // Bits [first block, one past the last one) of the strip of pixel rows `top` … `top` + BLOCK_H − 1 below the centre;
    // the tile's first pixel lies `left_x` to the right of it.
    SPLAT_INLINE VI strip(VF top, VF left_x) const {
        const VF low = max(top, -reach), high = min(top + (BLOCK_H - 1.0f), reach);
        const VF y1 = min(max(turn, low), high), y0 = min(max(-turn, low), high);
        const VF v1 = m22 * y1, v0 = m22 * y0;
        const VF half1 = root(fma(-v1, v1, limit)), half0 = root(fma(-v0, v0, limit));
        const VF right = fma(half1 - m12 * y1, inverse, 0.01f - left_x), left = fma(-half0 - m12 * y0, inverse, -0.01f - left_x);
        const VF last = floor(min(right, set1(TILE_W - 1.0f))), first = -floor(-max(left, zero()));
        const VM touched = le(low, high) & le(first, last);
        const VI begin = to_int(min(first, set1(float(TILE_W)))) / BLOCK_W, end = (to_int(max(last, set1(-1.0f))) + BLOCK_W) / BLOCK_W;
        const VI one = set1(1);
        return select(touched, (one << end) - (one << begin), set1(0));
    }
};

}  // namespace

__attribute__((noinline)) void prepare(const Workspace& w, int64_t list, int64_t begin, int64_t end, float x, float y, Local* batch) {
    constexpr int ROWS_PER_WORD = 32 / BLOCK_COLUMNS;
    const int64_t list_end = w.pairs;
    const int n = static_cast<int>(end - begin);
    for (int64_t i = begin; i < std::min(begin + AHEAD, end); ++i) __builtin_prefetch(&w.records[w.entries[i].gaussian]);
    for (int i = 0; i < n; ++i) {
        if (begin + i + AHEAD < list_end) __builtin_prefetch(&w.records[w.entries[begin + i + AHEAD].gaussian]);
        const Entry entry = w.entries[begin + i];
        const Record& r = w.records[entry.gaussian];
        Local& g = batch[i];
        const auto& m = r.white;
        const float dx = x + 0.5f - r.x, dy = y + 0.5f - r.y;
        g.m11 = m.m11, g.m12 = m.m12, g.m22 = m.m22, g.peak = m.peak;
        for (int c = 0; c < 3; ++c) g.colour[c] = r.colour[c];
        g.gaussian = entry.gaussian;
        g.pair = r.first_pair + entry.local;
        g.position = static_cast<int32_t>(begin - list) + i + 1;
        for (int c = 0; c < BLOCK_COLUMNS; ++c) g.u_column[c] = m.m11 * (dx + static_cast<float>(c * BLOCK_W));
        for (int row = 0; row < BLOCK_ROWS; ++row) g.u_row[row] = m.m12 * (dy + static_cast<float>(row * BLOCK_H));
        for (int row = 0; row < BLOCK_ROWS; ++row) g.v_row[row] = m.m22 * (dy + static_cast<float>(row * BLOCK_H));
    }
    for (int i = 0; i < n; i += W) {
        RowPointers<const float*> rows;
        for (int lane = 0; lane < W; ++lane) rows.p[lane] = &w.records[batch[std::min(i + lane, n - 1)].gaussian].x;
        VF record[6];
        load_columns<6>(rows, record);
        const Outline outline(record);
        const VF left = x + 0.5f - record[0], top = y + 0.5f - record[1];
        VI bits[2] = {};
        for (int row = 0; row < BLOCK_ROWS; ++row)
            bits[row / ROWS_PER_WORD] |= outline.strip(top + static_cast<float>(row * BLOCK_H), left) << (row % ROWS_PER_WORD * BLOCK_COLUMNS);
        for (int lane = 0; lane < std::min(W, n - i); ++lane)
            batch[i + lane].blocks = static_cast<uint32_t>(bits[0][lane]) | static_cast<uint64_t>(static_cast<uint32_t>(bits[1][lane])) << 32;
    }
}

}  // namespace splat
