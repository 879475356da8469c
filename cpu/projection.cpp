// Stage 1: every Gaussian onto the image plane, W at a time; colours of the visible ones; how many tiles each touches.
// The mathematics of one Gaussian, the anti-aliased mode too, is cuda/math/projection.h, which CUDA shares.
#include <algorithm>

#include "columns.h"
#include "rasterizer.h"
#include "thread_pool.h"

#include "math/sh.h"

namespace splat {
namespace {

// Smaller depths give smaller keys, negative ones included.
uint64_t depth_key(float depth) {
    uint32_t bits;
    std::memcpy(&bits, &depth, sizeof bits);
    return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

struct Chunk {
    Chunk(Workspace& workspace, int64_t first, int64_t last) : w(workspace), begin(first), end(last) {}
    Workspace& w;
    int64_t begin, end;
    uint32_t ids[CHUNK];
    uint64_t keys[CHUNK];
    int visible = 0;
    int64_t pairs = 0;
};

// Writes records, radii, centres and pair counts of up to W Gaussians from `first` on.
void project_group(Chunk& chunk, int64_t first) {
    Workspace& w = chunk.w;
    const Frame& f = w.frame;
    const int n = static_cast<int>(std::min<int64_t>(W, chunk.end - first));
    Gaussian<VF> g;
    load_columns<3>(rows_at(f.means + 3 * first, 3, n), g.mean);
    load_columns<3>(rows_at(f.log_scales + 3 * first, 3, n), g.log_scale);
    load_columns<4>(rows_at(f.quats + 4 * first, 4, n), g.quat);
    g.logit = load_first(f.logits + first, n);
    Geometry<VF> geometry;
    Footprint<VF> print;
    const VM drawn = project(g, w.view, geometry, print) & first_lanes(n);
    const uint32_t bits = to_bitmask(drawn);

    const VF radius = max(print.extent_x, print.extent_y);
    const VF ceiling = -floor(-min(radius, set1(1e9f)));
    if (f.radii != nullptr) {
        alignas(64) int32_t radii[W];
        store(radii, to_int(keep(drawn, ceiling)));
        for (int lane = 0; lane < n; ++lane) f.radii[first + lane] = radii[lane];
    }
    if (f.means2d != nullptr) {
        alignas(64) float centre[2][W];
        store(centre[0], keep(drawn, print.x)), store(centre[1], keep(drawn, print.y));
        for (int lane = 0; lane < 2 * n; ++lane) f.means2d[2 * first + lane] = centre[lane % 2][lane / 2];
    }
    for (int lane = 0; lane < n; ++lane) w.first_pair[first + lane] = 0;
    w.visible_bits[first / 64] |= static_cast<uint64_t>(bits) << (first % 64);
    if (bits == 0) return;

    const Whitening<VF> white = whiten(print);
    alignas(64) float x[W], y[W], m11[W], m12[W], m22[W], peak[W], depth[W], extent_x[W], extent_y[W], normal[3][W];
    store(x, print.x), store(y, print.y);
    store(m11, white.m11), store(m12, white.m12), store(m22, white.m22), store(peak, white.peak);
    store(depth, print.depth), store(extent_x, print.extent_x), store(extent_y, print.extent_y);
    const bool with_depth_normal = blended_channels(f) > 3;
    if (f.with_normal) {
        VF direction[3], axis[3], sign;
        find_normal(g, w.view, geometry, direction, axis, sign);
        for (int i = 0; i < 3; ++i) store(normal[i], direction[i]);
    } else {
        for (int i = 0; i < 3; ++i) store(normal[i], zero());
    }
    const int64_t sh_floats = 3 * static_cast<int64_t>(f.sh_bands), sh_used = 12 * (f.sh_degree + 1) * (f.sh_degree + 1);
    for (uint32_t rest = bits; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        // Colours come after the whole chunk: its SH rows can be on their way until then.
        const char* sh = reinterpret_cast<const char*>(f.sh + (first + lane) * sh_floats);
        for (int64_t i = 0; i < sh_used; i += 64) __builtin_prefetch(sh + i, 0, 2);
        Record& r = w.records[first + lane];
        r.x = x[lane], r.y = y[lane];
        r.white = {m11[lane], m12[lane], m22[lane], peak[lane]};
        if (with_depth_normal) w.depth_normals[first + lane] = {depth[lane], {normal[0][lane], normal[1][lane], normal[2][lane]}};
        chunk.keys[chunk.visible] = depth_key(depth[lane]);
        const int64_t touched = touch_tiles(r, extent_x[lane], extent_y[lane], w.tiles_x, f.width, f.height);
        w.first_pair[first + lane] = touched;
        chunk.pairs += touched;
        chunk.ids[chunk.visible++] = static_cast<uint32_t>(first + lane);
    }
}

template <int DEGREE>
void colour_group(Chunk& chunk, int start) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    Workspace& w = chunk.w;
    const Frame& f = w.frame;
    const int n = std::min(W, chunk.visible - start);
    const uint32_t* ids = chunk.ids + start;
    VF mean[3], direction[3], basis[K], coefficients[3 * K];
    load_columns<3>(rows_at(f.means, 3, ids, n), mean);
    view_direction(mean, w.view, direction);
    sh_basis<DEGREE>(direction[0], direction[1], direction[2], basis);
    load_columns<3 * K>(rows_at(f.sh, 3 * static_cast<int64_t>(f.sh_bands), ids, n), coefficients);
    alignas(64) float colour[3][W];
    for (int c = 0; c < 3; ++c) {
        VF value = set1(0.5f);
        for (int k = 0; k < K; ++k) value = fma(basis[k], coefficients[3 * k + c], value);
        store(colour[c], max(value, zero()));
    }
    for (int lane = 0; lane < n; ++lane) {
        uint8_t bits = 0;
        for (int c = 0; c < 3; ++c) {
            w.records[ids[lane]].colour[c] = colour[c][lane];
            bits |= static_cast<uint8_t>((colour[c][lane] > 0.0f) << c);
        }
        w.colour_bits[ids[lane]] = bits;
    }
}

using ColourGroup = void (*)(Chunk&, int);
constexpr ColourGroup COLOUR_GROUP[5] = {colour_group<0>, colour_group<1>, colour_group<2>, colour_group<3>, colour_group<4>};

}  // namespace

void project_all(Workspace& w) {
    const Frame& f = w.frame;
    const int64_t chunks = (f.count + CHUNK - 1) / CHUNK;
    w.records.reserve(f.count);
    w.colour_bits.reserve(f.count);
    if (blended_channels(f) > 3) w.depth_normals.reserve(f.count);
    w.first_pair.reserve(f.count + 1);
    w.visible_bits.reserve(chunks * (CHUNK / 64));
    w.chunk_visible.reserve(chunks + 1);
    w.chunk_pairs.reserve(chunks + 1);
    w.order.reserve(f.count);
    w.order_spare.reserve(f.count);

    parallel_for(chunks, 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            Chunk chunk(w, c * CHUNK, std::min(f.count, (c + 1) * CHUNK));
            std::fill_n(w.visible_bits.data() + c * (CHUNK / 64), CHUNK / 64, uint64_t{0});
            for (int64_t first = chunk.begin; first < chunk.end; first += W) project_group(chunk, first);
            for (int start = 0; start < chunk.visible; start += W) COLOUR_GROUP[f.sh_degree](chunk, start);
            for (int i = 0; i < chunk.visible; ++i)
                w.order_spare[chunk.begin + i] = chunk.keys[i] << 32 | chunk.ids[i];
            w.chunk_visible[c] = chunk.visible;
            w.chunk_pairs[c] = chunk.pairs;
        }
    });

    // Counts become offsets.
    int64_t visible = 0, pairs = 0;
    for (int64_t c = 0; c < chunks; ++c) {
        const int64_t v = w.chunk_visible[c], p = w.chunk_pairs[c];
        w.chunk_visible[c] = visible, w.chunk_pairs[c] = pairs;
        visible += v, pairs += p;
    }
    w.chunk_visible[chunks] = w.visible = visible;
    w.chunk_pairs[chunks] = w.pairs = pairs;
    w.first_pair[f.count] = pairs;
    parallel_for(chunks, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            int64_t next = w.chunk_pairs[c];
            for (int64_t i = c * CHUNK; i < std::min(f.count, (c + 1) * CHUNK); ++i) {
                const int64_t touched = w.first_pair[i];
                w.first_pair[i] = next;
                if (touched != 0) w.records[i].first_pair = next;
                next += touched;
            }
            const int64_t to = w.chunk_visible[c], number = w.chunk_visible[c + 1] - to;
            std::copy_n(w.order_spare.data() + c * CHUNK, number, w.order.data() + to);
        }
    });
}

}  // namespace splat
