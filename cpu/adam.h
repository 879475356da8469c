// Adam (Kingma & Ba 2015) on spans of floats, for the optimiser's own loops and for the rasterizer, which calls it on each
// chunk of Gaussians right after their gradients are made, so that no gradient tensors exist.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "simd.h"

namespace splat {

struct Adam {
    float keep1, add1;  // β1 and 1 − β1
    float keep2, add2;  // β2 and 1 − β2
    float eps;
    float rate_scale;   // 1 / (1 − β1ᵗ), or 1 without bias correction
    float root_scale;   // 1 / √(1 − β2ᵗ), or 1
};

// step is t, counted from 1; 0 means no bias correction (selective Adam of Taming-3DGS, Mallick et al. 2024).
inline Adam make_adam(double beta1, double beta2, double eps, int64_t step) {
    Adam adam;
    adam.keep1 = static_cast<float>(beta1);
    adam.add1 = static_cast<float>(1 - beta1);
    adam.keep2 = static_cast<float>(beta2);
    adam.add2 = static_cast<float>(1 - beta2);
    adam.eps = static_cast<float>(eps);
    const double t = static_cast<double>(step);
    adam.rate_scale = step > 0 ? static_cast<float>(1 / (1 - std::pow(beta1, t))) : 1.0f;
    adam.root_scale = step > 0 ? static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t))) : 1.0f;
    return adam;
}

// One step of W parameters: updates the moments and returns the new parameters.
SPLAT_INLINE VF adam_update(const Adam& adam, VF p, VF& m, VF& v, VF g, VF rate) {
    m = fma(m, set1(adam.keep1), g * adam.add1);
    v = fma(v, set1(adam.keep2), g * g * adam.add2);
    return p - rate * adam.rate_scale * m / fma(sqrt(v), set1(adam.root_scale), set1(adam.eps));
}

// The learning rate of every column of a row-major tensor, repeated so that a vector can be read from any column.
// width ≤ 75 (spherical harmonics of degree 4, three channels).
struct AdamRates {
    static constexpr int kMaxWidth = 75;
    int width;
    float rate[kMaxWidth + W];
};

// The first `head` columns learn at head_rate, the others at tail_rate.
inline AdamRates make_rates(int width, int head, float head_rate, float tail_rate) {
    AdamRates rates;
    rates.width = width;
    for (int i = 0; i < width + W; ++i) rates.rate[i] = i % width < head ? head_rate : tail_rate;
    return rates;
}

// One step of `rows` whole rows of rates.width floats. g may be null: no gradient, the moments just decay.
// Meanwhile asks for what lies `ahead` floats further, for callers that come back too late for the processor to foresee it.
inline void adam_rows(const Adam& adam, const AdamRates& rates, float* p, float* m, float* v, const float* g, int64_t rows,
                      int64_t ahead = 0) {
    const int64_t count = rows * rates.width;
    const int advance = W % rates.width;
    int column = 0;
    for (int64_t i = 0; i < count; i += W) {
        const int64_t left = count - i;
        const VF rate = load(rates.rate + column);
        column += advance;
        if (column >= rates.width) column -= rates.width;
        if (ahead != 0)
            for (const float* field : {p, m, v}) __builtin_prefetch(field + i + ahead, 1, 2);
        if (left >= W) {
            VF mi = load(m + i), vi = load(v + i);
            store(p + i, adam_update(adam, load(p + i), mi, vi, g ? load(g + i) : zero(), rate));
            store(m + i, mi);
            store(v + i, vi);
        } else {
            const int n = static_cast<int>(left);
            VF mi = load_first(m + i, n), vi = load_first(v + i, n);
            store_first(p + i, adam_update(adam, load_first(p + i, n), mi, vi, g ? load_first(g + i, n) : zero(), rate), n);
            store_first(m + i, mi, n);
            store_first(v + i, vi, n);
        }
    }
}

}  // namespace splat
