// From lists of Gaussians to pixels: one block per tile, one thread per pixel, front to back.
//
// The list is walked in chunks of 256. For the backward pass, each pixel leaves its state (transmittance, sums so far)
// before every chunk but the first, and its final state.
#include "chunks.h"

namespace splat {

// Fixed-point unit of the blending weights, which a block adds up as integers: exact and in any order. 256 weights of at
// most 1 fit.
constexpr float WEIGHT_UNIT = 8388608.0f;

// Pictures, depth, median, normal and square of the depth null where not asked for; weights (N), added to, or null.
struct Pictures {
    float *rgb, *alpha, *depth, *median, *normal, *weights, *square;
};

constexpr float NEVER = 3e38f;  // no entry's log₂ α is that much

template <int FEATURES>
SPLAT_FN void blend(const Lists& lists, const Splats& splats, const Screen& screen, const Pictures& out, const Kept& kept) {
    SHARED(float4, near_a, CHUNK);
    SHARED(float4, near_b, CHUNK);
    SHARED(float4, near_feature, CHUNK);
    SHARED(float4, near_normal, FEATURES > 4 ? CHUNK : 1);
    SHARED(unsigned, near_weight, CHUNK);

    const int tile = blockIdx.x, t = threadIdx.x, lane = t % WARP;
    const Pixel pixel = pixel_of(tile, t, screen);
    const int2 range = lists.ranges[tile];
    const int first_chunk = lists.chunk_ends[tile] - chunks_of(range);

    float transmittance = 1.0f, sums[FEATURES] = {}, median = 0.0f;
    int last = 0;  // entries up to the last one that was blended
    float threshold = pixel.inside ? LOG2_ALPHA_MIN : NEVER;  // of log₂ α; NEVER once the pixel is opaque
    for (int chunk = 0, begin = range.x; begin < range.y; ++chunk, begin += CHUNK) {
        if (__syncthreads_count(threshold == NEVER) == TILE_PIXELS) break;  // also: everybody has finished with the last chunk
        const int slot = first_chunk + chunk, count = lower(CHUNK, range.y - begin);
        if (kept.chunk_tiles) {
            if (t == 0) kept.chunk_tiles[slot] = tile;
            if (chunk > 0) keep_state<FEATURES>(kept.states, state_of(slot, tile), t, transmittance, sums);
        }
        load_chunk<FEATURES>(lists, splats, tile, screen, begin, count, near_a, near_b, near_feature, near_normal);
        near_weight[t] = 0u;
        __syncthreads();

        for (int group = 0; group * WARP < count; ++group) {
            if (__all_sync(ALL_LANES, threshold == NEVER)) break;
            // From the highest bit, which is found the fastest, to the lowest.
            for (unsigned left = __brev(entries_reaching(near_b, group, count)); left != 0u;) {
                const int bit = __clz(static_cast<int>(left)), j = group * WARP + bit;
                left ^= 0x80000000u >> bit;
                float u, v, weight = 0.0f;
                const float4 a = near_a[j], b = near_b[j];
                const float power = log2_alpha(a, b, pixel.x, pixel.y, u, v);
                if (power >= threshold) {
                    const float share = min(fast_exp2(power), ALPHA_MAX) * transmittance, next = transmittance - share;
                    if (next <= TRANSMITTANCE_MIN) {
                        threshold = NEVER;
                    } else {
                        weight = share;
                        const float4 feature = near_feature[j];
                        sums[0] += weight * feature.x;
                        sums[1] += weight * feature.y;
                        sums[2] += weight * feature.z;
                        if constexpr (FEATURES > 4) {
                            const float4 normal = near_normal[j];
                            sums[3] += weight * feature.w;
                            sums[4] += weight * normal.x;
                            sums[5] += weight * normal.y;
                            sums[6] += weight * normal.z;
                            if constexpr (FEATURES > 7) sums[7] += weight * normal.w;
                            if (transmittance >= 0.5f && next < 0.5f) median = feature.w;
                        }
                        transmittance = next;
                        last = begin - range.x + j + 1;
                    }
                }
                if (out.weights && __any_sync(ALL_LANES, weight > 0.0f)) {
                    const unsigned sum = warp_sum(static_cast<unsigned>(weight * WEIGHT_UNIT + 0.5f));
                    if (lane == 0) atomicAdd(&near_weight[j], sum);
                }
            }
        }
        if (!out.weights) continue;
        __syncthreads();
        const unsigned total = near_weight[t];
        if (total > 0u) atomicAdd(out.weights + lists.ids[begin + t], static_cast<float>(total) * (1.0f / WEIGHT_UNIT));
    }
    if (!pixel.inside) return;

    const int p = pixel.index;
    const float opaque = 1.0f - transmittance;
    for (int c = 0; c < 3; ++c) out.rgb[3 * p + c] = sums[c] + transmittance * screen.background[c];
    out.alpha[p] = opaque;
    if constexpr (FEATURES > 4) {
        if (out.depth) out.depth[p] = last > 0 ? sums[3] / opaque : 0.0f;
        if (out.median) out.median[p] = median;
        if (out.normal)
            for (int c = 0; c < 3; ++c) out.normal[3 * p + c] = sums[4 + c];
        if constexpr (FEATURES > 7) out.square[p] = last > 0 ? sums[7] / opaque : 0.0f;
    }
    if (kept.chunk_tiles) {
        kept.last[p] = last;
        keep_final<FEATURES>(kept.finals, p, transmittance, sums);
    }
}

}  // namespace splat

#if WANTED(blend_rgb)
KERNEL(splat::TILE_PIXELS) blend_rgb(splat::Lists lists, splat::Splats splats, splat::Screen screen, splat::Pictures out, splat::Kept kept) {
    splat::blend<3>(lists, splats, screen, out, kept);
}
#endif

#if WANTED(blend_all)
KERNEL(splat::TILE_PIXELS) blend_all(splat::Lists lists, splat::Splats splats, splat::Screen screen, splat::Pictures out, splat::Kept kept) {
    splat::blend<7>(lists, splats, screen, out, kept);
}
#endif

#if WANTED(blend_square)
KERNEL(splat::TILE_PIXELS) blend_square(splat::Lists lists, splat::Splats splats, splat::Screen screen, splat::Pictures out, splat::Kept kept) {
    splat::blend<8>(lists, splats, screen, out, kept);
}
#endif
