// What the host tells the kernels about one picture, and the records they pass to each other.
#pragma once

#include "device.h"
#include "math/blending.h"
#include "math/projection.h"

namespace splat {

constexpr int THREADS = 128;  // per block of the kernels with one thread per Gaussian, pair or tile

// One camera. `pose` holds the rotation row by row, then the translation; `device_pose`, when not null, is a 4×4 matrix in
// device memory to use instead. Laid out as `Frame` in splat/native/cuda_structs.py.
struct Frame {
    float pose[12];
    float fx, fy, cx, cy;
    float width, height;
    float near_plane, blur;
    int antialiased;
    const float* device_pose;
};

SPLAT_FN View<float> view_of(const Frame& frame) {
    View<float> view;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) view.r[3 * i + j] = frame.device_pose ? frame.device_pose[4 * i + j] : frame.pose[3 * i + j];
        view.t[i] = frame.device_pose ? frame.device_pose[4 * i + 3] : frame.pose[9 + i];
    }
    view.fx = frame.fx, view.fy = frame.fy, view.cx = frame.cx, view.cy = frame.cy;
    view.width = frame.width, view.height = frame.height;
    view.near_plane = frame.near_plane;
    view.blur = frame.blur;
    view.antialiased = frame.antialiased;
    view.complete();
    return view;
}

// What blending needs of one Gaussian: centre in pixels, whitening matrix, log₂ of the opacity, and the half-height of its
// box. Eight floats, read as two float4.
struct Splat {
    float x, y, m11, m12, m22, peak, extent_y, unused;
};

SPLAT_FN void store(float4* to, int index, const Splat& s) {
    to[2 * index] = make_float4(s.x, s.y, s.m11, s.m12);
    to[2 * index + 1] = make_float4(s.m22, s.peak, s.extent_y, s.unused);
}

SPLAT_FN Splat load_splat(const float4* from, int index) {
    const float4 a = from[2 * index], b = from[2 * index + 1];
    return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}

// Sums over pixels that the backward blending leaves per Gaussian, four by four as its warps add them up. ABS_U and ABS_Y:
// Σ|s u| and Σ|m12 s u + m22 s v|, of which ∂L/∂centre has no signs left.
enum Sum { RED, GREEN, BLUE, DEPTH, SU, SUU, SV, SVV, S, ABS_U, SUV, ABS_Y, NORMAL_X, NORMAL_Y, NORMAL_Z, SQUARE, SUMS };

}  // namespace splat
