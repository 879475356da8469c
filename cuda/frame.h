// What the host tells the kernels about one picture, and the records they pass to each other.
#pragma once

#include "device.h"
#include "math/blending.h"
#include "math/projection.h"

namespace splat {

constexpr int THREADS = 128;  // per block of the kernels with one thread per Gaussian, pair or tile

// One camera. `pose` holds the rotation row by row, then the translation; `device_pose`, when not null, is a 4×4 matrix in
// device memory to use instead. Laid out as `Frame` in splat/rendering/cuda_arguments.py.
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

// log₂(o·exp(−σ)) at a pixel centre, and the whitened offset (u, v) from the Gaussian's centre. Every kernel that blends
// calls this one, so that all agree on which side of a threshold a pixel lies.
SPLAT_FN float log2_alpha(float pixel_x, float pixel_y, float x, float y, float m11, float m12, float m22, float peak, float& u, float& v) {
    const float dx = pixel_x - x, dy = pixel_y - y;
    u = m11 * dx + m12 * dy;
    v = m22 * dy;
    return peak - (u * u + v * v);
}

// Sums over pixels that the backward blending leaves per Gaussian.
enum Sum { S, SU, SV, SUU, SUV, SVV, ABS_X, ABS_Y, RED, GREEN, BLUE, DEPTH, NORMAL_X, NORMAL_Y, NORMAL_Z, SQUARE, SUMS = 16 };

}  // namespace splat
