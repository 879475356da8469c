// Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al. 2024, arXiv:2404.09591): exploration noise and relocation.
#include <algorithm>
#include <cmath>

#include "api.h"
#include "columns.h"
#include "random.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int kMaxRatio = 51;
// Below this the noise is lost in the rounding of the position.
constexpr float kGateMin = 1e-12f;

// (N, 3) means of W rows += Σ n with Σ = R diag(s²) Rᵀ.
void add_noise(float* means, const float* log_scales, const float* quats, const float* logits, int64_t row, int64_t count,
               float min_opacity, float strength, uint64_t seed, uint64_t step) {
    const int rows = static_cast<int>(std::min<int64_t>(W, count - row));
    const VF opacity = sigmoid(load_first(logits + row, rows));
    VF gate = sigmoid((opacity - min_opacity) * -100.0f);
    const VM moves = ge(gate, set1(kGateMin)) & first_lanes(rows);
    if (none(moves)) return;
    gate = gate * strength;

    const VU lane = (VU)iota();
    const VU low = lane + static_cast<uint32_t>(row);
    const VU carry = (VU)(low < lane) & 1u;  // row + lane may cross 2³²
    VU word[4] = {low, carry + static_cast<uint32_t>(row >> 32), static_cast<uint32_t>(step) - VU{}, static_cast<uint32_t>(step >> 32) - VU{}};
    philox(word, seed);
    VF x, y, z, unused;
    normals(word[0], word[1], x, y);
    normals(word[2], word[3], z, unused);

    VF scale[3], q[4];
    load_columns<3>(rows_at(log_scales + 3 * row, 3, rows), scale);
    load_columns<4>(rows_at(quats + 4 * row, 4, rows), q);
    const VF norm = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    const VF inverse = 1.0f / max(norm, set1(1e-12f));
    const VF w = q[0] * inverse, i = q[1] * inverse, j = q[2] * inverse, k = q[3] * inverse;
    const VF r[3][3] = {{1.0f - 2.0f * (j * j + k * k), 2.0f * (i * j - w * k), 2.0f * (i * k + w * j)},
                        {2.0f * (i * j + w * k), 1.0f - 2.0f * (i * i + k * k), 2.0f * (j * k - w * i)},
                        {2.0f * (i * k - w * j), 2.0f * (j * k + w * i), 1.0f - 2.0f * (i * i + j * j)}};
    VF own[3];
    for (int axis = 0; axis < 3; ++axis) {
        const VF s = exp(scale[axis]);
        own[axis] = (r[0][axis] * x + r[1][axis] * y + r[2][axis] * z) * (s * s) * gate;
    }
    alignas(64) float shift[3][W];
    for (int axis = 0; axis < 3; ++axis)
        store(shift[axis], keep(moves, r[axis][0] * own[0] + r[axis][1] * own[1] + r[axis][2] * own[2]));
    for (int index = 0; index < rows; ++index)
        for (int axis = 0; axis < 3; ++axis) means[(row + index) * 3 + axis] += shift[axis][index];
}

}  // namespace
}  // namespace splat

// means += Σ·η·sigmoid(−100 (o − min_opacity))·strength for all N rows; η standard normal, from (seed, step, row) alone.
SPLAT_API int32_t splat_mcmc_noise(float* means, const float* log_scales, const float* quats, const float* logits, int64_t count,
                                   float min_opacity, float strength, uint64_t seed, uint64_t step) {
    using namespace splat;
    for (const float* tensor : {static_cast<const float*>(means), log_scales, quats, logits})
        if (!countable(count, 4) || !readable(tensor, count)) return INVALID;
    parallel_for(count, 256 * W, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; row += W)
            add_noise(means, log_scales, quats, logits, row, std::min(end, count), min_opacity, strength, seed, step);
    });
    return OK;
}

// A Gaussian that becomes `ratio` equal ones which together look the same (eq. 9 of the paper): new opacity logits and log
// scales for M rows. With o' = 1 − (1 − o)^(1/n):  s' = s·o / D,  D = Σⱼ₌₁ⁿ C(n, j) (−1)^(j+1) o'ʲ / √j.
SPLAT_API int32_t splat_mcmc_relocate(const float* logits, const float* log_scales, const int64_t* ratios, int64_t count,
                                      double min_opacity, float* new_logits, float* new_log_scales) {
    const auto given = {static_cast<const void*>(logits), static_cast<const void*>(log_scales), static_cast<const void*>(ratios),
                        static_cast<const void*>(new_logits), static_cast<const void*>(new_log_scales)};
    for (const void* tensor : given)
        if (!splat::countable(count, 3) || !splat::readable(tensor, count)) return splat::INVALID;
    if (!(min_opacity > 0 && min_opacity < 1 - 1.1920929e-7)) return splat::INVALID;
    for (int64_t row = 0; row < count; ++row) {
        const int n = static_cast<int>(std::clamp<int64_t>(ratios[row], 1, splat::kMaxRatio));
        const double logit = logits[row], opacity = 1 / (1 + std::exp(-logit));
        // ln (1 − o) without the cancellation of 1 − o near 1.
        const double log_rest = logit > 0 ? -logit - std::log1p(std::exp(-logit)) : -std::log1p(std::exp(logit));
        const double share = std::clamp(-std::expm1(log_rest / n), min_opacity, 1 - 1.1920929e-7);
        double sum = 0, term = -1;
        for (int j = 1; j <= n; ++j) {
            term *= -share * (n - j + 1) / j;  // (−1)^(j+1) C(n, j) shareʲ
            sum += term / std::sqrt(static_cast<double>(j));
        }
        const double shift = std::log(opacity / sum);
        new_logits[row] = static_cast<float>(std::log(share / (1 - share)));
        for (int axis = 0; axis < 3; ++axis)
            new_log_scales[3 * row + axis] = static_cast<float>(n == 1 ? log_scales[3 * row + axis] : log_scales[3 * row + axis] + shift);
    }
    return splat::OK;
}

// Four random words for each of n counters (n, 4), in place: for the tests against published vectors.
SPLAT_API void splat_test_philox(uint32_t* counters, int64_t n, uint64_t key) {
    using namespace splat;
    for (int64_t i = 0; i < n; ++i) {
        VU word[4];
        for (int k = 0; k < 4; ++k) word[k] = counters[4 * i + k] - VU{};
        philox(word, key);
        for (int k = 0; k < 4; ++k) counters[4 * i + k] = word[k][W - 1];
    }
}
