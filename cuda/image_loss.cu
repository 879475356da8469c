// The photometric loss (1 − λ)·L1 + λ·(1 − SSIM) and its gradient. Equations and conventions: cpu/image_loss.cpp.
//
// Two kernels, one block per 16 × 16 pixels each: the first blurs the statistics and leaves SSIM's three slopes per pixel
// and channel, the second blurs those.
#include "device.h"

namespace splat {

constexpr int RADIUS = 5, TAPS = 2 * RADIUS + 1;
constexpr int SIDE = TILE + 2 * RADIUS;  // of a tile with its surroundings
constexpr float C1 = 1e-4f, C2 = 9e-4f;

// The 11-tap Gaussian window, σ = 1.5 (symmetric).
SPLAT_FN float window(int tap) {
    constexpr float half[RADIUS + 1] = {.00102838f, .00759876f, .03600077f, .10936069f, .21300553f, .26601172f};
    return half[tap <= RADIUS ? tap : 2 * RADIUS - tap];
}

// rgb (H, W, 3), target the same in bytes, mask (H, W) or null, slopes (3, 3, H, W), by kind and channel, or null, grad (H, W, 3).
// sums: Σ|x − y|, Σ SSIM, Σ (x clamped − y)² — added to — and the number of pixels that count.
struct Comparison {
    const float* rgb;
    const unsigned char *target, *mask;
    int height, width;
    float ssim_weight;  // λ
    float *slopes, *grad;
    double* sums;
};

struct Place {
    int x, y;  // of this thread's pixel
    int left, top;  // of the surroundings' first pixel
    bool inside;
    int pixel;
};

SPLAT_FN Place place_of(const Comparison& a) {
    const int columns = (a.width + TILE - 1) / TILE;
    const int left = blockIdx.x % columns * TILE, top = blockIdx.x / columns * TILE;
    const int x = left + threadIdx.x % TILE, y = top + threadIdx.x / TILE;
    return {x, y, left - RADIUS, top - RADIUS, x < a.width && y < a.height, y * a.width + x};
}

// Index of the e-th pixel of the surroundings, or −1 outside the picture or where it does not count.
SPLAT_FN int neighbour(const Comparison& a, const Place& place, int e) {
    const int x = place.left + e % SIDE, y = place.top + e / SIDE;
    if (x < 0 || y < 0 || x >= a.width || y >= a.height) return -1;
    const int pixel = y * a.width + x;
    return a.mask && !a.mask[pixel] ? -1 : pixel;
}

SPLAT_FN bool counts(const Comparison& a, const Place& place) { return place.inside && (!a.mask || a.mask[place.pixel]); }

// Adds the block's sum of `value` to *to. All threads call it.
template <class Floats>
SPLAT_FN void add_block(float value, Floats& scratch, double* to) {
    const float sum = warp_sum(value);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int warp = 0; warp < TILE_PIXELS / WARP; ++warp) total += scratch[warp];
        atomicAdd(to, total);
    }
    __syncthreads();
}

KERNEL(256) compare_images(Comparison a) {
    SHARED(float, near_x, SIDE * SIDE);
    SHARED(float, near_y, SIDE * SIDE);
    SHARED(float, rows, 4 * SIDE * TILE);  // x, y, x² + y², x·y blurred along rows
    SHARED(float, scratch, TILE_PIXELS / WARP);
    const Place place = place_of(a);
    const bool valid = counts(a, place);
    const int t = threadIdx.x, column = t % TILE, line = t / TILE;
    const i64 plane = 3 * static_cast<i64>(a.height) * a.width;
    float l1 = 0.0f, ssim = 0.0f, square = 0.0f;
    for (int c = 0; c < 3; ++c) {
#pragma unroll 1  // else it is unrolled on sm_90 and registers spill
        for (int e = t; e < SIDE * SIDE; e += TILE_PIXELS) {
            const int pixel = neighbour(a, place, e);
            near_x[e] = pixel < 0 ? 0.0f : a.rgb[3 * pixel + c];
            near_y[e] = pixel < 0 ? 0.0f : static_cast<float>(a.target[3 * pixel + c]) * (1.0f / 255.0f);
        }
        __syncthreads();
        for (int e = t; e < SIDE * TILE; e += TILE_PIXELS) {
            const int from = e / TILE * SIDE + e % TILE;
            float mean_x = 0.0f, mean_y = 0.0f, q = 0.0f, p = 0.0f;
            for (int tap = 0; tap < TAPS; ++tap) {
                const float x = near_x[from + tap], y = near_y[from + tap], weight = window(tap);
                mean_x += weight * x;
                mean_y += weight * y;
                q += weight * (x * x + y * y);
                p += weight * (x * y);
            }
            rows[e] = mean_x;
            rows[SIDE * TILE + e] = mean_y;
            rows[2 * SIDE * TILE + e] = q;
            rows[3 * SIDE * TILE + e] = p;
        }
        __syncthreads();
        float stat[4] = {};
        for (int tap = 0; tap < TAPS; ++tap)
            for (int k = 0; k < 4; ++k) stat[k] += window(tap) * rows[k * SIDE * TILE + (line + tap) * TILE + column];
        const float mean_x = stat[0], mean_y = stat[1];
        const float squares = mean_x * mean_x + mean_y * mean_y;
        const float top = 2.0f * mean_x * mean_y + C1, top2 = 2.0f * (stat[3] - mean_x * mean_y) + C2;
        const float low = squares + C1, low2 = (stat[2] - squares) + C2;
        const float inverse = 1.0f / (low * low2), s = top * top2 * inverse;
        if (place.inside && a.slopes) {
            float* at = a.slopes + c * (plane / 3) + place.pixel;
            at[0] = valid ? 2.0f * (mean_y * (top2 - top) * inverse - mean_x * s * (low2 - low) * inverse) : 0.0f;
            at[plane] = valid ? -s * low * inverse : 0.0f;
            at[2 * plane] = valid ? 2.0f * top * inverse : 0.0f;
        }
        if (valid) {
            const float x = near_x[(line + RADIUS) * SIDE + column + RADIUS], y = near_y[(line + RADIUS) * SIDE + column + RADIUS];
            const float clamped = min(max(x, 0.0f), 1.0f) - y;
            l1 += fabsf(x - y);
            square += clamped * clamped;
            ssim += s;
        }
        __syncthreads();
    }
    add_block(l1, scratch, a.sums);
    add_block(ssim, scratch, a.sums + 1);
    add_block(square, scratch, a.sums + 2);
}

KERNEL(256) compare_images_backward(Comparison a) {
    SHARED(float, near_slope, 3 * SIDE * SIDE);
    SHARED(float, rows, 3 * SIDE * TILE);
    const Place place = place_of(a);
    const bool valid = counts(a, place);
    const int t = threadIdx.x, column = t % TILE, line = t / TILE;
    const i64 plane = 3 * static_cast<i64>(a.height) * a.width;
    const double pixels = a.sums[3];
    const float share = pixels > 0.0 ? static_cast<float>(1.0 / (3.0 * pixels)) : 0.0f;
    for (int c = 0; c < 3; ++c) {
        for (int e = t; e < SIDE * SIDE; e += TILE_PIXELS) {
            const int pixel = neighbour(a, place, e);
            for (int k = 0; k < 3; ++k) near_slope[k * SIDE * SIDE + e] = pixel < 0 ? 0.0f : a.slopes[k * plane + c * (plane / 3) + pixel];
        }
        __syncthreads();
        for (int e = t; e < SIDE * TILE; e += TILE_PIXELS) {
            const int from = e / TILE * SIDE + e % TILE;
            for (int k = 0; k < 3; ++k) {
                float sum = 0.0f;
                for (int tap = 0; tap < TAPS; ++tap) sum += window(tap) * near_slope[k * SIDE * SIDE + from + tap];
                rows[k * SIDE * TILE + e] = sum;
            }
        }
        __syncthreads();
        if (place.inside) {
            float gradient = 0.0f;
            if (valid) {
                float slope[3] = {};
                for (int tap = 0; tap < TAPS; ++tap)
                    for (int k = 0; k < 3; ++k) slope[k] += window(tap) * rows[k * SIDE * TILE + (line + tap) * TILE + column];
                const float x = a.rgb[3 * place.pixel + c], y = static_cast<float>(a.target[3 * place.pixel + c]) * (1.0f / 255.0f);
                const float sign = x > y ? 1.0f : x < y ? -1.0f : 0.0f;
                const float structural = slope[0] + 2.0f * x * slope[1] + y * slope[2];
                gradient = share * ((1.0f - a.ssim_weight) * sign - a.ssim_weight * structural);
            }
            a.grad[3 * place.pixel + c] = gradient;
        }
        __syncthreads();
    }
}

}  // namespace splat
