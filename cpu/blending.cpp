// Stage 3: front-to-back blending, tile by tile.
#include <cstring>

#include "blending.h"
#include "quads.h"
#include "reduce.h"
#include "thread_pool.h"

namespace splat {

namespace {

struct Tile {
    int index, x, y;        // first pixel
    int width, height;      // pixels inside the image
    int64_t begin, end;     // its entries

    Tile(const Workspace& w, int number)
        : index(number), x(number % w.tiles_x * TILE_W), y(number / w.tiles_x * TILE_H), width(std::min(TILE_W, w.frame.width - x)),
          height(std::min(TILE_H, w.frame.height - y)), begin(w.tile_first[number]), end(w.tile_first[number + 1]) {}
};

void prepare(const Workspace& w, const Tile& tile, int64_t begin, int64_t end, Local* batch) {
    prepare(w, tile.begin, begin, end, static_cast<float>(tile.x), static_cast<float>(tile.y), batch);
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

// visit(place in the tile's memory, place in the image, pixels) for each row of each block, with the pixels inside the image.
template <class Visit>
SPLAT_INLINE void visit_rows(const Tile& tile, int image_width, Visit&& visit) {
    for (int y = 0; y < tile.height; ++y)
        for (int x = 0; x < tile.width; x += BLOCK_W) {
            const int block = y / BLOCK_H * BLOCK_COLUMNS + x / BLOCK_W;
            visit(block * W + y % BLOCK_H * BLOCK_W, static_cast<int64_t>(tile.y + y) * image_width + tile.x + x, std::min(BLOCK_W, tile.width - x));
        }
}

static_assert(BLOCK_W == 4, "a row of a block is a Quad");

// ---- forward ----

// The pixels of one block while they are blended. A finished pixel's transmittance is kept with the opposite sign, which no
// later Gaussian can blend onto; pixels outside the image are finished from the start. Nothing branches on a pixel's
// finishing: that happens at every pixel of a solid scene and is never foreseen.
template <int CHANNELS>
struct BlockState {
    VF transmittance;
    VI stop;  // one past the place in the tile's list of the last Gaussian blended
    VF blended[CHANNELS];                // colour; depth, normal; square of the depth
    VF median[CHANNELS > 3 ? 1 : 0];

    bool live() const { return any(gt(transmittance, zero())); }
};
constexpr int LOOK_EVERY = 16;  // Gaussians between looks at which blocks are finished

SPLAT_INLINE VF finished(VF transmittance) { return from_bits(bits(transmittance) | set1(INT32_MIN)); }

// Σ w x / Σ w with Σ w = 1 − left.
SPLAT_INLINE Quad mean(Quad sum, Quad left) {
    Quad out{};
    for (int i = 0; i < BLOCK_W; ++i) out[i] = left[i] < 1.0f ? sum[i] / (1.0f - left[i]) : 0.0f;
    return out;
}

template <int CHANNELS>
void write_pictures(Workspace& w, const Tile& tile, const BlockState<CHANNELS>* states) {
    const Frame& f = w.frame;
    Finals finals(w, tile.index);
    for (int b = 0; b < BLOCKS; ++b) {
        store(finals.transmittance + b * W, abs(states[b].transmittance));
        store(finals.stop + b * W, states[b].stop);
        if constexpr (CHANNELS > 3) store(finals.depth + b * W, states[b].blended[3]);
        if constexpr (CHANNELS > 7) store(finals.square + b * W, states[b].blended[7]);
    }
    const float red = f.background[0], green = f.background[1], blue = f.background[2];
    visit_rows(tile, f.width, [&](int p, int64_t pixel, int n) {
        const BlockState<CHANNELS>& c = states[p / W];
        const auto quad = [&](const VF& plane) { return load_quad(reinterpret_cast<const float*>(&plane) + p % W); };
        const Quad left = load_quad(finals.transmittance + p);
        store_triples(f.rgb + 3 * pixel, quad(c.blended[0]) + left * red, quad(c.blended[1]) + left * green, quad(c.blended[2]) + left * blue, n);
        store_quad(f.alpha + pixel, 1.0f - left, n);
        if constexpr (CHANNELS > 3) {
            if (f.with_depth) {
                store_quad(f.depth + pixel, mean(quad(c.blended[3]), left), n);
                store_quad(f.median_depth + pixel, quad(c.median[0]), n);
            }
            if (f.with_normal) store_triples(f.normal + 3 * pixel, quad(c.blended[4]), quad(c.blended[5]), quad(c.blended[6]), n);
        }
        if constexpr (CHANNELS > 7) store_quad(f.square_depth + pixel, mean(quad(c.blended[7]), left), n);
    });
}

// CHANNELS: 3 for colours, 7 with depth and normals, 8 with the square of the depth.
template <int CHANNELS, bool WEIGHTS>
void blend_tile(Workspace& w, const Tile& tile, Local* batch) {
    constexpr bool LARGE = CHANNELS > 3;
    BlockState<CHANNELS> states[BLOCKS];
    const VI column = iota() & set1(BLOCK_W - 1), row = iota() >> 2;
    std::memset(states, 0, sizeof states);
    uint64_t live = 0;  // blocks with a pixel not finished, as of the last look
    for (int b = 0; b < BLOCKS; ++b) {
        const int right = tile.width - b % BLOCK_COLUMNS * BLOCK_W, below = tile.height - b / BLOCK_COLUMNS * BLOCK_H;
        const VM inside = lt(column, set1(right)) & lt(row, set1(below));
        states[b].transmittance = select(inside, set1(1.0f), set1(-1.0f));
        live |= static_cast<uint64_t>(any(inside)) << b;
    }
    for (int64_t start = tile.begin; start < tile.end && live != 0; start += BATCH) {
        const int n = static_cast<int>(std::min<int64_t>(tile.end - start, BATCH));
        prepare(w, tile, start, start + n, batch);
        for (int i = 0; i < n; ++i) {
            if (i % LOOK_EVERY == LOOK_EVERY - 1)
                for (uint64_t rest = live; rest != 0; rest &= rest - 1)
                    if (!states[__builtin_ctzll(rest)].live()) live &= ~(rest & -rest);
            const Local& g = batch[i];
            const DepthNormal depth_normal = LARGE ? w.depth_normals[g.gaussian] : DepthNormal{};
            const Lanes lanes(g);
            VF total = zero();
            for (uint64_t rest = g.blocks & live; rest != 0; rest &= rest - 1) {
                const int block = __builtin_ctzll(rest);
                BlockState<CHANNELS>& c = states[block];
                const Falloff s = falloff(g, lanes, block);
                const VF before = c.transmittance;
                const VF after = fma(-s.alpha, before, before);
                const VM on = gt(after, set1(TRANSMITTANCE_MIN));  // where it is blended, or does nothing
                const VF weight = keep(on, s.alpha * before);
                for (int k = 0; k < 3; ++k) c.blended[k] = fma(weight, set1(g.colour[k]), c.blended[k]);
                if constexpr (LARGE) {
                    c.blended[3] = fma(weight, set1(depth_normal.depth), c.blended[3]);
                    for (int k = 0; k < 3; ++k) c.blended[4 + k] = fma(weight, set1(depth_normal.normal[k]), c.blended[4 + k]);
                    const VM crosses = on & lt(after, set1(0.5f)) & ge(before, set1(0.5f));
                    c.median[0] = select(crosses, set1(depth_normal.depth), c.median[0]);
                }
                if constexpr (CHANNELS > 7) c.blended[7] = fma(weight, set1(depth_normal.depth * depth_normal.depth), c.blended[7]);
                if (WEIGHTS) total += weight;
                c.transmittance = select(on, after, finished(before));
                c.stop = select(on & s.seen, set1(g.position), c.stop);
            }
            if (WEIGHTS) w.weights[g.pair] = sum(total);
        }
    }
    write_pictures<CHANNELS>(w, tile, states);
}

// ---- backward ----

// What the backward pass keeps of a block's pixels. `behind` is Σ gradient · blended of what lies behind the Gaussian at
// hand, beginning with the background.
template <int CHANNELS>
struct Upstream {
    VF transmittance, behind;
    VI stop;
    VF gradient[CHANNELS];
};

// What the loss wants of each pixel of a tile.
template <int CHANNELS>
void read_gradients(const Workspace& w, const Tile& tile, const Finals& finals, const PictureGradients& in, Upstream<CHANNELS>* up) {
    const Frame& f = w.frame;
    std::memset(up, 0, BLOCKS * sizeof *up);
    for (int b = 0; b < BLOCKS; ++b) {
        up[b].transmittance = load(finals.transmittance + b * W);
        up[b].stop = load(finals.stop + b * W);
    }
    visit_rows(tile, f.width, [&](int p, int64_t pixel, int n) {
        Upstream<CHANNELS>& u = up[p / W];
        const auto put = [&](VF& plane, Quad v) { store_quad(reinterpret_cast<float*>(&plane) + p % W, v); };
        const Quad left = load_quad(finals.transmittance + p);
        Quad rest{};  // ∂L/∂(final transmittance)
        if (in.alpha != nullptr) rest -= load_quad(in.alpha + pixel, n);
        if (in.rgb != nullptr) {
            Quad v[3];
            load_triples(in.rgb + 3 * pixel, n, v);
            for (int c = 0; c < 3; ++c) put(u.gradient[c], v[c]), rest += v[c] * f.background[c];
        }
        // The gradient of Σ w x / Σ w with respect to Σ w x.
        const auto of_mean = [&](const float* wanted, const float* sum) {
            const Quad v = mean(load_quad(wanted + pixel, n), left);
            rest += mean(v * load_quad(sum + p), left);
            return v;
        };
        if constexpr (CHANNELS > 3) {
            if (in.depth != nullptr) put(u.gradient[3], of_mean(in.depth, finals.depth));
            if (in.normal != nullptr) {
                Quad v[3];
                load_triples(in.normal + 3 * pixel, n, v);
                for (int c = 0; c < 3; ++c) put(u.gradient[4 + c], v[c]);
            }
        }
        if constexpr (CHANNELS > 7)
            if (in.square_depth != nullptr) put(u.gradient[7], of_mean(in.square_depth, finals.square));
        put(u.behind, left * rest);
    });
}

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
SPLAT_INLINE void blend_back(const Local& g, const DepthNormal& depth_normal, const Lanes& lanes, int block,
                             Upstream<CHANNELS>& at, VF (&total)[16]) {
    constexpr bool LARGE = CHANNELS > 3, SQUARE = CHANNELS > 7;
    const Falloff s = falloff(g, lanes, block);
    const VF alpha = keep(lt(set1(g.position - 1), at.stop), s.alpha);
    const VF ratio = alpha * reciprocal(1.0f - alpha);
    VF radiance_dot = at.gradient[0] * g.colour[0];  // gradient · this Gaussian's own colour
    for (int c = 1; c < 3; ++c) radiance_dot = fma(at.gradient[c], set1(g.colour[c]), radiance_dot);
    if constexpr (LARGE) {
        radiance_dot = fma(at.gradient[3], set1(depth_normal.depth), radiance_dot);
        for (int c = 0; c < 3; ++c) radiance_dot = fma(at.gradient[4 + c], set1(depth_normal.normal[c]), radiance_dot);
    }
    if constexpr (SQUARE) radiance_dot = fma(at.gradient[7], set1(depth_normal.depth * depth_normal.depth), radiance_dot);
    const VF after = at.transmittance, behind = at.behind;
    const VF weight = ratio * after;
    at.transmittance = after + weight;  // before it
    at.behind = fma(weight, radiance_dot, behind);
    // α ∂L/∂α = α (T·radiance_dot − behind / (1 − α)) with T = after / (1 − α), where α is not clamped
    const VF share = keep(le(s.raw, set1(ALPHA_MAX)), ratio * fma(after, radiance_dot, -behind));
    for (int c = 0; c < 3; ++c) total[SUM_RED + c] = fma(weight, at.gradient[c], total[SUM_RED + c]);
    for (int c = 3; c < CHANNELS; ++c) total[SUM_DEPTH - 3 + c] = fma(weight, at.gradient[c], total[SUM_DEPTH - 3 + c]);
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

template <int CHANNELS, bool ABS>
void blend_tile_backward(Workspace& w, const Tile& tile, const PictureGradients& in, Local* batch) {
    constexpr bool LARGE = CHANNELS > 3;
    constexpr int SUMS = LARGE ? PAIR_FLOATS_LARGE : PAIR_FLOATS_SMALL;
    Finals finals(w, tile.index);
    Upstream<CHANNELS> up[BLOCKS];
    read_gradients(w, tile, finals, in, up);
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
        prepare(w, tile, tile.begin + start, tile.begin + stop, batch);
        for (int32_t position = stop - 1; position >= start; --position) {
            const Local& g = batch[position - start];
            float* out = w.pair_sums.data() + g.pair * SUMS;
            const DepthNormal depth_normal = LARGE ? w.depth_normals[g.gaussian] : DepthNormal{};
            uint64_t live = 0;
            for (int k = 0; k < BLOCKS; k += W)
                live |= static_cast<uint64_t>(to_bitmask(lt(set1(position), load(last_stop + k)))) << k;
            uint64_t rest = g.blocks & live;
            if (rest == 0) {
                std::memset(out, 0, SUMS * sizeof(float));
                continue;
            }
            const Lanes lanes(g);
            VF total[16] = {};
            for (; rest != 0; rest &= rest - 1) {
                const int block = __builtin_ctzll(rest);
                blend_back<CHANNELS, ABS>(g, depth_normal, lanes, block, up[block], total);
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
        Local batch[BATCH];
        for (int64_t t = begin; t < end; ++t) {
            const Tile tile(w, static_cast<int>(t));
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
        Local batch[BATCH];
        for (int64_t t = begin; t < end; ++t) {
            const Tile tile(w, static_cast<int>(t));
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
