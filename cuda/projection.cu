// From the cloud to footprints on the image, and the gradients back. One thread per Gaussian; one kernel per SH degree, so
// that its loops unroll.
#include "frame.h"
#include "math/sh.h"
#include "tiles.h"

namespace splat {

constexpr int THREADS = 128;
constexpr float BEYOND = 3e38f;  // sorts last

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

// Per Gaussian: splat, RGB and depth, normal (where asked for), sort key (depth, +∞ where not drawn), radius, centre, tiles.
struct Projected {
    float4 *splats, *features, *normals;
    float *depths, *means2d;
    int *radii, *tiles;
};

template <int DEGREE>
SPLAT_FN void project_one(const Cloud& cloud, const Frame& frame, const Projected& out) {
    const int i = thread_of_grid();
    if (i >= cloud.n) return;
    const View<float> view = view_of(frame);
    const Gaussian<float> g = load(cloud, i);
    Geometry<float> geometry;
    Footprint<float> f;
    Splat s = {};
    int tiles = 0;
    const bool drawn = project(g, view, geometry, f);
    if (drawn) {
        const Whitening<float> w = whiten(f);
        s = {f.x, f.y, w.m11, w.m12, w.m22, w.peak, f.extent_y, 0.0f};
        const int columns = (static_cast<int>(view.width) + TILE - 1) / TILE, rows = (static_cast<int>(view.height) + TILE - 1) / TILE;
        const Range reached = tile_rows(s, rows);
        for (int row = reached.first; row <= reached.last; ++row) tiles += tile_columns(s, row, columns).count();
        store(out.splats, i, s);

        float direction[3], basis[(DEGREE + 1) * (DEGREE + 1)], colour[3];
        view_direction(g.mean, view, direction);
        shade<DEGREE>(cloud.sh + static_cast<i64>(i) * 3 * cloud.bands, direction, basis, colour);
        out.features[i] = make_float4(max(colour[0], 0.0f), max(colour[1], 0.0f), max(colour[2], 0.0f), f.depth);
        if (out.normals) {
            float normal[3], axis[3], sign;
            find_normal(g, view, geometry, normal, axis, sign);
            out.normals[i] = make_float4(normal[0], normal[1], normal[2], 0.0f);
        }
    }
    out.depths[i] = tiles > 0 ? f.depth : BEYOND;
    out.radii[i] = drawn ? static_cast<int>(min(ceilf(max(f.extent_x, f.extent_y)), 1e9f)) : 0;
    out.means2d[2 * i] = drawn ? f.x : 0.0f;
    out.means2d[2 * i + 1] = drawn ? f.y : 0.0f;
    out.tiles[i] = tiles;
}

// ∂L/∂cloud, with the cloud's shapes; the pose's (12 doubles: rotation row by row, translation) is added to.
struct CloudGradient {
    float *means, *log_scales, *quats, *logits, *sh, *means2d, *means2d_abs;
    double* pose;
};

// The chain from the sums of the backward blending to one Gaussian. `sh_gradient` gets (DEGREE+1)² × 3 values.
template <int DEGREE>
SPLAT_FN void one_backward(const Cloud& cloud, const View<float>& view, int i, const float* sums, bool with_normal, bool antialiased,
                           FootprintGradient<float>& screen, GaussianGradient<float>& out, float basis[], float colour_gradient[3]) {
    const Gaussian<float> g = load(cloud, i);
    Geometry<float> geometry;
    Footprint<float> f;
    project(g, view, geometry, f);
    const Whitening<float> w = whiten(f);
    moments_backward({sums[S], sums[SU], sums[SV], sums[SUU], sums[SUV], sums[SVV]}, w, f.opacity, screen);
    screen.depth = sums[DEPTH];
    for (int j = 0; j < 3; ++j) screen.normal[j] = sums[NORMAL_X + j];
    if (with_normal)
        project_backward<true>(g, view, geometry, w, screen, out);
    else
        project_backward<false>(g, view, geometry, w, screen, out);

    constexpr int BANDS = (DEGREE + 1) * (DEGREE + 1);
    const float* sh = cloud.sh + static_cast<i64>(i) * 3 * cloud.bands;
    float direction[3], colour[3];
    const float inverse = view_direction(g.mean, view, direction);
    shade<DEGREE>(sh, direction, basis, colour);
    for (int c = 0; c < 3; ++c) colour_gradient[c] = colour[c] >= 0.0f ? sums[RED + c] : 0.0f;
    if (DEGREE > 0) {
        float along[BANDS], towards[3];
        for (int k = 0; k < BANDS; ++k)
            along[k] = sh[3 * k] * colour_gradient[0] + sh[3 * k + 1] * colour_gradient[1] + sh[3 * k + 2] * colour_gradient[2];
        sh_basis_backward<DEGREE>(direction[0], direction[1], direction[2], along, towards);
        view_direction_backward(view, direction, inverse, towards, out);
    }
}

// Adds every thread's share of the pose gradient to `pose`. All threads of the block call it.
SPLAT_FN void add_pose(const GaussianGradient<float>& g, double* pose) {
    constexpr int WARPS = THREADS / WARP;
    SHARED(float, partial, 12 * WARPS);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int k = 0; k < 12; ++k) {
        const float sum = warp_sum(k < 9 ? g.pose_r[k] : g.pose_t[k - 9]);
        if (lane == 0) partial[12 * warp + k] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 12) {
        double total = 0.0;
        for (int other = 0; other < WARPS; ++other) total += partial[12 * other + threadIdx.x];
        if (total != 0.0) atomicAdd(pose + threadIdx.x, total);
    }
}

template <int DEGREE>
SPLAT_FN void project_one_backward(const Cloud& cloud, const Frame& frame, const int* radii, const float* sums, bool with_normal,
                                   const CloudGradient& to) {
    constexpr int BANDS = (DEGREE + 1) * (DEGREE + 1);
    const int i = thread_of_grid();
    const View<float> view = view_of(frame);
    GaussianGradient<float> g = {};
    if (i < cloud.n) {
        FootprintGradient<float> screen = {};
        float basis[BANDS], colour[3] = {};
        for (int k = 0; k < BANDS; ++k) basis[k] = 0.0f;
        const bool drawn = radii[i] > 0;
        if (drawn) one_backward<DEGREE>(cloud, view, i, sums + static_cast<i64>(i) * SUMS, with_normal, frame.antialiased, screen, g, basis, colour);
        for (int j = 0; j < 3; ++j) {
            to.means[3 * i + j] = g.mean[j];
            to.log_scales[3 * i + j] = g.log_scale[j];
        }
        for (int j = 0; j < 4; ++j) to.quats[4 * i + j] = g.quat[j];
        to.logits[i] = g.logit;
        float* sh = to.sh + static_cast<i64>(i) * 3 * cloud.bands;
        for (int k = 0; k < BANDS; ++k)
            for (int c = 0; c < 3; ++c) sh[3 * k + c] = basis[k] * colour[c];
        for (int k = 3 * BANDS; k < 3 * cloud.bands; ++k) sh[k] = 0.0f;
        to.means2d[2 * i] = screen.x;
        to.means2d[2 * i + 1] = screen.y;
        for (int j = 0; j < 2; ++j) to.means2d_abs[2 * i + j] = drawn ? sums[static_cast<i64>(i) * SUMS + ABS_X + j] : 0.0f;
    }
    if (to.pose) add_pose(g, to.pose);
}

}  // namespace splat

#define PROJECTION(DEGREE)                                                                                                \
    KERNEL(splat::THREADS) project_sh##DEGREE(splat::Cloud cloud, splat::Frame frame, splat::Projected out) {            \
        splat::project_one<DEGREE>(cloud, frame, out);                                                                    \
    }                                                                                                                     \
    KERNEL(splat::THREADS) project_backward_sh##DEGREE(splat::Cloud cloud, splat::Frame frame, const int* radii,         \
                                                       const float* sums, int with_normal, splat::CloudGradient to) {    \
        splat::project_one_backward<DEGREE>(cloud, frame, radii, sums, with_normal != 0, to);                            \
    }

PROJECTION(0)
PROJECTION(1)
PROJECTION(2)
PROJECTION(3)
PROJECTION(4)
