// The optimiser on whole tensors, for gradients that come from elsewhere than the fused backward pass.
#include <algorithm>
#include <atomic>

#include "adam.h"
#include "api.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int64_t kChunk = 1 << 14;  // floats per piece of work

// The smallest of many rows, found by several threads.
struct FirstRow {
    std::atomic<int64_t> row{INT64_MAX};
    void report(int64_t candidate) {
        int64_t known = row.load(std::memory_order_relaxed);
        while (candidate < known && !row.compare_exchange_weak(known, candidate)) {
        }
    }
    int64_t result() const { return row == INT64_MAX ? -1 : row.load(); }
};

// First float among n that is NaN or infinite, or −1.
int64_t first_bad(const float* p, int64_t n) {
    constexpr int64_t kBlock = 64 * W;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
        // x·0 is 0 for every finite x and NaN otherwise; NaN survives any sum.
        const int64_t end = std::min(begin + kBlock, n);
        VF total = zero();
        for (int64_t i = begin; i < end; i += W) total += load_first(p + i, static_cast<int>(std::min<int64_t>(end - i, W))) * 0.0f;
        if (all(eq(total, zero()))) continue;
        for (int64_t i = begin; i < end; ++i)
            if (!(std::fabs(p[i]) <= 3.402823466e38f)) return i;
    }
    return -1;
}

enum Regulariser { kNone, kOpacity, kScale };

// gradient + weight · ∂sigmoid(p)/∂p or weight · ∂exp(p)/∂p, into `out`.
void add_regulariser(Regulariser kind, float weight, const float* p, const float* g, float* out, int64_t n) {
    for (int64_t i = 0; i < n; i += W) {
        const int left = static_cast<int>(std::min<int64_t>(n - i, W));
        const VF x = load_first(p + i, left), o = kind == kOpacity ? sigmoid(x) : exp(x);
        const VF slope = kind == kOpacity ? o * (1.0f - o) : o;
        store_first(out + i, fma(slope, set1(weight), load_first(g + i, left)), left);
    }
}

}  // namespace
}  // namespace splat

// One Adam step on a (rows, width) tensor. The first `head` columns learn at head_rate, the others at tail_rate.
// step: counted from 1; 0 means no bias correction. visible: (rows) bytes, rows with 0 are left alone; null updates all.
// regulariser: 0 none, 1 adds weight · ∂Σ sigmoid(p), 2 adds weight · ∂Σ exp(p) to the gradient.
// Where the two rates differ, width ≤ 75.
// Rows with a NaN or infinite gradient are left alone. Returns the first such row, or −1; −2 for arguments that are wrong.
SPLAT_API int64_t splat_adam(float* p, float* m, float* v, const float* g, int64_t rows, int64_t width, int64_t head, double head_rate,
                             double tail_rate, double beta1, double beta2, double eps, int64_t step, const uint8_t* visible,
                             int regulariser, double weight) {
    using namespace splat;
    if (!countable(rows, width) || width < 1 || head < 0 || step < 0 || !(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) return -2;
    for (const void* tensor : {static_cast<const void*>(p), static_cast<const void*>(m), static_cast<const void*>(v), static_cast<const void*>(g)})
        if (!readable(tensor, rows)) return -2;
    if ((head < width && head_rate != tail_rate && width > AdamRates::kMaxWidth) || regulariser < 0 || regulariser > 2) return -2;
    if (regulariser != kNone && width > kChunk) return -2;  // a row must fit the scratch
    const Adam adam = make_adam(beta1, beta2, eps, step);
    // With one rate for all columns a tensor of any width is a list of floats.
    const bool uniform = head >= width || head_rate == tail_rate;
    const AdamRates rates = make_rates(uniform ? 1 : static_cast<int>(width), static_cast<int>(head), static_cast<float>(head_rate),
                                       static_cast<float>(tail_rate));
    FirstRow bad;
    const int64_t chunk = std::max<int64_t>(1, kChunk / width);
    parallel_for(rows, chunk, [&](int64_t begin, int64_t end, int) {
        alignas(64) float adjusted[kChunk];  // on the stack: memory of a thread is taken at its first touch, and ends the process if there is none
        auto update = [&](int64_t from, int64_t to) {
            const int64_t at = from * width, n = (to - from) * width;
            const float* gradient = g + at;
            if (regulariser != kNone) {
                add_regulariser(static_cast<Regulariser>(regulariser), static_cast<float>(weight), p + at, gradient, adjusted, n);
                gradient = adjusted;
            }
            adam_rows(adam, rates, p + at, m + at, v + at, gradient, uniform ? n : to - from);
        };
        const int64_t wrong = first_bad(g + begin * width, (end - begin) * width);
        if (wrong >= 0) bad.report(begin + wrong / width);
        if (wrong < 0 && !visible) return update(begin, end);
        auto skipped = [&](int64_t row) { return (visible && !visible[row]) || (wrong >= 0 && first_bad(g + row * width, width) >= 0); };
        for (int64_t from = begin; from < end;) {
            if (skipped(from)) {
                ++from;
                continue;
            }
            int64_t to = from + 1;
            while (to < end && !skipped(to)) ++to;
            update(from, to);
            from = to;
        }
    });
    return bad.result();
}

// First row of a (rows, width) tensor that holds a NaN or an infinity, or −1; −2 for arguments that are wrong.
SPLAT_API int64_t splat_first_nonfinite(const float* p, int64_t rows, int64_t width) {
    using namespace splat;
    if (!countable(rows, width) || !readable(p, rows * width)) return -2;
    FirstRow bad;
    parallel_for(rows * width, kChunk, [&](int64_t begin, int64_t end, int) {
        const int64_t wrong = first_bad(p + begin, end - begin);
        if (wrong >= 0) bad.report((begin + wrong) / width);
    });
    return bad.result();
}
