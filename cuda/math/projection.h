// From a Gaussian in the world to its footprint on the image, and the gradients back.
//
// The centre goes to t = R μ + T, the covariance Σ = Q diag(s²) Qᵀ to Σ₂ = U Uᵀ + blur·I with U = J R Q diag(s) and J the
// linearised pinhole at t (Zwicker et al., EWA splatting, 2001). Far outside the image J is taken at the nearest slope
// within a margin of 0.3·tan(half field of view). Determinants are sums of squared minors of U (Cauchy–Binet): they do
// not cancel, also for very elongated Gaussians.
#pragma once

#include "base.h"

namespace splat {

// A pinhole camera, and what to do with it. All in pixels and world units; S is a scalar.
template <class S>
struct View {
    S r[9];  // world to camera, row by row
    S t[3];
    S fx, fy, cx, cy;
    S width, height;
    S near_plane;
    S blur;  // px², BLUR unless the pixels stand for a grid of another spacing
    S eye[3];                              // camera centre, world
    S slope_x0, slope_x1, slope_y0, slope_y1;  // range of x/z and y/z in which J follows the centre
    int antialiased;

    // The members that follow from the others.
    SPLAT_FN void complete() {
        for (int j = 0; j < 3; ++j) eye[j] = -(r[j] * t[0] + r[3 + j] * t[1] + r[6 + j] * t[2]);
        const S margin_x = S(0.15) * width / fx, margin_y = S(0.15) * height / fy;
        slope_x0 = -(cx / fx + margin_x), slope_x1 = (width - cx) / fx + margin_x;
        slope_y0 = -(cy / fy + margin_y), slope_y1 = (height - cy) / fy + margin_y;
    }
};

// One Gaussian (or a vector of them) as it is stored.
template <class F>
struct Gaussian {
    F mean[3];
    F log_scale[3];
    F quat[4];  // w x y z, any length
    F logit;    // opacity before the sigmoid
};

// How it looks on the image.
template <class F>
struct Footprint {
    F x, y;             // centre, pixels
    F depth;            // z in the camera
    F xx, xy, yy, det;  // covariance with blur, px², and its determinant
    F opacity;          // after anti-aliasing compensation
    F extent_x, extent_y;  // half-size of the box outside which α < ALPHA_MIN, pixels
};

// The falloff around the centre: with d = pixel − centre and (u, v) = M d, M = [m11 m12; 0 m22], MᵀM = ½ log₂e · Σ₂⁻¹,
// log₂ α = peak − (u² + v²).
template <class F>
struct Whitening {
    F m11, m12, m22;
    F peak;  // log₂ of the opacity
};
constexpr float WHITE = 0.849321800288019f;  // √(½ log₂e)

// Everything both directions need.
template <class F>
struct Geometry {
    F t[3], inv_z;
    F slope_x, slope_y;  // clamped
    Mask<F> free_x, free_y;  // where they were not
    F inv_norm, q[4];    // unit quaternion, and 1/length before
    Mask<F> tiny;        // length below 1e-12: not normalised
    F rot[9], s[3];
    F w[6], u[6];        // J R, and U; two rows of three
    F minor[3];          // cross product of the rows of U
    F sharp_det, xx, xy, yy, det;
    F own_opacity, factor;
    Mask<F> compensated;
};

template <class F, class S>
SPLAT_FN void find_geometry(const Gaussian<F>& g, const View<S>& view, Geometry<F>& o) {
    for (int i = 0; i < 3; ++i)
        o.t[i] = view.r[3 * i] * g.mean[0] + view.r[3 * i + 1] * g.mean[1] + view.r[3 * i + 2] * g.mean[2] + view.t[i];
    o.inv_z = S(1) / o.t[2];
    const F x = o.t[0] * o.inv_z, y = o.t[1] * o.inv_z;
    o.free_x = ge(x, view.slope_x0 + F()) & le(x, view.slope_x1 + F());
    o.free_y = ge(y, view.slope_y0 + F()) & le(y, view.slope_y1 + F());
    o.slope_x = min(max(x, view.slope_x0 + F()), view.slope_x1 + F());
    o.slope_y = min(max(y, view.slope_y0 + F()), view.slope_y1 + F());

    const F norm = sqrt(g.quat[0] * g.quat[0] + g.quat[1] * g.quat[1] + g.quat[2] * g.quat[2] + g.quat[3] * g.quat[3]);
    o.tiny = lt(norm, S(1e-12) + F());
    o.inv_norm = S(1) / max(norm, S(1e-12) + F());
    for (int i = 0; i < 4; ++i) o.q[i] = g.quat[i] * o.inv_norm;
    const F qw = o.q[0], qx = o.q[1], qy = o.q[2], qz = o.q[3];
    o.rot[0] = S(1) - S(2) * (qy * qy + qz * qz);
    o.rot[1] = S(2) * (qx * qy - qw * qz);
    o.rot[2] = S(2) * (qx * qz + qw * qy);
    o.rot[3] = S(2) * (qx * qy + qw * qz);
    o.rot[4] = S(1) - S(2) * (qx * qx + qz * qz);
    o.rot[5] = S(2) * (qy * qz - qw * qx);
    o.rot[6] = S(2) * (qx * qz - qw * qy);
    o.rot[7] = S(2) * (qy * qz + qw * qx);
    o.rot[8] = S(1) - S(2) * (qx * qx + qy * qy);
    for (int k = 0; k < 3; ++k) o.s[k] = exp(g.log_scale[k]);

    const F jx = view.fx * o.inv_z, jy = view.fy * o.inv_z;
    for (int j = 0; j < 3; ++j) {
        o.w[j] = jx * (view.r[j] - o.slope_x * view.r[6 + j]);
        o.w[3 + j] = jy * (view.r[3 + j] - o.slope_y * view.r[6 + j]);
    }
    for (int i = 0; i < 2; ++i)
        for (int k = 0; k < 3; ++k)
            o.u[3 * i + k] = (o.w[3 * i] * o.rot[k] + o.w[3 * i + 1] * o.rot[3 + k] + o.w[3 * i + 2] * o.rot[6 + k]) * o.s[k];
    const F* a = o.u;
    const F* b = o.u + 3;
    o.minor[0] = a[1] * b[2] - a[2] * b[1];
    o.minor[1] = a[2] * b[0] - a[0] * b[2];
    o.minor[2] = a[0] * b[1] - a[1] * b[0];
    const F sharp_xx = a[0] * a[0] + a[1] * a[1] + a[2] * a[2];
    const F sharp_yy = b[0] * b[0] + b[1] * b[1] + b[2] * b[2];
    o.xy = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    o.sharp_det = o.minor[0] * o.minor[0] + o.minor[1] * o.minor[1] + o.minor[2] * o.minor[2];
    o.det = o.sharp_det + view.blur * (sharp_xx + sharp_yy) + view.blur * view.blur;
    o.xx = sharp_xx + view.blur;
    o.yy = sharp_yy + view.blur;

    o.own_opacity = sigmoid(g.logit);
    o.factor = S(1) + F();
    o.compensated = lt(o.det, o.det);  // nowhere
    if (view.antialiased) {
        const F ratio = o.sharp_det / o.det;
        const S least = S(COMPENSATION_MIN) * S(COMPENSATION_MIN);
        o.compensated = ge(ratio, least + F());
        o.factor = sqrt(max(ratio, least + F()));
    }
}

// The footprint, and whether the Gaussian is drawn at all. NaN or infinity in any input: it is not.
template <class F, class S>
SPLAT_FN Mask<F> project(const Gaussian<F>& g, const View<S>& view, Geometry<F>& o, Footprint<F>& out) {
    find_geometry(g, view, o);
    out.x = view.fx * o.t[0] * o.inv_z + view.cx;
    out.y = view.fy * o.t[1] * o.inv_z + view.cy;
    out.depth = o.t[2];
    out.xx = o.xx, out.xy = o.xy, out.yy = o.yy, out.det = o.det;
    out.opacity = o.own_opacity * o.factor;
    const F reach = S(2) * log(max(out.opacity, S(ALPHA_MIN) + F()) * S(1 / ALPHA_MIN));
    out.extent_x = sqrt(max(reach, F()) * o.xx);
    out.extent_y = sqrt(max(reach, F()) * o.yy);
    const F zero = F();
    // exp may turn NaN into a number, so what goes through it is looked at here.
    const F numbers = g.log_scale[0] + g.log_scale[1] + g.log_scale[2] + g.logit;
    return ge(numbers, numbers) & ge(out.depth, view.near_plane + F()) & ge(out.opacity, S(ALPHA_MIN) + F()) & lt(out.det, S(1e37) + F()) &
           gt(out.x + out.extent_x, zero) & lt(out.x - out.extent_x, view.width + F()) &
           gt(out.y + out.extent_y, zero) & lt(out.y - out.extent_y, view.height + F());
}

// Which axis (0, 1, 2) is the shortest, the first of equals, as lane masks of being 1 and being 2.
template <class F>
SPLAT_FN void shortest_axis(const Gaussian<F>& g, Mask<F>& is1, Mask<F>& is2) {
    is2 = lt(g.log_scale[2], min(g.log_scale[0], g.log_scale[1]));
    is1 = lt(g.log_scale[1], g.log_scale[0]);  // is2 wins
}

// Shortest axis in camera axes, turned towards the camera. `axis` is it in the world, `sign` ±1.
template <class F, class S>
SPLAT_FN void find_normal(const Gaussian<F>& g, const View<S>& view, const Geometry<F>& o, F normal[3], F axis[3], F& sign) {
    Mask<F> is1, is2;
    shortest_axis(g, is1, is2);
    for (int j = 0; j < 3; ++j) axis[j] = select(is2, o.rot[3 * j + 2], select(is1, o.rot[3 * j + 1], o.rot[3 * j]));
    F facing = F();
    for (int i = 0; i < 3; ++i) {
        normal[i] = view.r[3 * i] * axis[0] + view.r[3 * i + 1] * axis[1] + view.r[3 * i + 2] * axis[2];
        facing = facing + normal[i] * o.t[i];
    }
    sign = select(gt(facing, F()), S(-1) + F(), S(1) + F());
    for (int i = 0; i < 3; ++i) normal[i] = normal[i] * sign;
}

// ∂L/∂footprint. The covariance's part stays in whitened coordinates, as sums over pixels of s·(u², uv, v²) with
// s = −∂L/∂σ = α ∂L/∂α: there ∂L/∂log(scale) of a long needle has no cancelling terms.
template <class F>
struct FootprintGradient {
    F x, y, uu, uv, vv, opacity, depth, normal[3];
};

// ∂L/∂Gaussian, and this Gaussian's share of ∂L/∂pose (r: 3×3 row by row, t).
template <class F>
struct GaussianGradient {
    F mean[3], log_scale[3], quat[4], logit;
    F pose_r[9], pose_t[3];
};

// The chain rule through `project` (and `find_normal` if WITH_NORMAL). Lanes that are not drawn give rubbish: mask them.
template <bool WITH_NORMAL, class F, class S>
SPLAT_FN void project_backward(
    const Gaussian<F>& g, const View<S>& view, const Geometry<F>& o, const Whitening<F>& white, const FootprintGradient<F>& in,
    GaussianGradient<F>& out) {
    const F z = o.inv_z;
    F rot[9];  // ∂L/∂Q
    for (int i = 0; i < 9; ++i) rot[i] = F(), out.pose_r[i] = F();

    // opacity = own · factor, factor² = det U Uᵀ / det Σ₂
    F det_weight = F(), blur_weight = F();
    out.logit = in.opacity * o.factor * o.own_opacity * (S(1) - o.own_opacity);
    if (view.antialiased) {
        const F ratio = o.sharp_det / o.det;
        const F per_ratio = keep(o.compensated, S(0.5) * in.opacity * o.own_opacity / o.factor) / o.det;
        det_weight = per_ratio * (S(1) - ratio);       // ∂L/∂(det U Uᵀ), as it stands in both determinants
        blur_weight = -per_ratio * ratio * view.blur;    // ∂L/∂(trace U Uᵀ)
    }

    // ∂L/∂Σ₂ = ½ c² Mᵀ S M with S the moments and c = 2 ln 2 (Σ₂⁻¹ d = c Mᵀ (u, v)), so ∂L/∂U = c² Mᵀ S P with P = M U.
    // Its rows: p = WHITE/√(Σyy det)·(Σyy a − Σxy b), and Σyy a − Σxy b = blur·a + b × (a × b); q = WHITE/√Σyy·b.
    const F* a = o.u;
    const F* b = o.u + 3;
    const F* m = o.minor;
    constexpr float squared = 4.0f * LN_2 * LN_2;
    const F to_q = S(WHITE) / sqrt(o.yy), to_p = to_q / sqrt(o.det);
    const F gd = S(2) * det_weight, gt = S(2) * blur_weight;
    F ga[3], gb[3];  // ∂L/∂(rows of U)
    for (int k = 0; k < 3; ++k) {
        const int k1 = (k + 1) % 3, k2 = (k + 2) % 3;
        const F p = to_p * (view.blur * a[k] + (b[k1] * m[k2] - b[k2] * m[k1])), q = to_q * b[k];
        const F sp = S(squared) * (in.uu * p + in.uv * q), sq = S(squared) * (in.uv * p + in.vv * q);
        ga[k] = white.m11 * sp + gd * (b[k1] * m[k2] - b[k2] * m[k1]) + gt * a[k];
        gb[k] = white.m12 * sp + white.m22 * sq + gd * (m[k1] * a[k2] - m[k2] * a[k1]) + gt * b[k];
        out.log_scale[k] = p * sp + q * sq + gd * (m[k1] * m[k1] + m[k2] * m[k2]) + gt * (a[k] * a[k] + b[k] * b[k]);
    }

    // U = W Q diag(s), W = J R
    F wa[3], wb[3];  // ∂L/∂(rows of W)
    for (int j = 0; j < 3; ++j) wa[j] = F(), wb[j] = F();
    for (int k = 0; k < 3; ++k) {
        const F va = ga[k] * o.s[k], vb = gb[k] * o.s[k];
        for (int j = 0; j < 3; ++j) {
            rot[3 * j + k] = o.w[j] * va + o.w[3 + j] * vb;
            wa[j] = wa[j] + va * o.rot[3 * j + k];
            wb[j] = wb[j] + vb * o.rot[3 * j + k];
        }
    }
    // J = [jx 0 −jx·slope_x; 0 jy −jy·slope_y], jx = fx / z; slope = t_x / z where it follows the centre
    const F jx = view.fx * z, jy = view.fy * z;
    F along_x = F(), along_y = F(), over_x = F(), over_y = F();
    for (int j = 0; j < 3; ++j) {
        along_x = along_x + wa[j] * view.r[j];
        over_x = over_x + wa[j] * view.r[6 + j];
        along_y = along_y + wb[j] * view.r[3 + j];
        over_y = over_y + wb[j] * view.r[6 + j];
        out.pose_r[j] = jx * wa[j];
        out.pose_r[3 + j] = jy * wb[j];
        out.pose_r[6 + j] = -(jx * o.slope_x * wa[j] + jy * o.slope_y * wb[j]);
    }
    const F slope_gx = keep(o.free_x, -jx * over_x), slope_gy = keep(o.free_y, -jy * over_y);  // ∂L/∂slope

    // centre, and depth
    const F tx = jx * in.x + slope_gx * z, ty = jy * in.y + slope_gy * z;
    const F tz = in.depth - (tx * o.t[0] + ty * o.t[1]) * z -
                 z * (jx * (along_x - o.slope_x * over_x) + jy * (along_y - o.slope_y * over_y));

    if (WITH_NORMAL) {
        F normal[3], axis[3], sign;
        find_normal(g, view, o, normal, axis, sign);
        Mask<F> is1, is2;
        shortest_axis(g, is1, is2);
        for (int j = 0; j < 3; ++j) {
            F share = F();
            for (int i = 0; i < 3; ++i) {
                share = share + sign * in.normal[i] * view.r[3 * i + j];
                out.pose_r[3 * i + j] = out.pose_r[3 * i + j] + sign * in.normal[i] * axis[j];
            }
            rot[3 * j + 2] = rot[3 * j + 2] + keep(is2, share);
            rot[3 * j + 1] = rot[3 * j + 1] + select(is2, F(), keep(is1, share));
            rot[3 * j] = rot[3 * j] + select(is2, F(), select(is1, F(), share));
        }
    }

    out.pose_t[0] = tx, out.pose_t[1] = ty, out.pose_t[2] = tz;
    for (int j = 0; j < 3; ++j) {
        out.mean[j] = view.r[j] * tx + view.r[3 + j] * ty + view.r[6 + j] * tz;
        out.pose_r[j] = out.pose_r[j] + tx * g.mean[j];
        out.pose_r[3 + j] = out.pose_r[3 + j] + ty * g.mean[j];
        out.pose_r[6 + j] = out.pose_r[6 + j] + tz * g.mean[j];
    }

    const F w = o.q[0], x = o.q[1], y = o.q[2], c = o.q[3];
    F q[4];
    q[0] = S(2) * (c * (rot[3] - rot[1]) + y * (rot[2] - rot[6]) + x * (rot[7] - rot[5]));
    q[1] = S(2) * (y * (rot[1] + rot[3]) + c * (rot[2] + rot[6]) + w * (rot[7] - rot[5])) - S(4) * x * (rot[4] + rot[8]);
    q[2] = S(2) * (x * (rot[1] + rot[3]) + c * (rot[5] + rot[7]) + w * (rot[2] - rot[6])) - S(4) * y * (rot[0] + rot[8]);
    q[3] = S(2) * (x * (rot[2] + rot[6]) + y * (rot[5] + rot[7]) + w * (rot[3] - rot[1])) - S(4) * c * (rot[0] + rot[4]);
    const F along = select(o.tiny, F(), q[0] * w + q[1] * x + q[2] * y + q[3] * c);
    for (int i = 0; i < 4; ++i) out.quat[i] = (q[i] - along * o.q[i]) * o.inv_norm;
}

// ---- the direction in which a Gaussian is seen ----

// Unit vector from the camera centre to the Gaussian, and 1 / distance.
template <class F, class S>
SPLAT_FN F view_direction(const F mean[3], const View<S>& view, F direction[3]) {
    for (int j = 0; j < 3; ++j) direction[j] = mean[j] - view.eye[j];
    const F length = sqrt(direction[0] * direction[0] + direction[1] * direction[1] + direction[2] * direction[2]);
    const F inverse = S(1) / max(length, S(1e-12) + F());
    for (int j = 0; j < 3; ++j) direction[j] = direction[j] * inverse;
    return inverse;
}

// Adds the gradients that reach mean and pose through that direction. `in` is ∂L/∂direction.
template <class F, class S>
SPLAT_FN void view_direction_backward(
    const View<S>& view, const F direction[3], F inverse, const F in[3], GaussianGradient<F>& out) {
    const F along = in[0] * direction[0] + in[1] * direction[1] + in[2] * direction[2];
    F g[3];
    for (int j = 0; j < 3; ++j) {
        g[j] = (in[j] - along * direction[j]) * inverse;
        out.mean[j] = out.mean[j] + g[j];
    }
    // μ − eye = μ + Rᵀ T
    for (int i = 0; i < 3; ++i) {
        out.pose_t[i] = out.pose_t[i] + view.r[3 * i] * g[0] + view.r[3 * i + 1] * g[1] + view.r[3 * i + 2] * g[2];
        for (int j = 0; j < 3; ++j) out.pose_r[3 * i + j] = out.pose_r[3 * i + j] + view.t[i] * g[j];
    }
}

}  // namespace splat
