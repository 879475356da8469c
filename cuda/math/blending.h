// From footprints to pixels: the falloff of a Gaussian in whitened coordinates, and the gradients back from six moments.
//
// With d = pixel − centre, σ = ½ dᵀ Σ₂⁻¹ d and α = o·e^{−σ}, write log₂ α = peak − (u² + v²), where (u, v) = M d and
// M = [m11 m12; 0 m22] is upper triangular with MᵀM = ½ log₂e · Σ₂⁻¹. Sums of squares do not cancel, α needs one exp2,
// and ∂L/∂(centre, Σ₂, opacity) are linear in the sums over pixels of s·(1, u, v, u², uv, v²), s = α ∂L/∂α.
#pragma once

#include "base.h"
#include "projection.h"

namespace splat {

constexpr float LOG2_ALPHA_MIN = -7.99435343685885793f;   // log₂(1/255)
constexpr float LOG2_ALPHA_MAX = -0.01449956969511509f;   // log₂(0.99)

template <class F>
SPLAT_FN Whitening<F> whiten(const Footprint<F>& f) {
    constexpr float k = WHITE;
    const F root_yy = sqrt(f.yy), root_det = sqrt(f.det);
    return {k * root_yy / root_det, -k * f.xy / (root_yy * root_det), k / root_yy, log(f.opacity) * LOG2_E};
}

// Sums over pixels of s·(1, u, v, u², uv, v²); s is 0 where o·e^{−σ} exceeds ALPHA_MAX.
template <class F>
struct Moments {
    F s, u, v, uu, uv, vv;
};

// ∂L/∂footprint, depth and normal excepted. Source: ∂L/∂centre = Σ s Σ₂⁻¹ d = 2 ln 2 · Mᵀ Σ s (u, v).
template <class F>
SPLAT_FN void moments_backward(const Moments<F>& m, const Whitening<F>& w, F opacity, FootprintGradient<F>& out) {
    constexpr float c = 2.0f * LN_2;
    out.x = c * w.m11 * m.u;
    out.y = c * (w.m12 * m.u + w.m22 * m.v);
    out.uu = m.uu, out.uv = m.uv, out.vv = m.vv;
    out.opacity = m.s / opacity;
}

}  // namespace splat
