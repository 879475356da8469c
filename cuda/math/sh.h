// Real spherical harmonics up to degree 4, in the sign convention of the Inria `.ply` files: values and their gradient
// (Sloan, "Stupid Spherical Harmonics Tricks", 2008, appendix A2). The DEGREE is a template argument so that loops unroll.
#pragma once

#include "base.h"

namespace splat {

namespace sh {
constexpr double C0 = 0.28209479177387814, C1 = 0.4886025119029199;
constexpr double C2A = 1.0925484305920792, C2B = 0.31539156525252005, C2C = 0.5462742152960396;
constexpr double C3A = -0.5900435899266435, C3B = 2.890611442640554, C3C = -0.4570457994644658, C3D = 0.3731763325901154,
                 C3E = 1.445305721320277;
constexpr double C4A = 2.5033429417967046, C4B = -1.7701307697799304, C4C = 0.9461746957575601, C4D = -0.6690465435572892,
                 C4E = 0.10578554691520431, C4F = 0.47308734787878004, C4G = 0.6258357354491761;
}  // namespace sh

// The scalar type that goes with F.
template <class F>
struct ScalarOf {
    using type = float;
};
template <>
struct ScalarOf<double> {
    using type = double;
};

// y[0 … (DEGREE+1)²−1] at the unit direction (dx, dy, dz).
template <int DEGREE, class F>
SPLAT_FN void sh_basis(F x, F y, F z, F* out) {
    using S = typename ScalarOf<F>::type;
    out[0] = S(sh::C0) + F();
    if (DEGREE < 1) return;
    out[1] = S(-sh::C1) * y;
    out[2] = S(sh::C1) * z;
    out[3] = S(-sh::C1) * x;
    if (DEGREE < 2) return;
    const F xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    out[4] = S(sh::C2A) * xy;
    out[5] = S(-sh::C2A) * yz;
    out[6] = S(sh::C2B) * (S(2) * zz - xx - yy);
    out[7] = S(-sh::C2A) * xz;
    out[8] = S(sh::C2C) * (xx - yy);
    if (DEGREE < 3) return;
    out[9] = S(sh::C3A) * y * (S(3) * xx - yy);
    out[10] = S(sh::C3B) * xy * z;
    out[11] = S(sh::C3C) * y * (S(4) * zz - xx - yy);
    out[12] = S(sh::C3D) * z * (S(2) * zz - S(3) * xx - S(3) * yy);
    out[13] = S(sh::C3C) * x * (S(4) * zz - xx - yy);
    out[14] = S(sh::C3E) * z * (xx - yy);
    out[15] = S(sh::C3A) * x * (xx - S(3) * yy);
    if (DEGREE < 4) return;
    out[16] = S(sh::C4A) * xy * (xx - yy);
    out[17] = S(sh::C4B) * yz * (S(3) * xx - yy);
    out[18] = S(sh::C4C) * xy * (S(7) * zz - S(1));
    out[19] = S(sh::C4D) * yz * (S(7) * zz - S(3));
    out[20] = S(sh::C4E) * (zz * (S(35) * zz - S(30)) + S(3));
    out[21] = S(sh::C4D) * xz * (S(7) * zz - S(3));
    out[22] = S(sh::C4F) * (xx - yy) * (S(7) * zz - S(1));
    out[23] = S(sh::C4B) * xz * (xx - S(3) * yy);
    out[24] = S(sh::C4G) * (xx * (xx - S(3) * yy) - yy * (S(3) * xx - yy));
}

// out = Σₖ a[k] ∇yₖ, the gradient of the polynomials above (its part along the direction itself is meaningless, and
// view_direction_backward drops it).
template <int DEGREE, class F>
SPLAT_FN void sh_basis_backward(F x, F y, F z, const F* a, F out[3]) {
    using S = typename ScalarOf<F>::type;
    out[0] = out[1] = out[2] = F();
    if (DEGREE < 1) return;
    F gx = S(-sh::C1) * a[3], gy = S(-sh::C1) * a[1], gz = S(sh::C1) * a[2];
    if (DEGREE >= 2) {
        gx = gx + S(sh::C2A) * (y * a[4] - z * a[7]) + S(2) * x * (S(sh::C2C) * a[8] - S(sh::C2B) * a[6]);
        gy = gy + S(sh::C2A) * (x * a[4] - z * a[5]) - S(2) * y * (S(sh::C2C) * a[8] + S(sh::C2B) * a[6]);
        gz = gz - S(sh::C2A) * (y * a[5] + x * a[7]) + S(4 * sh::C2B) * z * a[6];
    }
    if (DEGREE >= 3) {
        const F xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
        const F a9 = S(sh::C3A) * a[9], a10 = S(sh::C3B) * a[10], a11 = S(sh::C3C) * a[11], a12 = S(sh::C3D) * a[12];
        const F a13 = S(sh::C3C) * a[13], a14 = S(sh::C3E) * a[14], a15 = S(sh::C3A) * a[15];
        gx = gx + S(6) * xy * a9 + yz * a10 - S(2) * xy * a11 - S(6) * xz * a12 + (S(4) * zz - S(3) * xx - yy) * a13 +
             S(2) * xz * a14 + S(3) * (xx - yy) * a15;
        gy = gy + S(3) * (xx - yy) * a9 + xz * a10 + (S(4) * zz - xx - S(3) * yy) * a11 - S(6) * yz * a12 -
             S(2) * xy * a13 - S(2) * yz * a14 - S(6) * xy * a15;
        gz = gz + xy * a10 + S(8) * yz * a11 + (S(6) * zz - S(3) * xx - S(3) * yy) * a12 + S(8) * xz * a13 + (xx - yy) * a14;
        if (DEGREE >= 4) {
            const F xyz = xy * z, seven1 = S(7) * zz - S(1), seven3 = S(7) * zz - S(3), three = S(21) * zz - S(3);
            const F a16 = S(sh::C4A) * a[16], a17 = S(sh::C4B) * a[17], a18 = S(sh::C4C) * a[18], a19 = S(sh::C4D) * a[19];
            const F a20 = S(sh::C4E) * a[20], a21 = S(sh::C4D) * a[21], a22 = S(sh::C4F) * a[22], a23 = S(sh::C4B) * a[23];
            const F a24 = S(sh::C4G) * a[24];
            gx = gx + y * (S(3) * xx - yy) * a16 + S(6) * xyz * a17 + y * seven1 * a18 + z * seven3 * a21 +
                 S(2) * x * seven1 * a22 + S(3) * z * (xx - yy) * a23 + S(4) * x * (xx - S(3) * yy) * a24;
            gy = gy + x * (xx - S(3) * yy) * a16 + S(3) * z * (xx - yy) * a17 + x * seven1 * a18 + z * seven3 * a19 -
                 S(2) * y * seven1 * a22 - S(6) * xyz * a23 + S(4) * y * (yy - S(3) * xx) * a24;
            gz = gz + y * (S(3) * xx - yy) * a17 + S(14) * xyz * a18 + y * three * a19 + z * (S(140) * zz - S(60)) * a20 +
                 x * three * a21 + S(14) * z * (xx - yy) * a22 + x * (xx - S(3) * yy) * a23;
        }
    }
    out[0] = gx, out[1] = gy, out[2] = gz;
}

}  // namespace splat
