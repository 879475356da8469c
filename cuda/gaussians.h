// How the kernels read a cloud.
#pragma once

#include "frame.h"
#include "math/sh.h"

namespace splat {

constexpr int THREADS = 128;  // per block of the kernels with one thread per Gaussian

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

// Colours before they are clamped at 0.
template <int DEGREE>
SPLAT_FN void shade(const float* sh, const float direction[3], float basis[], float colour[3]) {
    sh_basis<DEGREE>(direction[0], direction[1], direction[2], basis);
    for (int c = 0; c < 3; ++c) colour[c] = 0.5f;
    for (int k = 0; k < (DEGREE + 1) * (DEGREE + 1); ++k)
        for (int c = 0; c < 3; ++c) colour[c] += basis[k] * sh[3 * k + c];
}

}  // namespace splat
