// Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al. 2024, arXiv:2404.09591): exploration noise and relocation.
#include "math/projection.h"
#include "math/random.h"

#include "device.h"

namespace splat {

constexpr int MAX_RATIO = 51;
constexpr float GATE_MIN = 1e-12f;  // below this the noise is lost in the rounding of the position

// Philox4x32 with 10 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four random words that
// depend on key and counter alone.
SPLAT_FN void philox(unsigned counter[4], u64 key) {
    unsigned k0 = static_cast<unsigned>(key), k1 = static_cast<unsigned>(key >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const unsigned high0 = __umulhi(counter[0], PHILOX_FACTOR_0), low0 = counter[0] * PHILOX_FACTOR_0;
        const unsigned high1 = __umulhi(counter[2], PHILOX_FACTOR_1), low1 = counter[2] * PHILOX_FACTOR_1;
        counter[0] = high1 ^ counter[1] ^ k0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ k1;
        counter[3] = low0;
        k0 += PHILOX_WEYL_0;
        k1 += PHILOX_WEYL_1;
    }
}

// A number in (0, 1], a multiple of 2⁻²⁴.
SPLAT_FN float unit(unsigned word) { return static_cast<float>((word >> 8) + 1u) * RANDOM_UNIT; }

struct Noise {
    float* means;
    const float *log_scales, *quats, *logits;
    int n;
    float min_opacity, strength;
    u64 seed, step;
};

struct Relocation {
    const float *logits, *log_scales;
    const i64* ratios;
    int n;
    double min_opacity;
    float *new_logits, *new_log_scales;
};

// means += Σ·η·sigmoid(−100 (o − min_opacity))·strength; η standard normal, from (seed, step, row) alone.
KERNEL(128) mcmc_noise(Noise a) {
    const int i = thread_of_grid();
    if (i >= a.n) return;
    const float gate = sigmoid(-100.0f * (sigmoid(a.logits[i]) - a.min_opacity));
    if (!(gate >= GATE_MIN)) return;
    unsigned word[4] = {static_cast<unsigned>(i), 0u, static_cast<unsigned>(a.step), static_cast<unsigned>(a.step >> 32)};
    philox(word, a.seed);
    // Box & Muller 1958
    const float radius = sqrt(-2.0f * log(unit(word[0]))), other = sqrt(-2.0f * log(unit(word[2])));
    float sine, cosine, unused, third;
    sincospif(2.0f * unit(word[1]), &sine, &cosine);
    sincospif(2.0f * unit(word[3]), &unused, &third);
    const float normal[3] = {radius * cosine, radius * sine, other * third};

    float q[4], length = 0.0f;
    for (int j = 0; j < 4; ++j) q[j] = a.quats[4 * i + j], length += q[j] * q[j];
    const float inverse = 1.0f / max(sqrt(length), 1e-12f);
    const float w = q[0] * inverse, x = q[1] * inverse, y = q[2] * inverse, z = q[3] * inverse;
    const float r[3][3] = {{1.0f - 2.0f * (y * y + z * z), 2.0f * (x * y - w * z), 2.0f * (x * z + w * y)},
                           {2.0f * (x * y + w * z), 1.0f - 2.0f * (x * x + z * z), 2.0f * (y * z - w * x)},
                           {2.0f * (x * z - w * y), 2.0f * (y * z + w * x), 1.0f - 2.0f * (x * x + y * y)}};
    float own[3];
    for (int axis = 0; axis < 3; ++axis) {
        const float s = exp(a.log_scales[3 * i + axis]);
        own[axis] = (r[0][axis] * normal[0] + r[1][axis] * normal[1] + r[2][axis] * normal[2]) * s * s * gate * a.strength;
    }
    for (int axis = 0; axis < 3; ++axis)
        a.means[3 * i + axis] += r[axis][0] * own[0] + r[axis][1] * own[1] + r[axis][2] * own[2];
}

// A Gaussian that becomes `ratio` equal ones which together look the same (eq. 9 of the paper): new opacity logits and log
// scales. With o' = 1 − (1 − o)^(1/n):  s' = s·o / D,  D = Σⱼ₌₁ⁿ C(n, j) (−1)^(j+1) o'ʲ / √j. In double, which the
// alternating sum needs; few rows are relocated at a time.
KERNEL(128) mcmc_relocate(Relocation a) {
    const int i = thread_of_grid();
    if (i >= a.n) return;
    const i64 ratio = a.ratios[i];
    const int n = ratio < 1 ? 1 : ratio > MAX_RATIO ? MAX_RATIO : static_cast<int>(ratio);
    const double logit = a.logits[i], opacity = sigmoid(logit);
    // ln (1 − o) without the cancellation of 1 − o near 1
    const double log_rest = logit > 0.0 ? -logit - log1p(exp(-logit)) : -log1p(exp(logit));
    const double share = min(max(-expm1(log_rest / n), a.min_opacity), 1.0 - 1.1920929e-7);
    double sum = 0.0, term = -1.0;
    for (int j = 1; j <= n; ++j) {
        term *= -share * (n - j + 1) / j;  // (−1)^(j+1) C(n, j) shareʲ
        sum += term / sqrt(static_cast<double>(j));
    }
    const float shift = n == 1 ? 0.0f : static_cast<float>(log(opacity / sum));
    a.new_logits[i] = static_cast<float>(log(share / (1.0 - share)));
    for (int axis = 0; axis < 3; ++axis) a.new_log_scales[3 * i + axis] = a.log_scales[3 * i + axis] + shift;
}

}  // namespace splat
