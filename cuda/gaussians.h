// How the kernels read a cloud.
#pragma once

#include "frame.h"
#include "math/sh.h"

namespace splat {

// The tensors of a GaussianCloud with n rows; `bands` coefficients are stored, of which the kernel's degree uses the first.
struct Cloud {
    const float *means, *log_scales, *quats, *logits, *sh;
    int n, bands;
};

SPLAT_FN Gaussian<float> load(const Cloud& cloud, int i) {
    Gaussian<float> g;
    for (int j = 0; j < 3; ++j) {
        g.mean[j] = cloud.means[3 * i + j];
        g.log_scale[j] = cloud.log_scales[3 * i + j];
    }
    for (int j = 0; j < 4; ++j) g.quat[j] = cloud.quats[4 * i + j];
    g.logit = cloud.logits[i];
    return g;
}

// Calls use(k, the three values of coefficient k) for row `i`: by 16 bytes at a time where the rows allow it, as with 4 and
// 16 bands, since neighbouring threads read far apart and every load counts.
template <int DEGREE, class Use>
SPLAT_FN void for_each_coefficient(const Cloud& cloud, int i, Use use) {
    constexpr int BANDS = (DEGREE + 1) * (DEGREE + 1);
    const float* sh = cloud.sh + static_cast<i64>(i) * 3 * cloud.bands;
    if (DEGREE > 0 && cloud.bands % 4 == 0 && reinterpret_cast<u64>(cloud.sh) % sizeof(float4) == 0) {
#pragma unroll
        for (int k = 0; k < BANDS; k += 4) {
            const float4* from = reinterpret_cast<const float4*>(sh + 3 * k);
            const float4 a = from[0], b = from[1], c = from[2];
            const float values[12] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x, c.y, c.z, c.w};
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (k + j < BANDS) use(k + j, values + 3 * j);
        }
    } else {
#pragma unroll
        for (int k = 0; k < BANDS; ++k) use(k, sh + 3 * k);
    }
}

// Colour before it is clamped at 0.
template <int DEGREE>
SPLAT_FN void shade(const Cloud& cloud, int i, const float direction[3], float colour[3]) {
    float basis[(DEGREE + 1) * (DEGREE + 1)];
    sh_basis<DEGREE>(direction[0], direction[1], direction[2], basis);
    for (int c = 0; c < 3; ++c) colour[c] = 0.5f;
    for_each_coefficient<DEGREE>(cloud, i, [&](int k, const float* value) {
        for (int c = 0; c < 3; ++c) colour[c] += basis[k] * value[c];
    });
}

}  // namespace splat
