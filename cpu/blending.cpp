// Stage 3: front-to-back blending, tile by tile.
#include <cstring>

#include "blending.h"
#include "reduce.h"
#include "thread_pool.h"

namespace splat {

// ---- which blocks of its tile a Gaussian touches ----

constexpr int64_t AHEAD = 24;  // entries ahead at which records are asked for

__attribute__((noinline)) void prepare(const Workspace& w, int64_t begin, int64_t end, float x, float y, Local* batch) {
    VF block_x[BLOCKS / W], block_y[BLOCKS / W];  // first pixel centre of each block
    for (int i = 0; i < BLOCKS / W; ++i) {
        const VI index = iota() + set1(i * W);
        block_x[i] = to_float((index & set1(BLOCK_COLUMNS - 1)) * BLOCK_W) + (x + 0.5f);
        block_y[i] = to_float((index / BLOCK_COLUMNS) * BLOCK_H) + (y + 0.5f);
    }
    const bool relief = blended_channels(w.frame) > 3;
    const int64_t list_end = w.pairs;
    for (int64_t i = begin; i < std::min(begin + AHEAD, end); ++i) __builtin_prefetch(&w.records[w.entries[i].gaussian]);
    for (int64_t i = begin; i < end; ++i) {
        if (i + AHEAD < list_end) __builtin_prefetch(&w.records[w.entries[i + AHEAD].gaussian]);
        const Entry entry = w.entries[i];
        const Record& r = w.records[entry.gaussian];
        Local& g = batch[i - begin];
        const auto& m = r.white;
        g.m11 = m.m11, g.m12 = m.m12, g.m22 = m.m22, g.peak = m.peak;
        for (int c = 0; c < 3; ++c) g.colour[c] = r.colour[c];
        if (relief) g.relief = w.reliefs[entry.gaussian];
        g.pair = r.first_pair + entry.local;

        // Where u² + v² is least over the block's pixel centres, as in binning.cpp, with a little slack for rounding.
        const float limit = (m.peak - LOG2_ALPHA_MIN) * 1.0001f + 1e-4f;
        const float slope_x = -m.m12 / m.m11, slope_y = -m.m11 * m.m12 / (m.m12 * m.m12 + m.m22 * m.m22);
        g.blocks = 0;
        for (int k = 0; k < BLOCKS / W; ++k) {
            const VF x0 = block_x[k] - r.x, y0 = block_y[k] - r.y;
            const VF x1 = x0 + (BLOCK_W - 1.0f), y1 = y0 + (BLOCK_H - 1.0f);
            const VF dx = max(min(zero(), x1), x0), dy = max(min(zero(), y1), y0);
            const VF best_y = max(min(slope_y * dx, y1), y0), best_x = max(min(slope_x * dy, x1), x0);
            const VF u1 = m.m11 * dx + m.m12 * best_y, v1 = m.m22 * best_y;
            const VF u2 = m.m11 * best_x + m.m12 * dy, v2 = m.m22 * dy;
            const VM touched = le(min(u1 * u1 + v1 * v1, u2 * u2 + v2 * v2), set1(limit));
            g.blocks |= static_cast<uint64_t>(to_bitmask(touched)) << (k * W);
            store(g.du + k * W, m.m11 * x0 + m.m12 * y0);
        }
        for (int row = 0; row < BLOCK_ROWS; ++row) g.dv[row] = m.m22 * (y + 0.5f + row * BLOCK_H - r.y);
    }
}

namespace {

struct Tile {
    int index, x, y;        // first pixel
    int width, height;      // pixels inside the image
    int64_t begin, end;     // its entries
};

Tile find_tile(const Workspace& w, int index) {
    const int x = index % w.tiles_x * TILE, y = index / w.tiles_x * TILE;
    return {index, x, y, std::min(TILE, w.frame.width - x), std::min(TILE, w.frame.height - y), w.tile_first[index],
            w.tile_first[index + 1]};
}

// Place of a tile's pixel in its block-by-block order.
constexpr int place(int x, int y) {
    return (y / BLOCK_H * BLOCK_COLUMNS + x / BLOCK_W) * W + y % BLOCK_H * BLOCK_W + x % BLOCK_W;
}

// What the forward pass leaves for the backward pass at each pixel of a tile.
struct Finals {
    float* transmittance;
    int32_t* stop;  // one past the last Gaussian blended
    float* depth;   // Σ w z; null without depth and normals
    float* square;  // Σ w z²; null unless asked for

    Finals(Workspace& w, int tile) {
        const int planes = final_planes(w.frame);
        transmittance = w.finals.data() + static_cast<int64_t>(tile) * planes * PIXELS;
        stop = reinterpret_cast<int32_t*>(transmittance + PIXELS);
        depth = planes > 2 ? transmittance + 2 * PIXELS : nullptr;
        square = planes > 3 ? transmittance + 3 * PIXELS : nullptr;
    }
};

// visit(place in the tile, place in the image) for each pixel inside the image. Four neighbours share a row of a block;
// whole groups of them are a loop of known length, which compilers make vectors of.
template <class Visit>
SPLAT_INLINE void visit_pixels(const Tile& tile, int image_width, Visit&& visit) {
    for (int y = 0; y < tile.height; ++y) {
        const int64_t row = static_cast<int64_t>(tile.y + y) * image_width + tile.x;
        for (int x = 0; x < tile.width; x += BLOCK_W) {
            const int p = place(x, y);
            if (x + BLOCK_W <= tile.width)
                for (int k = 0; k < BLOCK_W; ++k) visit(p + k, row + x + k);
            else
                for (int k = 0; k < tile.width - x; ++k) visit(p + k, row + x + k);
        }
    }
}

// ---- forward ----

// A pixel's state while it is blended. A finished pixel's transmittance is kept with the opposite sign, which no later
// Gaussian can blend onto; pixels outside the image are finished from the start. Nothing branches on a pixel's finishing:
// that happens at every pixel of a solid scene and is never foreseen.
struct Canvas {
    alignas(64) float transmittance[PIXELS];
    alignas(64) int32_t stop[PIXELS] = {};  // one past the place in the tile's list of the last Gaussian blended
    uint64_t live;                          // blocks with a pixel not finished, as of the last look

    explicit Canvas(const Tile& tile) {
        const bool whole = tile.width == TILE && tile.height == TILE;
        std::fill_n(transmittance, PIXELS, whole ? 1.0f : -1.0f);
        for (int y = 0; y < tile.height && !whole; ++y)
            for (int x = 0; x < tile.width; ++x) transmittance[place(x, y)] = 1.0f;
        look();
    }

    void look() {
        live = 0;
        for (int b = 0; b < BLOCKS; ++b) live |= static_cast<uint64_t>(any(gt(load(transmittance + b * W), zero()))) << b;
    }
};
constexpr int LOOK_EVERY = 16;  // Gaussians between looks

SPLAT_INLINE VF finished(VF transmittance) { return from_bits(bits(transmittance) | set1(INT32_MIN)); }

// p[lane] = value where m
SPLAT_INLINE void store_where(VM m, int32_t* p, VI value) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_epi32(p, m.k, (__m512i)value);
#else
    store(p, select(m, value, load(p)));
#endif
}

// CHANNELS: 3 for colours, 7 with depth and normals, 8 with the square of the depth.
template <int CHANNELS, bool WEIGHTS>
void blend_tile(Workspace& w, const Tile& tile, Local* batch) {
    constexpr bool LARGE = CHANNELS > 3, SQUARE = CHANNELS > 7;
    const Frame& f = w.frame;
    const Lanes offset = lanes();
    Canvas canvas(tile);
    alignas(64) float blended[CHANNELS][PIXELS] = {};
    alignas(64) float median[LARGE ? PIXELS : W] = {};

    for (int64_t start = tile.begin; start < tile.end && canvas.live != 0; start += BATCH) {
        const int64_t stop = std::min(tile.end, start + BATCH);
        prepare(w, start, stop, static_cast<float>(tile.x), static_cast<float>(tile.y), batch);
        for (int i = 0; i < stop - start; ++i) {
            if (i % LOOK_EVERY == LOOK_EVERY - 1) canvas.look();
            const Local& g = batch[i];
            const VI position = set1(static_cast<int>(start - tile.begin) + i + 1);
            const VF lane_u = fma(set1(g.m11), offset.x, g.m12 * offset.y), lane_v = g.m22 * offset.y;
            VF total = zero();
            for (uint64_t blocks = g.blocks & canvas.live; blocks != 0; blocks &= blocks - 1) {
                const int block = __builtin_ctzll(blocks), at = block * W;
                const Falloff s = falloff(g, lane_u, lane_v, block);
                const VF before = load(canvas.transmittance + at);
                const VF after = fma(-s.alpha, before, before);
                const VM on = gt(after, set1(TRANSMITTANCE_MIN));  // where it is blended, or does nothing
                const VF weight = keep(on, s.alpha * before);
                for (int c = 0; c < 3; ++c) store(blended[c] + at, fma(weight, set1(g.colour[c]), load(blended[c] + at)));
                if (LARGE) {
                    store(blended[3 % CHANNELS] + at, fma(weight, set1(g.relief.depth), load(blended[3 % CHANNELS] + at)));
                    for (int c = 0; c < 3; ++c) {
                        float* normal = blended[(4 + c) % CHANNELS] + at;
                        store(normal, fma(weight, set1(g.relief.normal[c]), load(normal)));
                    }
                    if (SQUARE) {
                        float* square = blended[7 % CHANNELS] + at;
                        store(square, fma(weight, set1(g.relief.depth * g.relief.depth), load(square)));
                    }
                    const VM crosses = on & lt(after, set1(0.5f)) & ge(before, set1(0.5f));
                    store(median + at, select(crosses, set1(g.relief.depth), load(median + at)));
                }
                if (WEIGHTS) total += weight;
                store(canvas.transmittance + at, select(on, after, finished(before)));
                store_where(on & s.seen, canvas.stop + at, position);
            }
            if (WEIGHTS) w.weights[g.pair] = sum(total);
        }
    }

    Finals finals(w, tile.index);
    for (int p = 0; p < PIXELS; p += W) store(finals.transmittance + p, abs(load(canvas.transmittance + p)));
    std::memcpy(finals.stop, canvas.stop, sizeof canvas.stop);
    if (LARGE) std::memcpy(finals.depth, blended[3 % CHANNELS], sizeof blended[0]);
    if (SQUARE) std::memcpy(finals.square, blended[7 % CHANNELS], sizeof blended[0]);
    const float red = f.background[0], green = f.background[1], blue = f.background[2];
    float *rgb = f.rgb, *alpha = f.alpha;
    visit_pixels(tile, f.width, [&](int p, int64_t pixel) {
        const float left = finals.transmittance[p];
        rgb[3 * pixel] = blended[0][p] + left * red;
        rgb[3 * pixel + 1] = blended[1][p] + left * green;
        rgb[3 * pixel + 2] = blended[2][p] + left * blue;
        alpha[pixel] = 1.0f - left;
        if (LARGE && f.with_depth) {
            f.depth[pixel] = left < 1.0f ? blended[3 % CHANNELS][p] / (1.0f - left) : 0.0f;
            f.median_depth[pixel] = median[LARGE ? p : 0];
        }
        if (LARGE && f.with_normal)
            for (int c = 0; c < 3; ++c) f.normal[3 * pixel + c] = blended[(4 + c) % CHANNELS][p];
        if (SQUARE) f.square_depth[pixel] = left < 1.0f ? blended[7 % CHANNELS][p] / (1.0f - left) : 0.0f;
    });
}

// ---- backward ----

// What the loss wants of each pixel, and what lies behind the Gaussian at hand: Σ gradient · blended, beginning with the
// background.
template <int CHANNELS>
struct Upstream {
    alignas(64) float gradient[CHANNELS][PIXELS] = {};
    alignas(64) float behind[PIXELS] = {};

    Upstream(const Workspace& w, const Tile& tile, const Finals& finals, const PictureGradients& in) {
        const Frame& f = w.frame;
        alignas(64) float rest[PIXELS] = {};  // ∂L/∂(final transmittance)
        if (in.alpha != nullptr) visit_pixels(tile, f.width, [&](int p, int64_t pixel) { rest[p] = -in.alpha[pixel]; });
        if (in.rgb != nullptr)
            visit_pixels(tile, f.width, [&](int p, int64_t pixel) {
                for (int c = 0; c < 3; ++c) gradient[c][p] = in.rgb[3 * pixel + c];
            });
        if (CHANNELS > 3 && in.depth != nullptr)
            visit_pixels(tile, f.width, [&](int p, int64_t pixel) {
                // depth = Σ w z / Σ w, Σ w = 1 − left
                const float total = 1.0f - finals.transmittance[p];
                if (total <= 0.0f) return;
                gradient[3 % CHANNELS][p] = in.depth[pixel] / total;
                rest[p] += gradient[3 % CHANNELS][p] * finals.depth[p] / total;
            });
        if (CHANNELS > 3 && in.normal != nullptr)
            visit_pixels(tile, f.width, [&](int p, int64_t pixel) {
                for (int c = 0; c < 3; ++c) gradient[(4 + c) % CHANNELS][p] = in.normal[3 * pixel + c];
            });
        if (CHANNELS > 7 && in.square_depth != nullptr)
            visit_pixels(tile, f.width, [&](int p, int64_t pixel) {
                const float total = 1.0f - finals.transmittance[p];
                if (total <= 0.0f) return;
                gradient[7 % CHANNELS][p] = in.square_depth[pixel] / total;
                rest[p] += gradient[7 % CHANNELS][p] * finals.square[p] / total;
            });
        for (int p = 0; p < PIXELS; p += W) {
            VF sum = load(rest + p);
            for (int c = 0; c < 3; ++c) sum = fma(load(gradient[c] + p), set1(f.background[c]), sum);
            store(behind + p, load(finals.transmittance + p) * sum);
        }
    }
};

// 1 / x for x in [0.01, 1], relative error below 2e-7.
SPLAT_INLINE VF reciprocal(VF x) {
#if defined(__AVX512F__)
    const VF r = (VF)_mm512_rcp14_ps((__m512)x);
    return fma(fma(-x, r, set1(1.0f)), r, r);
#elif defined(__AVX2__)
    const VF r = (VF)_mm256_rcp_ps((__m256)x);
    return fma(fma(-x, r, set1(1.0f)), r, r);
#else
    return 1.0f / x;
#endif
}

// Back to front: transmittance is divided by 1 − α on the way, and `behind` only ever adds up. (Front to back with
// behind = final − blended so far needs no stop places, but loses what is behind a nearly opaque pixel to rounding.)
template <int CHANNELS, bool ABS>
void blend_tile_backward(Workspace& w, const Tile& tile, const PictureGradients& in, Local* batch) {
    constexpr int SUMS = CHANNELS > 3 ? PAIR_FLOATS_LARGE : PAIR_FLOATS_SMALL;
    const Lanes offset = lanes();
    Finals finals(w, tile.index);
    Upstream<CHANNELS> up(w, tile, finals, in);
    alignas(64) float transmittance[PIXELS];
    std::memcpy(transmittance, finals.transmittance, sizeof transmittance);
    alignas(64) int32_t last_stop[BLOCKS];  // no pixel of the block looks at the list from here on
    int32_t length = 0;
    for (int b = 0; b < BLOCKS; ++b) {
        last_stop[b] = *std::max_element(finals.stop + b * W, finals.stop + (b + 1) * W);
        length = std::max(length, last_stop[b]);
    }
    length = static_cast<int32_t>(std::min<int64_t>(length, tile.end - tile.begin));
    for (int64_t i = tile.begin + length; i < tile.end; ++i) {
        const Entry e = w.entries[i];
        std::memset(w.pair_sums.data() + (w.first_pair[e.gaussian] + e.local) * SUMS, 0, SUMS * sizeof(float));
    }

    for (int32_t start = (length - 1) / BATCH * BATCH; start >= 0; start -= BATCH) {
        const int32_t stop = std::min(length, start + BATCH);
        prepare(w, tile.begin + start, tile.begin + stop, static_cast<float>(tile.x), static_cast<float>(tile.y), batch);
        for (int32_t position = stop - 1; position >= start; --position) {
            const Local& g = batch[position - start];
            float* out = w.pair_sums.data() + g.pair * SUMS;
            uint64_t live = 0;
            for (int k = 0; k < BLOCKS; k += W)
                live |= static_cast<uint64_t>(to_bitmask(lt(set1(position), load(last_stop + k)))) << k;
            uint64_t blocks = g.blocks & live;
            if (blocks == 0) {
                std::memset(out, 0, SUMS * sizeof(float));
                continue;
            }
            const VF lane_u = fma(set1(g.m11), offset.x, g.m12 * offset.y), lane_v = g.m22 * offset.y;
            VF total[16] = {};
            for (; blocks != 0; blocks &= blocks - 1) {
                const int block = __builtin_ctzll(blocks), at = block * W;
                Falloff s = falloff(g, lane_u, lane_v, block);
                const VM on = lt(set1(position), load(finals.stop + at));
                const VF alpha = keep(on, s.alpha);
                const VF inverse = reciprocal(1.0f - alpha);
                const VF before = load(transmittance + at) * inverse;
                store(transmittance + at, before);
                const VF weight = alpha * before;

                VF shine = zero();  // gradient · this Gaussian's own colour
                for (int c = 0; c < CHANNELS; ++c) {
                    const VF gradient = load(up.gradient[c] + at);
                    const float own = c < 3    ? g.colour[c % 3]
                                      : c == 3 ? g.relief.depth
                                      : c < 7  ? g.relief.normal[(c + 2) % 3]
                                               : g.relief.depth * g.relief.depth;
                    shine = fma(gradient, set1(own), shine);
                    const int slot = c < 3 ? SUM_RED + c : SUM_DEPTH + c - 3;
                    total[slot % 16] = fma(weight, gradient, total[slot % 16]);
                }
                const VF behind = load(up.behind + at);
                store(up.behind + at, fma(weight, shine, behind));
                // α ∂L/∂α = α (T·shine − behind / (1 − α)), where α is not clamped
                const VF raise = fma(before, shine, -(behind * inverse));
                const VF share = keep(le(s.raw, set1(ALPHA_MAX)), alpha * raise);
                const VF share_u = share * s.u, share_v = share * s.v;
                total[SUM_S] += share;
                total[SUM_U] += share_u;
                total[SUM_V] += share_v;
                total[SUM_UU] = fma(share_u, s.u, total[SUM_UU]);
                total[SUM_UV] = fma(share_u, s.v, total[SUM_UV]);
                total[SUM_VV] = fma(share_v, s.v, total[SUM_VV]);
                if (ABS) {
                    total[SUM_ABS_X] += abs(share_u);
                    total[SUM_ABS_Y] += abs(fma(set1(g.m12), share_u, g.m22 * share_v));
                }
            }
            sums<SUMS>(total, out);
        }
    }
}

}  // namespace

void blend(Workspace& w) {
    const Frame& f = w.frame;
    const int tiles = w.tiles_x * w.tiles_y;
    const int channels = blended_channels(f);
    w.finals.reserve(static_cast<int64_t>(tiles) * final_planes(f) * PIXELS);
    if (f.with_weights) {
        float* weights = w.weights.reserve(w.pairs);
        parallel_for(w.pairs, 1 << 16, [&](int64_t begin, int64_t end, int) { std::fill(weights + begin, weights + end, 0.0f); });
    }
    parallel_for(tiles, 1, [&](int64_t begin, int64_t end, int) {
        alignas(64) Local batch[BATCH];
        for (int64_t t = begin; t < end; ++t) {
            const Tile tile = find_tile(w, static_cast<int>(t));
            if (channels > 7) f.with_weights ? blend_tile<8, true>(w, tile, batch) : blend_tile<8, false>(w, tile, batch);
            else if (channels > 3) f.with_weights ? blend_tile<7, true>(w, tile, batch) : blend_tile<7, false>(w, tile, batch);
            else f.with_weights ? blend_tile<3, true>(w, tile, batch) : blend_tile<3, false>(w, tile, batch);
        }
    });
    if (f.with_weights)
        parallel_for(f.count, 1 << 14, [&](int64_t begin, int64_t end, int) {
            for (int64_t g = begin; g < end; ++g) {
                float total = 0.0f;
                for (int64_t p = w.first_pair[g]; p < w.first_pair[g + 1]; ++p) total += w.weights[p];
                f.weights[g] = total;
            }
        });
}

void blend_backward(Workspace& w, const PictureGradients& in, bool with_abs) {
    const int tiles = w.tiles_x * w.tiles_y;
    const int channels = blended_channels(w.frame);
    w.pair_sums.reserve(w.pairs * pair_floats(w.frame));
    parallel_for(tiles, 1, [&](int64_t begin, int64_t end, int) {
        alignas(64) Local batch[BATCH];
        for (int64_t t = begin; t < end; ++t) {
            const Tile tile = find_tile(w, static_cast<int>(t));
            if (channels > 7)
                with_abs ? blend_tile_backward<8, true>(w, tile, in, batch) : blend_tile_backward<8, false>(w, tile, in, batch);
            else if (channels > 3)
                with_abs ? blend_tile_backward<7, true>(w, tile, in, batch) : blend_tile_backward<7, false>(w, tile, in, batch);
            else
                with_abs ? blend_tile_backward<3, true>(w, tile, in, batch) : blend_tile_backward<3, false>(w, tile, in, batch);
        }
    });
}

}  // namespace splat
