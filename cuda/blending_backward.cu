// Gradients of blending, per Gaussian instead of per pixel (Mallick et al., Taming 3DGS, 2024, §4): one lane owns one
// Gaussian and adds up its gradients in registers while the pixels of the tile stream by.
//
// A block of 256 threads takes one chunk of 256 list entries of one tile, in two phases. First, thread = pixel: from the
// state kept before the chunk, the forward pass is repeated, and the state after every 32nd entry goes to shared memory.
// Then, warp = 32 entries, lane = one of them: from the last lane to the first, each pixel passes one lane per step and
// takes its state (T, R) along. So states are kept in global memory once per 256 entries and not per 32.
//
// With w = αT and the upstream gradients g of colour, depth and normal, a pixel's loss changes by Σ wᵢ vᵢ + T_final β, where
// vᵢ = g·featuresᵢ. Hence ∂L/∂αᵢ = Tᵢ vᵢ − Rᵢ / (1 − αᵢ), with Rᵢ = Σ_{j>i} wⱼ vⱼ + T_final β: what is behind. R is summed
// up from the back, as differences of sums from the front would lose the digits of what lies deep.
//
// Shared memory decides how many blocks share a multiprocessor: for RGB it is kept below 32 KB, so that there are three on
// sm_86, 89 and 120 (100 KB) and two on sm_75 (64 KB).
#include "chunks.h"

namespace splat {


// Gradients of the pictures, null where there are none.
struct Upstream {
    const float *rgb, *alpha, *depth, *normal, *square;
};

// One pixel's upstream gradient per unit of blending weight and feature (RGB, depth, normal, depth squared), and R behind all entries.
template <int FEATURES>
SPLAT_FN float pixel_gradient(const Upstream& from, const Screen& screen, const float* final, int p, float g[FEATURES]) {
    float beta = from.alpha ? -from.alpha[p] : 0.0f;
    for (int c = 0; c < 3; ++c) {
        g[c] = from.rgb ? from.rgb[3 * p + c] : 0.0f;
        beta += screen.background[c] * g[c];
    }
    if constexpr (FEATURES > 4) {
        const float opaque = 1.0f - final[0];
        g[3] = from.depth && opaque > 0.0f ? from.depth[p] / opaque : 0.0f;
        beta += opaque > 0.0f ? g[3] * final[4] / opaque : 0.0f;
        for (int c = 0; c < 3; ++c) g[4 + c] = from.normal ? from.normal[3 * p + c] : 0.0f;
        if constexpr (FEATURES > 7) {
            g[7] = from.square && opaque > 0.0f ? from.square[p] / opaque : 0.0f;
            beta += opaque > 0.0f ? g[7] * final[8] / opaque : 0.0f;
        }
    }
    return final[0] * beta;
}

template <int FEATURES>
SPLAT_FN float dot(const float g[FEATURES], const float features[FEATURES]) {
    float sum = 0.0f;
    for (int c = 0; c < FEATURES; ++c) sum += g[c] * features[c];
    return sum;
}

// Features of entry `j` out of shared memory.
template <int FEATURES, class Colours, class Normals>
SPLAT_FN void load_features(Colours& near_feature, Normals& near_normal, int j, float features[FEATURES]) {
    const float4 first = near_feature[j];
    features[0] = first.x, features[1] = first.y, features[2] = first.z;
    if constexpr (FEATURES > 4) {
        const float4 normal = near_normal[j];
        features[3] = first.w;
        features[4] = normal.x, features[5] = normal.y, features[6] = normal.z;
        if constexpr (FEATURES > 7) features[7] = normal.w;
    }
}

// Sums 12 (or 16) values over the lanes of a warp, halving the values at every step: afterwards a lane holds the sum of value
// `summed_value(lane)`.
template <int N>
SPLAT_FN float sum_values(float v[N], int lane) {
    if constexpr (N == 16) {
#pragma unroll
        for (int half = 8, bit = 16; half >= 1; half /= 2, bit /= 2) {
            const bool up = lane & bit;
#pragma unroll
            for (int k = 0; k < half; ++k) {
                const float send = up ? v[k] : v[k + half], keep = up ? v[k + half] : v[k];
                v[k] = keep + __shfl_xor_sync(ALL_LANES, send, bit);
            }
        }
        return v[0] + __shfl_xor_sync(ALL_LANES, v[0], 1);
    } else {
        static_assert(N == 12);
        bool up = lane & 16;
#pragma unroll
        for (int k = 0; k < 6; ++k) {
            const float send = up ? v[k] : v[k + 6], keep = up ? v[k + 6] : v[k];
            v[k] = keep + __shfl_xor_sync(ALL_LANES, send, 16);
        }
        up = lane & 8;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const float send = up ? v[k] : v[k + 3], keep = up ? v[k + 3] : v[k];
            v[k] = keep + __shfl_xor_sync(ALL_LANES, send, 8);
        }
        up = lane & 4;
        {
            const float send = up ? v[0] : v[2], keep = up ? v[2] : v[0];
            v[0] = keep + __shfl_xor_sync(ALL_LANES, send, 4);
            v[1] += __shfl_xor_sync(ALL_LANES, v[1], 4);
        }
        up = lane & 2;
        const float send = up ? v[0] : v[1], keep = up ? v[1] : v[0];
        const float sum = keep + __shfl_xor_sync(ALL_LANES, send, 2);
        return sum + __shfl_xor_sync(ALL_LANES, sum, 1);
    }
}
// Which value a lane ends up with, -1 for a copy of another lane's.
template <int N>
SPLAT_FN int summed_value(int lane) {
    if (lane & 1) return -1;
    if constexpr (N == 16) return lane >> 1;
    const int pair = lane >> 1, b4 = pair >> 3, b3 = pair >> 2 & 1, b2 = pair >> 1 & 1, b1 = pair & 1;
    if (b1 && b2) return -1;
    return 6 * b4 + 3 * b3 + (b1 ? 1 : 2 * b2);
}

template <int FEATURES>
SPLAT_FN void blend_backward(const Lists& lists, const Splats& splats, const Screen& screen, const Upstream& from, const Kept& kept, float* sums) {
    SHARED(float4, near_a, CHUNK);
    SHARED(float4, near_b, CHUNK);
    SHARED(float4, near_feature, CHUNK);
    SHARED(float4, near_normal, FEATURES > 4 ? CHUNK : 1);
    SHARED(int, near_id, CHUNK);
    constexpr int VALUES = FEATURES > 3 ? 16 : 12;

    const int slot = blockIdx.x, t = threadIdx.x, lane = t % WARP;
    const int tile = kept.chunk_tiles[slot];
    if (tile < 0) return;
    const int2 range = lists.ranges[tile];
    const int chunk = slot - (lists.chunk_ends[tile] - chunks_of(range));
    const int begin = range.x + chunk * CHUNK, count = lower(CHUNK, range.y - begin);

    const Pixel pixel = pixel_of(tile, t, screen);
    const int whole_last = pixel.inside ? kept.last[pixel.index] : 0;
    const int last = upper(0, lower(count, whole_last - chunk * CHUNK));
    if (!__syncthreads_or(last > 0)) return;
    if (t < count) {
        const int id = lists.ids[begin + t];
        near_id[t] = id;
        near_a[t] = splats.splats[2 * id];
        near_b[t] = splats.splats[2 * id + 1];
        near_feature[t] = splats.features[id];
        if constexpr (FEATURES > 4) near_normal[t] = splats.normals[id];
    }
    __syncthreads();
    int farthest = last;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    farthest = __reduce_max_sync(ALL_LANES, last);
#else
    for (int step = WARP / 2; step > 0; step /= 2) farthest = upper(farthest, __shfl_xor_sync(ALL_LANES, farthest, step));
#endif
    if (farthest == 0) return;  // no barrier follows

    float g[FEATURES] = {}, transmittance = 1.0f, behind = 0.0f;
    if (last > 0) {
        const float* final = kept.finals + static_cast<i64>(pixel.index) * (FEATURES + 1);
        behind = pixel_gradient<FEATURES>(from, screen, final, pixel.index, g);
        transmittance = final[0];
        if (whole_last > (chunk + 1) * CHUNK) {  // the pixel goes on behind this chunk
            const float* after = kept.states + static_cast<i64>(state_of(slot + 1, tile)) * (FEATURES + 1) * TILE_PIXELS + t;
            transmittance = after[0];
            for (int c = 0; c < FEATURES; ++c) behind += g[c] * (final[c + 1] - after[(c + 1) * TILE_PIXELS]);
        }
    }
    const float first_x = static_cast<float>(tile % screen.columns * TILE + column_in_tile(t - lane)) + 0.5f;
    const float first_y = static_cast<float>(tile / screen.columns * TILE + row_in_tile(t - lane)) + 0.5f;
    const int value_index = summed_value<VALUES>(lane);
    float* const target = sums + value_index;

    for (int group = (farthest - 1) / WARP * WARP; group >= 0; group -= WARP) {
        const int own_entry = group + lane;
        unsigned mask = __ballot_sync(ALL_LANES, own_entry < farthest && may_reach(near_a[own_entry], near_b[own_entry], first_x, first_y));
        while (mask != 0u) {
            const int bit = 31 - __clz(static_cast<int>(mask)), j = group + bit;
            mask ^= 1u << bit;
            const float4 a = near_a[j], b = near_b[j];
            float u, v;
            const float power = log2_alpha(pixel.x, pixel.y, a.x, a.y, a.z, a.w, b.x, b.y, u, v);
            const bool valid = j < last && power >= LOG2_ALPHA_MIN;
            if (!__any_sync(ALL_LANES, valid)) continue;
            const float own = valid ? fast_exp2(power) : 0.0f, alpha = min(own, ALPHA_MAX);
            const float inverse = fast_reciprocal(1.0f - alpha);
            transmittance *= inverse;
            const float weight = alpha * transmittance;
            float features[FEATURES], total[VALUES] = {};
            load_features<FEATURES>(near_feature, near_normal, j, features);
            for (int c = 0; c < FEATURES; ++c) total[RED + c] = weight * g[c];
            const float value = dot<FEATURES>(g, features);
            const float to_alpha = transmittance * value - behind * inverse;
            behind += weight * value;
            const float s = own > ALPHA_MAX ? 0.0f : own * to_alpha, su = s * u, sv = s * v;
            total[S] = s, total[SU] = su, total[SV] = sv;
            total[SUU] = su * u, total[SUV] = su * v, total[SVV] = sv * v;
            total[ABS_X] = fabsf(2.0f * LN_2 * a.z * su);
            total[ABS_Y] = fabsf(2.0f * LN_2 * (a.w * su + b.x * sv));
            const float sum = sum_values<VALUES>(total, lane);
            if (value_index >= 0 && value_index < SQUARE + 1 && sum != 0.0f) atomicAdd(target + static_cast<i64>(near_id[j]) * SUMS, sum);
        }
    }
}

}  // namespace splat

#define BLEND_BACKWARD(NAME, FEATURES)                                                                                    \
    KERNEL(splat::TILE_PIXELS) NAME(splat::Lists lists, splat::Splats splats, splat::Screen screen, splat::Upstream from, \
                                    splat::Kept kept, float* sums) {                                                      \
        splat::blend_backward<FEATURES>(lists, splats, screen, from, kept, sums);                                         \
    }

BLEND_BACKWARD(blend_backward_rgb, 3)
BLEND_BACKWARD(blend_backward_all, 7)
BLEND_BACKWARD(blend_backward_square, 8)
