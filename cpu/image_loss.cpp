// The photometric loss (1 − λ)·L1 + λ·(1 − SSIM) and its gradient in one pass over the picture.
//
// SSIM (Wang et al. 2004) with an 11-tap Gaussian window, σ = 1.5, zeros outside the picture. With x the rendering, y the
// photo, G* the window, p = G*(xy), q = G*(x² + y²):
//     a = 2 μx μy + C1,  b = 2 (p − μx μy) + C2,  c = μx² + μy² + C1,  d = q − μx² − μy² + C2,  s = a b / (c d)
//     ∂s/∂μx = 2 μy (b − a)/(c d) − 2 μx s (1/c − 1/d),   ∂s/∂q = −s/d,   ∂s/∂p = 2 a/(c d)
//     ∂(Σ s)/∂x = G*(∂s/∂μx) + 2 x·G*(∂s/∂q) + y·G*(∂s/∂p)          (the window is symmetric)
// Only the sum of the two variances is needed, so four blurs forward and three back suffice.
//
// The picture is cut into tiles; each walks down its rows and keeps just the last 11 blurred rows, which stay in cache.
// Channels are interleaved, so a horizontal tap is 3 floats away. Tiles depend on the picture's size only, and their
// sums are added in order: the result is the same for every number of threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "api.h"
#include "simd.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int kTaps = 11, kRadius = 5;
constexpr float kWindow[kTaps] = {.00102838f, .00759876f, .03600077f, .10936069f, .21300553f, .26601172f,
                                  .21300553f, .10936069f, .03600077f, .00759876f, .00102838f};
constexpr float kC1 = 1e-4f, kC2 = 9e-4f;

// Tile size in pixels: small enough for the rings to stay near the first-level cache, large enough that the halo of
// 2 × 5 pixels (computed twice) stays cheap. 3 · kTileWidth is a multiple of every vector width.
constexpr int kTileWidth = 96, kTileHeight = 270;
constexpr int kHalo = 3 * kRadius;                              // floats
constexpr int kOut = 3 * kTileWidth;                            // floats of a tile's row
constexpr int kStat = (kOut + 2 * kHalo + W - 1) / W * W;       // of a row of statistics
constexpr int kIn = (kStat + 2 * kHalo + W - 1) / W * W;        // of a row of input

struct Sums {
    double l1 = 0, ssim = 0, square = 0;
};

struct Picture {
    const float* rgb;
    const uint8_t* target;
    const uint8_t* mask;  // may be null
    int64_t height, width;
    float l1_weight, ssim_weight;  // per valid pixel and channel
    float* grad;                   // may be null
};

struct alignas(64) Workspace {
    float input[4][kIn];            // x, y, x² + y², x y of one row
    float blurred[kTaps][4][kStat];  // those, blurred along the row
    float slope[3][kStat];          // ∂s/∂μx, ∂s/∂q, ∂s/∂p of one row
    float slopes[kTaps][3][kOut];   // those, blurred along the row
    float ssim[kStat];
    float valid[kStat];             // 1 or 0 per channel
    float x[kOut], y[kOut], own[kOut];
};

// Row `row` of both pictures, columns [begin, end) in floats of the interleaved row, as floats; zero outside the picture.
void read_row(const Picture& picture, int64_t row, int64_t begin, int64_t end, float* x, float* y, float* valid) {
    const int64_t total = 3 * picture.width;
    const int64_t from = std::clamp<int64_t>(begin, 0, total), to = std::clamp<int64_t>(end, from, total);
    const int64_t offset = row * total;
    const float* rgb = picture.rgb + offset;
    const uint8_t* target = picture.target + offset;
    auto clear = [&](float* out) {
        std::fill(out, out + (from - begin), 0.0f);
        std::fill(out + (to - begin), out + (end - begin), 0.0f);
    };
    float* px = x - begin;
    float* py = y - begin;
    for (int64_t i = from; i < to; ++i) px[i] = rgb[i];
    for (int64_t i = from; i < to; ++i) py[i] = static_cast<float>(target[i]) * (1.0f / 255.0f);
    clear(x);
    clear(y);
    if (!picture.mask) return;
    const uint8_t* mask = picture.mask + row * picture.width;
    for (int64_t i = from; i < to; ++i) {
        if (mask[i / 3]) continue;
        px[i] = 0;  // not multiplied by 0: the rendering may hold anything there
        py[i] = 0;
    }
    if (!valid) return;
    float* pv = valid - begin;
    for (int64_t i = from; i < to; ++i) pv[i] = mask[i / 3] ? 1.0f : 0.0f;
    clear(valid);
}

template <int Maps>
SPLAT_INLINE void blur_along(const float* const (&in)[Maps], float* const (&out)[Maps], int count) {
    for (int j = 0; j < count; j += W) {
        for (int map = 0; map < Maps; ++map) {
            const float* p = in[map] + j;
            VF even = load(p) * kWindow[0], odd = load(p + 3) * kWindow[1];
            for (int tap = 2; tap < kTaps; tap += 2) even = fma(load(p + 3 * tap), set1(kWindow[tap]), even);
            for (int tap = 3; tap < kTaps; tap += 2) odd = fma(load(p + 3 * tap), set1(kWindow[tap]), odd);
            store(out[map] + j, even + odd);
        }
    }
}

// Weighted sum of the 11 rows rows[tap][map] at column j.
template <int Maps, int Size>
SPLAT_INLINE void blur_across(const float (*const (&rows)[kTaps])[Size], int j, VF (&out)[Maps]) {
    for (int map = 0; map < Maps; ++map) out[map] = load(rows[0][map] + j) * kWindow[0];
    for (int tap = 1; tap < kTaps; ++tap)
        for (int map = 0; map < Maps; ++map) out[map] = fma(load(rows[tap][map] + j), set1(kWindow[tap]), out[map]);
}

// SSIM and its three slopes for one row of statistics.
void compare_row(Workspace& space, const float (*const (&rows)[kTaps])[kStat]) {
    for (int j = 0; j < kStat; j += W) {
        VF mean[4];
        blur_across<4, kStat>(rows, j, mean);
        const VF mx = mean[0], my = mean[1], q = mean[2], p = mean[3];
        const VF mxy = mx * my, squares = fma(mx, mx, my * my);
        const VF a = fma(mxy, set1(2.0f), set1(kC1));
        const VF b = fma(p - mxy, set1(2.0f), set1(kC2));
        const VF c = squares + kC1;
        const VF d = (q - squares) + kC2;
        const VF inverse = 1.0f / (c * d);
        const VF s = a * b * inverse;
        const VF over_c = d * inverse, over_d = c * inverse;
        store(space.ssim + j, s);
        store(space.slope[0] + j, 2.0f * (my * (b - a) * inverse - mx * s * (over_c - over_d)));
        store(space.slope[1] + j, -s * over_d);
        store(space.slope[2] + j, 2.0f * a * inverse);
    }
}

double sum_row(const float* p) {
    VF total = zero();
    for (int j = 0; j < kOut; j += W) total += load(p + j);
    return sum(total);
}

// Differences of one row: adds to the sums, and writes the gradient if there is one.
void finish_row(const Picture& picture, Workspace& space, const float (*const (&rows)[kTaps])[kOut], int64_t row,
                int64_t begin, int count, Sums& sums) {
    read_row(picture, row, begin, begin + kOut, space.x, space.y, space.own);
    VF l1 = zero(), square = zero();
    float* grad = picture.grad ? picture.grad + row * 3 * picture.width + begin : nullptr;
    for (int j = 0; j < kOut && j < count; j += W) {
        const VF x = load(space.x + j), y = load(space.y + j);
        const VF difference = x - y;
        l1 += abs(difference);
        const VF clamped = min(max(x, zero()), set1(1.0f)) - y;
        square = fma(clamped, clamped, square);
        if (!grad) continue;
        VF slope[3];
        blur_across<3, kOut>(rows, j, slope);
        const VF structural = fma(x + x, slope[1], fma(y, slope[2], slope[0]));
        const VF sign = keep(~eq(difference, zero()), copysign(set1(picture.l1_weight), difference));
        VF g = fma(structural, set1(-picture.ssim_weight), sign);
        if (picture.mask) g = keep(gt(load(space.own + j), zero()), g);
        store_first(grad + j, g, count - j);
    }
    sums.l1 += sum(l1);
    sums.square += sum(square);
}

// One tile: columns [3·column, 3·column + count) in floats, rows [top, bottom).
Sums compare_tile(const Picture& picture, Workspace& space, int64_t column, int64_t top, int64_t bottom) {
    const int64_t begin = 3 * column, total = 3 * picture.width;
    const int count = static_cast<int>(std::min<int64_t>(kOut, total - begin));
    const bool backward = picture.grad != nullptr;
    const int reach = backward ? kRadius : 0;  // rows of statistics needed beyond the tile
    Sums sums;
    // Row r of the ring buffers holds picture row r mod 11 (shifted to stay positive).
    auto slot = [](int64_t row) { return static_cast<int>((row + 2 * kTaps) % kTaps); };
    for (int64_t row = top - reach - kRadius; row < bottom + reach + kRadius; ++row) {
        float(*blurred)[kStat] = space.blurred[slot(row)];
        if (row >= 0 && row < picture.height) {
            read_row(picture, row, begin - 2 * kHalo, begin - 2 * kHalo + kIn, space.input[0], space.input[1], nullptr);
            for (int j = 0; j < kIn; j += W) {
                const VF x = load(space.input[0] + j), y = load(space.input[1] + j);
                store(space.input[2] + j, fma(x, x, y * y));
                store(space.input[3] + j, x * y);
            }
            const float* const in[4] = {space.input[0], space.input[1], space.input[2], space.input[3]};
            float* const out[4] = {blurred[0], blurred[1], blurred[2], blurred[3]};
            blur_along<4>(in, out, kStat);
        } else {
            std::fill(&blurred[0][0], &blurred[0][0] + 4 * kStat, 0.0f);
        }

        const int64_t middle = row - kRadius;  // this row's statistics are complete now
        if (middle < top - reach) continue;
        float(*slopes)[kOut] = space.slopes[slot(middle)];
        if (middle >= 0 && middle < picture.height) {
            const float(*rows[kTaps])[kStat];
            for (int tap = 0; tap < kTaps; ++tap) rows[tap] = space.blurred[slot(middle - kRadius + tap)];
            compare_row(space, rows);
            // Outside the picture there is no SSIM; masked pixels have none either.
            const int64_t first = std::max<int64_t>(0, kHalo - begin), last = std::min<int64_t>(kStat, total - begin + kHalo);
            float* const maps[4] = {space.slope[0], space.slope[1], space.slope[2], space.ssim};
            for (float* map : maps) {
                std::fill(map, map + first, 0.0f);
                std::fill(map + last, map + kStat, 0.0f);
            }
            if (picture.mask) {
                const uint8_t* mask = picture.mask + middle * picture.width;
                for (int64_t i = first; i < last; ++i) space.valid[i] = mask[(begin - kHalo + i) / 3] ? 1.0f : 0.0f;
                for (float* map : maps)
                    for (int64_t i = first; i < last; ++i) map[i] *= space.valid[i];
            }
            if (middle >= top && middle < bottom) {
                std::fill(space.ssim + kHalo + count, space.ssim + std::min(kStat, kHalo + kOut), 0.0f);
                sums.ssim += sum_row(space.ssim + kHalo);
            }
            if (backward) {
                const float* const in[3] = {space.slope[0], space.slope[1], space.slope[2]};
                float* const out[3] = {slopes[0], slopes[1], slopes[2]};
                blur_along<3>(in, out, kOut);
            }
        } else {
            std::fill(&slopes[0][0], &slopes[0][0] + 3 * kOut, 0.0f);
        }

        const int64_t done = middle - reach;
        if (done < top) continue;
        const float(*rows[kTaps])[kOut];
        for (int tap = 0; tap < kTaps; ++tap) rows[tap] = space.slopes[slot(done - kRadius + tap)];
        finish_row(picture, space, rows, done, begin, count, sums);
    }
    return sums;
}

}  // namespace
}  // namespace splat

// Mean absolute difference, mean SSIM and mean squared difference (the rendering clamped to [0, 1]) over the pixels whose
// mask is not 0, all three channels, and the gradient of (1 − λ)·L1 + λ·(1 − SSIM) with respect to rgb.
// rgb (H, W, 3) float, target (H, W, 3) bytes, mask (H, W) bytes or null, grad (H, W, 3) float or null.
// result: l1, ssim, mse, number of valid pixels. Without any valid pixel: 0, 1, 0, 0 and a zero gradient.
SPLAT_API void splat_image_loss(const float* rgb, const uint8_t* target, const uint8_t* mask, int64_t height, int64_t width,
                                float lambda, float* grad, double* result) {
    using namespace splat;
    int64_t valid = height * width;
    if (mask) {
        valid = 0;
        for (int64_t row = 0; row < height; ++row) {
            int64_t in_row = 0;
            for (int64_t i = 0; i < width; ++i) in_row += mask[row * width + i] != 0;
            valid += in_row;
        }
    }
    const double share = valid > 0 ? 1.0 / (3.0 * static_cast<double>(valid)) : 0.0;
    const Picture picture{rgb,  target, mask, height, width, static_cast<float>((1.0 - lambda) * share),
                          static_cast<float>(lambda * share), grad};
    const int64_t columns = (width + kTileWidth - 1) / kTileWidth, bands = (height + kTileHeight - 1) / kTileHeight;
    std::vector<Sums> sums(columns * bands);
    parallel_for(columns * bands, 1, [&](int64_t begin, int64_t end, int) {
        thread_local std::unique_ptr<Workspace> space;
        if (!space) space.reset(new Workspace());
        for (int64_t tile = begin; tile < end; ++tile) {
            const int64_t top = tile / columns * kTileHeight;
            sums[tile] = compare_tile(picture, *space, tile % columns * kTileWidth, top, std::min(top + kTileHeight, height));
        }
    });
    Sums total;
    for (const Sums& part : sums) {
        total.l1 += part.l1;
        total.ssim += part.ssim;
        total.square += part.square;
    }
    result[0] = total.l1 * share;
    result[1] = valid > 0 ? total.ssim * share : 1.0;
    result[2] = total.square * share;
    result[3] = static_cast<double>(valid);
}
