// Gradients of blending. A block takes one chunk of 256 list entries of one tile, a thread one pixel. From the state kept
// behind the chunk, or at the end, the pixels go through the entries from back to front; what a warp's pixels add to an
// entry's gradient is summed over its lanes first. Entries that cannot reach a warp's 8 × 4 pixels are skipped.
//
// With w = αT and the upstream gradients g of colour, depth and normal, a pixel's loss changes by Σ wᵢ vᵢ + T_final β, where
// vᵢ = g·featuresᵢ. Hence ∂L/∂αᵢ = Tᵢ vᵢ − Rᵢ / (1 − αᵢ), with Rᵢ = Σ_{j>i} wⱼ vⱼ + T_final β: what is behind. R is summed
// up from the back, as differences of sums from the front would lose the digits of what lies deep.
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

// ---- sums over a warp ----
//
// At every step a lane keeps half of its values and gives the others to the lane that keeps those: 13 exchanges for 12
// values, 16 for 16. In the first two steps lane l comes to hold, of each four values, that of number l / 8.

SPLAT_FN float exchange(float kept, float given, int step) { return kept + __shfl_xor_sync(ALL_LANES, given, step); }

// weight · g of four features. `g` begins with the one that the lane keeps, as `turned` makes it: nothing to select.
SPLAT_FN float sum_features(float weight, const float g[4]) {
    const float kept = exchange(weight * g[0], weight * g[2], 16), given = exchange(weight * g[1], weight * g[3], 16);
    return exchange(kept, given, 8);
}

// g[i ^ (lane / 8)] for i = 0 … 3; features from `from` on, 0 beyond the last.
template <int FEATURES>
SPLAT_FN void turned(const float g[FEATURES], int from, int lane, float out[4]) {
    float four[4];
    for (int i = 0; i < 4; ++i) four[i] = from + i < FEATURES ? g[lower(from + i, FEATURES - 1)] : 0.0f;
    const bool high = lane & 16, odd = lane & 8;
    for (int i = 0; i < 4; ++i) out[i] = high ? (odd ? four[i ^ 3] : four[i ^ 2]) : (odd ? four[i ^ 1] : four[i]);
}

// s · (u, u², v, v²).
SPLAT_FN float sum_moments(float s, float u, float v, int lane) {
    const bool high = lane & 16, odd = lane & 8;
    const float kept = high ? v : u, given = high ? u : v, s_kept = s * kept, s_given = s * given;
    const float linear = exchange(s_kept, s_given, 16), square = exchange(s_kept * kept, s_given * given, 16);
    return exchange(odd ? square : linear, odd ? linear : square, 8);
}

// s, |s u|, s u v, |m12 s u + m22 s v|.
SPLAT_FN float sum_others(float s, float u, float v, float m12, float m22, int lane) {
    const bool high = lane & 16, odd = lane & 8;
    const float su = s * u, mixed = su * v, along_u = fabsf(su), along_y = fabsf(m12 * su + m22 * (s * v));
    const float plain = exchange(high ? mixed : s, high ? s : mixed, 16);
    const float absolute = exchange(high ? along_y : along_u, high ? along_u : along_y, 16);
    return exchange(odd ? absolute : plain, odd ? plain : absolute, 8);
}

// The rest of the way for three fours of values or four: the sum over all lanes of value `summed_value(lane)`.
template <int FOURS>
SPLAT_FN float sum_fours(const float four[FOURS], int lane) {
    const bool second = lane & 4, later = lane & 2;
    const float a = exchange(second ? four[1] : four[0], second ? four[0] : four[1], 4);
    const float b = FOURS == 4 ? exchange(second ? four[FOURS - 1] : four[2], second ? four[2] : four[FOURS - 1], 4) : exchange(four[2], four[2], 4);
    const float sum = exchange(later ? b : a, later ? a : b, 2);
    return exchange(sum, sum, 1);
}

// Which value of `Sum` a lane ends up with, −1 for another lane's once more.
template <int FOURS>
SPLAT_FN int summed_value(int lane) {
    const int four = (lane >> 2 & 1) + (lane & 2);
    return lane % 2 == 0 && four < FOURS ? 4 * four + lane / 8 : -1;
}

SPLAT_FN int warp_most(int value) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    return __reduce_max_sync(ALL_LANES, value);
#else
    for (int step = WARP / 2; step > 0; step /= 2) value = upper(value, __shfl_xor_sync(ALL_LANES, value, step));
    return value;
#endif
}

// The state of a pixel behind all entries of a chunk that it takes part in: transmittance, upstream gradients and R.
template <int FEATURES>
struct Behind {
    float transmittance, g[FEATURES], behind;
};

template <int FEATURES>
SPLAT_FN Behind<FEATURES> state_behind(const Kept& kept, const Upstream& from, const Screen& screen, int pixel, int thread, int tile, int slot,
                                       bool goes_on) {
    Behind<FEATURES> state;
    const float* final = kept.finals + static_cast<i64>(pixel) * (FEATURES + 1);
    state.behind = pixel_gradient<FEATURES>(from, screen, final, pixel, state.g);
    state.transmittance = final[0];
    if (goes_on) {  // behind this chunk; only then is there a state
        const float* after = kept.states + static_cast<i64>(state_of(slot + 1, tile)) * (FEATURES + 1) * TILE_PIXELS + thread;
        state.transmittance = after[0];
        for (int c = 0; c < FEATURES; ++c) state.behind += state.g[c] * (final[c + 1] - after[(c + 1) * TILE_PIXELS]);
    }
    return state;
}

template <int FEATURES>
SPLAT_FN void blend_backward(const Lists& lists, const Splats& splats, const Screen& screen, const Upstream& from, const Kept& kept, float* sums) {
    SHARED(float4, near_a, CHUNK);
    SHARED(float4, near_b, CHUNK);
    SHARED(float4, near_feature, CHUNK);
    SHARED(float4, near_normal, FEATURES > 4 ? CHUNK : 1);
    constexpr int FOURS = FEATURES > 3 ? 4 : 3;

    const int slot = blockIdx.x, t = threadIdx.x, lane = t % WARP;
    const int tile = kept.chunk_tiles[slot];
    if (tile < 0) return;
    const int2 range = lists.ranges[tile];
    const int chunk = slot - (lists.chunk_ends[tile] - chunks_of(range));
    const int begin = range.x + chunk * CHUNK, count = lower(CHUNK, range.y - begin);
    const Pixel pixel = pixel_of(tile, t, screen);
    const int whole_last = pixel.inside ? kept.last[pixel.index] : 0;
    const int last = upper(0, lower(count, whole_last - chunk * CHUNK));  // entries of this chunk that the pixel takes part in
    if (!__syncthreads_or(last > 0)) return;
    load_chunk<FEATURES>(lists, splats, tile, screen, begin, count, near_a, near_b, near_feature, near_normal);
    __syncthreads();
    const int farthest = warp_most(last);
    if (farthest == 0) return;  // no barrier follows

    Behind<FEATURES> state = {};
    if (last > 0) state = state_behind<FEATURES>(kept, from, screen, pixel.index, t, tile, slot, whole_last > (chunk + 1) * CHUNK);
    float g_first[4], g_second[4];
    turned<FEATURES>(state.g, 0, lane, g_first);
    turned<FEATURES>(state.g, 4, lane, g_second);
    const int value = summed_value<FOURS>(lane);
    float* const own_sums = sums + upper(value, 0);

    for (int group = (farthest - 1) / WARP; group >= 0; --group) {
        for (unsigned left = entries_reaching(near_b, group, farthest); left != 0u;) {
            const int bit = 31 - __clz(static_cast<int>(left)), j = group * WARP + bit;
            left ^= 1u << bit;
            const float4 a = near_a[j], b = near_b[j];
            float u, v;
            const float power = log2_alpha(a, b, pixel.x, pixel.y, u, v);
            const bool valid = j < last && power >= LOG2_ALPHA_MIN;
            if (!__any_sync(ALL_LANES, valid)) continue;
            const float own = valid ? fast_exp2(power) : 0.0f, alpha = min(own, ALPHA_MAX);
            const float inverse = fast_reciprocal(1.0f - alpha);
            state.transmittance *= inverse;
            const float weight = alpha * state.transmittance;
            float features[FEATURES], four[FOURS];
            load_features<FEATURES>(near_feature, near_normal, j, features);
            const float seen = dot<FEATURES>(state.g, features);
            const float to_alpha = state.transmittance * seen - state.behind * inverse;
            state.behind += weight * seen;
            const float s = own > ALPHA_MAX ? 0.0f : own * to_alpha;  // no gradient through the cap
            four[0] = sum_features(weight, g_first);
            four[1] = sum_moments(s, u, v, lane);
            four[2] = sum_others(s, u, v, a.y, b.x, lane);
            if constexpr (FOURS == 4) four[FOURS - 1] = sum_features(weight, g_second);
            const float sum = sum_fours<FOURS>(four, lane);
            if (value >= 0) atomicAdd(own_sums + static_cast<i64>(__float_as_int(b.z)) * SUMS, sum);
        }
    }
}

}  // namespace splat

#define BLEND_BACKWARD(NAME, FEATURES)                                                                                    \
    KERNEL(splat::TILE_PIXELS) NAME(splat::Lists lists, splat::Splats splats, splat::Screen screen, splat::Upstream from, \
                                    splat::Kept kept, float* sums) {                                                      \
        splat::blend_backward<FEATURES>(lists, splats, screen, from, kept, sums);                                         \
    }

#if WANTED(blend_backward_rgb)
BLEND_BACKWARD(blend_backward_rgb, 3)
#endif
#if WANTED(blend_backward_all)
BLEND_BACKWARD(blend_backward_all, 7)
#endif
#if WANTED(blend_backward_square)
BLEND_BACKWARD(blend_backward_square, 8)
#endif
