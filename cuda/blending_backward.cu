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

constexpr int WARPS = TILE_PIXELS / WARP;  // also: groups of 32 entries in a chunk
static_assert(WARPS * WARP == CHUNK, "one warp per 32 entries");

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

// Adds `total` of 32 lanes to the rows `ids` of `sums`. Through shared memory, so that neighbouring lanes add to
// neighbouring words; rotated, so that the lanes write to different banks.
template <class Floats>
SPLAT_FN void add_sums(const float total[SUMS], int id, Floats& staging, int offset, float* sums) {
    const int lane = threadIdx.x % WARP;
    for (int f = 0; f < SUMS; ++f) staging[offset + lane * SUMS + (f + lane) % SUMS] = total[f];
    __syncwarp();
    for (int round = 0; round < SUMS; ++round) {
        const int element = round * WARP + lane, owner = element / SUMS, f = element % SUMS;
        const float value = staging[offset + owner * SUMS + (f + owner) % SUMS];
        const int row = __shfl_sync(ALL_LANES, id, owner);
        if (value != 0.0f) atomicAdd(sums + static_cast<i64>(row) * SUMS + f, value);
    }
}

template <int FEATURES>
SPLAT_FN void blend_backward(const Lists& lists, const Splats& splats, const Screen& screen, const Upstream& from, const Kept& kept, float* sums) {
    SHARED(float4, near_a, CHUNK);
    SHARED(float4, near_b, CHUNK);
    SHARED(float4, near_feature, CHUNK);
    SHARED(float4, near_normal, FEATURES > 4 ? CHUNK : 1);
    SHARED(float, gradient, FEATURES * TILE_PIXELS);
    SHARED(short, pixel_last, TILE_PIXELS);
    SHARED(float, state, 2 * CHUNK * WARPS);  // per group of 32 entries: T of 256 pixels behind it, then R
    static_assert(2 * CHUNK == WARP * SUMS, "a group's states make room for its sums");

    const int slot = blockIdx.x, t = threadIdx.x, lane = t % WARP, warp = t / WARP;
    const int tile = kept.chunk_tiles[slot];
    if (tile < 0) return;
    const int2 range = lists.ranges[tile];
    const int chunk = slot - (lists.chunk_ends[tile] - chunks_of(range));
    const int begin = range.x + chunk * CHUNK, count = lower(CHUNK, range.y - begin);

    // First phase: thread = pixel.
    const Pixel pixel = pixel_of(tile, t, screen);
    const int last = pixel.inside ? upper(0, lower(count, kept.last[pixel.index] - chunk * CHUNK)) : 0;
    if (!__syncthreads_or(last > 0)) return;
    if (t < count) {
        const int id = lists.ids[begin + t];
        near_a[t] = splats.splats[2 * id];
        near_b[t] = splats.splats[2 * id + 1];
        near_feature[t] = splats.features[id];
        if constexpr (FEATURES > 4) near_normal[t] = splats.normals[id];
    }
    pixel_last[t] = static_cast<short>(last);
    __syncthreads();
    if (last > 0) {
        float g[FEATURES], transmittance = 1.0f, behind;
        const float* final = kept.finals + static_cast<i64>(pixel.index) * (FEATURES + 1);
        const float* before = kept.states + static_cast<i64>(state_of(slot, tile)) * (FEATURES + 1) * TILE_PIXELS + t;
        behind = pixel_gradient<FEATURES>(from, screen, final, pixel.index, g);
        if (chunk > 0) transmittance = before[0];
        if (kept.last[pixel.index] > (chunk + 1) * CHUNK) {  // the pixel goes on behind this chunk
            const float* after = before + (FEATURES + 1) * TILE_PIXELS;
            for (int c = 0; c < FEATURES; ++c) behind += g[c] * (final[c + 1] - after[(c + 1) * TILE_PIXELS]);
        }
        for (int c = 0; c < FEATURES; ++c) gradient[c * TILE_PIXELS + t] = g[c];
        float inside = 0.0f;  // Σ w v of the group
        for (int j = 0; j < last; ++j) {
            const float4 a = near_a[j], b = near_b[j];
            float u, v;
            const float power = log2_alpha(pixel.x, pixel.y, a.x, a.y, a.z, a.w, b.x, b.y, u, v);
            if (power >= LOG2_ALPHA_MIN) {
                const float alpha = min(fast_exp2(power), ALPHA_MAX);
                float features[FEATURES];
                load_features<FEATURES>(near_feature, near_normal, j, features);
                inside += alpha * transmittance * dot<FEATURES>(g, features);
                transmittance *= 1.0f - alpha;
            }
            if (j % WARP == WARP - 1 || j == last - 1) {
                state[j / WARP * 2 * CHUNK + t] = transmittance;
                state[j / WARP * 2 * CHUNK + CHUNK + t] = inside;
                inside = 0.0f;
            }
        }
        for (int group = (last - 1) / WARP; group >= 0; --group) {
            const int at = group * 2 * CHUNK + CHUNK + t;
            const float own = state[at];
            state[at] = behind;
            behind += own;
        }
    }
    __syncthreads();

    // Second phase: lane = list entry. State of a pixel before the lane's entry is found from that behind it.
    const int group = warp * WARP, entry = group + lane, offset = warp * 2 * CHUNK;
    bool reached = false;
    for (int q = lane; q < TILE_PIXELS; q += WARP) reached |= pixel_last[q] > group;
    if (!__any_sync(ALL_LANES, reached)) return;

    const int own_entry = entry < count ? entry : 0;  // lanes without an entry never meet a pixel that reaches it
    const float4 a = near_a[own_entry], b = near_b[own_entry];
    const int id = lists.ids[begin + own_entry];
    float features[FEATURES];
    load_features<FEATURES>(near_feature, near_normal, own_entry, features);
    // ∂σ/∂centre in terms of (u, v), for the sums of absolute values
    const float along_xu = 2.0f * LN_2 * a.z, along_yu = 2.0f * LN_2 * a.w, along_yv = 2.0f * LN_2 * b.x;

    float total[SUMS] = {};
    float transmittance = 1.0f, behind = 0.0f;  // of the pixel that has just been at this lane
    const float left = static_cast<float>(tile % screen.columns * TILE) + 0.5f, top = static_cast<float>(tile / screen.columns * TILE) + 0.5f;
    for (int step = 0; step < TILE_PIXELS + WARP - 1; ++step) {
        transmittance = __shfl_down_sync(ALL_LANES, transmittance, 1);
        behind = __shfl_down_sync(ALL_LANES, behind, 1);
        const int q = step - (WARP - 1 - lane);
        if (q < 0 || q >= TILE_PIXELS) continue;
        const int until = pixel_last[q];
        if (lane == WARP - 1 && until > group) {
            transmittance = state[offset + q];
            behind = state[offset + CHUNK + q];
        }
        if (until <= entry) continue;  // `until` never exceeds the count of entries
        float u, v;
        const float power = log2_alpha(left + static_cast<float>(column_in_tile(q)), top + static_cast<float>(row_in_tile(q)), a.x, a.y, a.z, a.w, b.x, b.y, u, v);
        if (power < LOG2_ALPHA_MIN) continue;
        const float own = fast_exp2(power), alpha = min(own, ALPHA_MAX);
        const float inverse = fast_reciprocal(1.0f - alpha);
        transmittance *= inverse;
        const float weight = alpha * transmittance;
        float g[FEATURES];
        for (int c = 0; c < FEATURES; ++c) {
            g[c] = gradient[c * TILE_PIXELS + q];
            total[RED + c] += weight * g[c];
        }
        const float value = dot<FEATURES>(g, features);
        const float to_alpha = transmittance * value - behind * inverse;
        behind += weight * value;
        if (own > ALPHA_MAX) continue;  // no gradient through the cap
        const float s = own * to_alpha, su = s * u, sv = s * v;
        total[S] += s;
        total[SU] += su;
        total[SV] += sv;
        total[SUU] += su * u;
        total[SUV] += su * v;
        total[SVV] += sv * v;
        total[ABS_X] += fabsf(along_xu * su);
        total[ABS_Y] += fabsf(along_yu * su + along_yv * sv);
    }
    __syncwarp();  // all lanes have read the states that the sums now overwrite
    add_sums(total, id, state, offset, sums);
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
