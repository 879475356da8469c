// Adam (Kingma & Ba 2015), one parameter at a time.
#pragma once

#include "device.h"

namespace splat {

// Laid out as `Adam` in splat/native/cuda_structs.py. rate_scale = 1 / (1 − β1ᵗ) and root_scale = 1 / √(1 − β2ᵗ); both 1
// for selective Adam, which has no bias correction.
struct Adam {
    float keep1, add1, keep2, add2;  // β1, 1 − β1, β2, 1 − β2
    float eps, rate_scale, root_scale;
};

// A parameter with its moments. Load several before storing the first: the compiler must not move loads over stores.
struct Parameter {
    float p, m, v;
};

SPLAT_FN Parameter load_parameter(const float* p, const float* m, const float* v, i64 at) { return {p[at], m[at], v[at]}; }

SPLAT_FN void store_step(const Adam& adam, const Parameter& old, float* p, float* m, float* v, i64 at, float gradient, float rate) {
    const float first = adam.keep1 * old.m + adam.add1 * gradient;
    const float second = adam.keep2 * old.v + adam.add2 * gradient * gradient;
    m[at] = first;
    v[at] = second;
    p[at] = old.p - rate * adam.rate_scale * first / (sqrt(second) * adam.root_scale + adam.eps);
}

SPLAT_FN void adam_update(const Adam& adam, float* p, float* m, float* v, i64 at, float gradient, float rate) {
    store_step(adam, load_parameter(p, m, v, at), p, m, v, at, gradient, rate);
}

SPLAT_FN bool finite(float value) { return fabsf(value) <= 3.402823466e38f; }

// Slope of a regulariser weight · Σ sigmoid(p) or weight · Σ exp(p).
SPLAT_FN float opacity_slope(float logit, float weight) {
    const float o = sigmoid(logit);
    return weight * o * (1.0f - o);
}
SPLAT_FN float scale_slope(float log_scale, float weight) { return weight * exp(log_scale); }

}  // namespace splat
