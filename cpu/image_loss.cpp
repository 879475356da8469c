// The photometric loss (1 − λ)·L1 + λ·(1 − SSIM) and its gradient in one pass over the picture.
//
// SSIM (Wang et al. 2004) with an 11-tap Gaussian window, σ = 1.5, zeros outside the picture. With x the rendering, y the
// photo, G* the window, p = G*(xy), q = G*(x² + y²):
//     a = 2 μx μy + C1,  b = 2 (p − μx μy) + C2,  c = μx² + μy² + C1,  d = q − μx² − μy² + C2,  s = a b / (c d)
//     ∂s/∂μx = 2 μy (b − a)/(c d) − 2 μx s (1/c − 1/d),   ∂s/∂q = −s/d,   ∂s/∂p = 2 a/(c d)
//     ∂(Σ s)/∂x = G*(∂s/∂μx) + 2 x·G*(∂s/∂q) + y·G*(∂s/∂p)          (the window is symmetric)
// Only the sum of the two variances is needed, so four blurs forward and three back suffice.
//
// The picture is cut into tiles; each walks down two rows at a time and keeps just the last 12 blurred rows, which stay in
// cache (two, because the sum across rows is bound by loads, and both rows share 10 of their 11). Channels are interleaved, so a horizontal tap is 3 floats away. Tiles depend on the picture's size only, and their sums are added in
// order: the result is the same for every number of threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "api.h"
#include "simd.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int kTaps = 11, kRadius = 5, kRing = kTaps + 1;
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
    float input[4][kIn];             // x, y, x² + y², x y of one row
    float blurred[kRing][4][kStat];  // those, blurred along the row
    float slope[2][4][kStat];        // ∂s/∂μx, ∂s/∂q, ∂s/∂p, and s itself, of two rows
    float slopes[kRing][3][kOut];    // the first three, blurred along the row
    float blended[2][3][kOut];       // and across rows
    float valid[kStat];              // 1 or 0 per channel
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

// Weighted sums of the rows rows[0…10] and rows[1…11] at column j, for each map.
template <int Maps, int Size>
SPLAT_INLINE void blur_across(const float (*const (&rows)[kRing])[Size], int j, VF (&upper)[Maps], VF (&lower)[Maps]) {
    for (int map = 0; map < Maps; ++map) {
        upper[map] = load(rows[0][map] + j) * kWindow[0];
        lower[map] = zero();
    }
    for (int tap = 1; tap < kRing; ++tap)
        for (int map = 0; map < Maps; ++map) {
            const VF value = load(rows[tap][map] + j);
            if (tap < kTaps) upper[map] = fma(value, set1(kWindow[tap]), upper[map]);
            lower[map] = fma(value, set1(kWindow[tap - 1]), lower[map]);
        }
}

// SSIM and its three slopes from the blurred μx, μy, q, p.
SPLAT_INLINE void compare(const VF (&mean)[4], float (*out)[kStat], int j) {
    const VF mx = mean[0], my = mean[1], q = mean[2], p = mean[3];
    const VF mxy = mx * my, squares = fma(mx, mx, my * my);
    const VF a = fma(mxy, set1(2.0f), set1(kC1));
    const VF b = fma(p - mxy, set1(2.0f), set1(kC2));
    const VF c = squares + kC1;
    const VF d = (q - squares) + kC2;
    const VF inverse = 1.0f / (c * d);
    const VF s = a * b * inverse;
    const VF over_c = d * inverse, over_d = c * inverse;
    store(out[0] + j, 2.0f * (my * (b - a) * inverse - mx * s * (over_c - over_d)));
    store(out[1] + j, -s * over_d);
    store(out[2] + j, 2.0f * a * inverse);
    store(out[3] + j, s);
}

double sum_row(const float* p) {
    VF total = zero();
    for (int j = 0; j < kOut; j += W) total += load(p + j);
    return sum(total);
}

// One tile: columns [begin, begin + count) in floats, rows [top, bottom).
class Tile {
public:
    Tile(const Picture& picture, Workspace& space, int64_t column, int64_t top, int64_t bottom)
        : picture_(picture), space_(space), begin_(3 * column), total_(3 * picture.width), top_(top), bottom_(bottom),
          count_(static_cast<int>(std::min<int64_t>(kOut, total_ - begin_))), reach_(picture.grad ? kRadius : 0) {}

    Sums run() {
        const int64_t first = top_ - reach_ - kRadius, last = bottom_ + reach_ + kRadius;
        for (int64_t row = first; row < last; row += 2) {
            for (int64_t r = row; r < row + 2; ++r) read(r);
            const int64_t middle = row - kRadius;  // statistics of this row and the next are complete now
            if (middle < top_ - reach_) continue;
            judge(middle);
            const int64_t done = middle - reach_;
            if (done < top_) continue;
            if (picture_.grad) gather(done);
            for (int64_t r = done; r < std::min(done + 2, bottom_); ++r) finish(r, space_.blended[r - done]);
        }
        return sums_;
    }

private:
    // Ring slots; shifted to stay positive.
    static int slot(int64_t row) { return static_cast<int>((row + 2 * kRing) % kRing); }

    bool inside(int64_t row) const { return row >= 0 && row < picture_.height; }

    // Asks for a row that will be read soon: stretches of it are too short for the processor to foresee.
    SPLAT_INLINE void ask(int64_t row, int64_t from) const {
        if (!inside(row)) return;
        const int64_t at = row * total_ + std::max<int64_t>(from, 0);
        for (int64_t i = 0; i < kIn; i += 16) __builtin_prefetch(picture_.rgb + at + i);
        for (int64_t i = 0; i < kIn; i += 64) __builtin_prefetch(picture_.target + at + i);
    }

    // Reads a row and blurs it along itself; zeros outside the picture.
    void read(int64_t row) {
        float(*blurred)[kStat] = space_.blurred[slot(row)];
        if (!inside(row)) {
            std::fill(&blurred[0][0], &blurred[0][0] + 4 * kStat, 0.0f);
            return;
        }
        const int64_t from = begin_ - 2 * kHalo;
        float(*input)[kIn] = space_.input;
        ask(row + 2, from);
        read_row(picture_, row, from, from + kIn, input[0], input[1], nullptr);
        for (int j = 0; j < kIn; j += W) {
            const VF x = load(input[0] + j), y = load(input[1] + j);
            store(input[2] + j, fma(x, x, y * y));
            store(input[3] + j, x * y);
        }
        const float* const in[4] = {input[0], input[1], input[2], input[3]};
        float* const out[4] = {blurred[0], blurred[1], blurred[2], blurred[3]};
        blur_along<4>(in, out, kStat);
    }

    // SSIM of two rows, and its slopes blurred along the rows.
    void judge(int64_t middle) {
        const float(*rows[kRing])[kStat];
        for (int tap = 0; tap < kRing; ++tap) rows[tap] = space_.blurred[slot(middle - kRadius + tap)];
        for (int j = 0; j < kStat; j += W) {
            VF upper[4], lower[4];
            blur_across<4, kStat>(rows, j, upper, lower);
            compare(upper, space_.slope[0], j);
            compare(lower, space_.slope[1], j);
        }
        for (int64_t row = middle; row < middle + 2; ++row) {
            float(*slope)[kStat] = space_.slope[row - middle];
            if (inside(row)) clear_invalid(row, slope);
            if (row >= top_ && row < bottom_) {
                float* s = slope[3] + kHalo;
                std::fill(s + count_, slope[3] + kStat, 0.0f);
                sums_.ssim += sum_row(s);
            }
            if (!picture_.grad) continue;
            float(*slopes)[kOut] = space_.slopes[slot(row)];
            if (inside(row)) {
                const float* const in[3] = {slope[0], slope[1], slope[2]};
                float* const out[3] = {slopes[0], slopes[1], slopes[2]};
                blur_along<3>(in, out, kOut);
            } else {
                std::fill(&slopes[0][0], &slopes[0][0] + 3 * kOut, 0.0f);
            }
        }
    }

    // Outside the picture there is no SSIM; masked pixels have none either.
    void clear_invalid(int64_t row, float (*slope)[kStat]) {
        const int64_t first = std::max<int64_t>(0, kHalo - begin_), last = std::min<int64_t>(kStat, total_ - begin_ + kHalo);
        for (int map = 0; map < 4; ++map) {
            std::fill(slope[map], slope[map] + first, 0.0f);
            std::fill(slope[map] + last, slope[map] + kStat, 0.0f);
        }
        if (!picture_.mask) return;
        const uint8_t* mask = picture_.mask + row * picture_.width;
        for (int64_t i = first; i < last; ++i) space_.valid[i] = mask[(begin_ - kHalo + i) / 3] ? 1.0f : 0.0f;
        for (int map = 0; map < 4; ++map)
            for (int64_t i = first; i < last; ++i) slope[map][i] *= space_.valid[i];
    }

    // The slopes of two rows, blurred across rows.
    void gather(int64_t done) {
        const float(*rows[kRing])[kOut];
        for (int tap = 0; tap < kRing; ++tap) rows[tap] = space_.slopes[slot(done - kRadius + tap)];
        for (int j = 0; j < kOut; j += W) {
            VF upper[3], lower[3];
            blur_across<3, kOut>(rows, j, upper, lower);
            for (int map = 0; map < 3; ++map) {
                store(space_.blended[0][map] + j, upper[map]);
                store(space_.blended[1][map] + j, lower[map]);
            }
        }
    }

    // Differences of one row: adds to the sums, and writes the gradient if there is one.
    void finish(int64_t row, const float (*slope)[kOut]) {
        read_row(picture_, row, begin_, begin_ + kOut, space_.x, space_.y, space_.own);
        VF l1 = zero(), square = zero();
        float* grad = picture_.grad ? picture_.grad + row * total_ + begin_ : nullptr;
        for (int j = 0; j < count_; j += W) {
            const VF x = load(space_.x + j), y = load(space_.y + j);
            const VF difference = x - y;
            l1 += abs(difference);
            const VF clamped = min(max(x, zero()), set1(1.0f)) - y;
            square = fma(clamped, clamped, square);
            if (!grad) continue;
            const VF structural = fma(x + x, load(slope[1] + j), fma(y, load(slope[2] + j), load(slope[0] + j)));
            const VF sign = keep(~eq(difference, zero()), copysign(set1(picture_.l1_weight), difference));
            VF g = fma(structural, set1(-picture_.ssim_weight), sign);
            if (picture_.mask) g = keep(gt(load(space_.own + j), zero()), g);
            store_first(grad + j, g, count_ - j);
        }
        sums_.l1 += sum(l1);
        sums_.square += sum(square);
    }

    const Picture& picture_;
    Workspace& space_;
    const int64_t begin_, total_, top_, bottom_;
    const int count_;
    const int reach_;  // rows of statistics needed beyond the tile
    Sums sums_;
};

}  // namespace
}  // namespace splat

// Mean absolute difference, mean SSIM and mean squared difference (the rendering clamped to [0, 1]) over the pixels whose
// mask is not 0, all three channels, and the gradient of (1 − λ)·L1 + λ·(1 − SSIM) with respect to rgb.
// rgb (H, W, 3) float, target (H, W, 3) bytes, mask (H, W) bytes or null, grad (H, W, 3) float or null.
// result: l1, ssim, mse, number of valid pixels. Without any valid pixel: 0, 1, 0, 0 and a zero gradient.
SPLAT_API int32_t splat_image_loss(const float* rgb, const uint8_t* target, const uint8_t* mask, int64_t height, int64_t width,
                                   float lambda, float* grad, double* result) {
    using namespace splat;
    if (!countable(height, 3 * std::min<int64_t>(width, INT64_MAX / 3)) || width < 0 || result == nullptr) return INVALID;
    if (!readable(rgb, height * width) || !readable(target, height * width)) return INVALID;
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
    std::vector<Sums> sums;
    try {
        sums.resize(columns * bands);
        parallel_for(columns * bands, 1, [&](int64_t begin, int64_t end, int) {
            thread_local std::unique_ptr<Workspace> space;
            if (!space) space.reset(new Workspace());
            for (int64_t tile = begin; tile < end; ++tile) {
                const int64_t top = tile / columns * kTileHeight;
                sums[tile] = Tile(picture, *space, tile % columns * kTileWidth, top, std::min(top + kTileHeight, height)).run();
            }
        });
    } catch (const std::bad_alloc&) {
        return OUT_OF_MEMORY;
    }
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
    return OK;
}
