// From the sums of the backward blending to the gradient of every Gaussian: into tensors, or straight into Adam, so that no
// gradient tensors exist. One thread per Gaussian; the rows of SH, which are long, are then written by the whole block.
#include "adam.h"
#include "gaussians.h"

namespace splat {

// ∂L/∂cloud, with the cloud's shapes.
struct Gradients {
    float *means, *log_scales, *quats, *logits, *sh, *means2d, *means2d_abs;
};

// One step of Adam in place. p, m, v: means, log_scales, quats, logits, sh; rates: of those, then of SH beyond DC. The
// weights are those of the regularisers per element. Of the statistics (N), any may be null. Laid out as `FusedAdam` in
// splat/native/cuda_structs.py.
struct FusedAdam {
    float *p[5], *m[5], *v[5];
    float rates[6];
    Adam adam;
    int visible_only;
    float opacity_weight, scale_weight;
    float *grad2d, *grad2d_abs, *count;
    int* nonfinite;  // bit i: some row of tensor i had a gradient that is not finite, and was left alone
};

// What one thread knows of its Gaussian after the chain rule.
template <int DEGREE>
struct Found {
    static constexpr int BANDS = (DEGREE + 1) * (DEGREE + 1);
    bool drawn;
    float centre[2], centre_abs[2];
    GaussianGradient<float> gradient;
    float basis[BANDS], colour[3];  // ∂L/∂sh[k][c] = basis[k] · colour[c]
};

template <int DEGREE>
SPLAT_FN void chain(const Cloud& cloud, const View<float>& view, int i, float4 clamped, const float* sums, bool with_normal, Found<DEGREE>& found) {
    const Gaussian<float> g = load(cloud, i);
    Geometry<float> geometry;
    Footprint<float> f;
    project(g, view, geometry, f);
    const Whitening<float> w = whiten(f);
    FootprintGradient<float> screen;
    moments_backward({sums[S], sums[SU], sums[SV], sums[SUU], sums[SUV], sums[SVV]}, w, f.opacity, screen);
    screen.depth = sums[DEPTH] + 2.0f * f.depth * sums[SQUARE];
    for (int j = 0; j < 3; ++j) screen.normal[j] = sums[NORMAL_X + j];
    if (with_normal)
        project_backward<true>(g, view, geometry, w, screen, found.gradient);
    else
        project_backward<false>(g, view, geometry, w, screen, found.gradient);
    found.centre[0] = screen.x, found.centre[1] = screen.y;
    found.centre_abs[0] = sums[ABS_X], found.centre_abs[1] = sums[ABS_Y];

    float direction[3];
    const float inverse = view_direction(g.mean, view, direction);
    sh_basis<DEGREE>(direction[0], direction[1], direction[2], found.basis);
    found.colour[0] = clamped.x > 0.0f ? sums[RED] : 0.0f;
    found.colour[1] = clamped.y > 0.0f ? sums[GREEN] : 0.0f;
    found.colour[2] = clamped.z > 0.0f ? sums[BLUE] : 0.0f;
    if constexpr (DEGREE > 0) {
        float along[Found<DEGREE>::BANDS], towards[3];
        for_each_coefficient<DEGREE>(cloud, i, [&](int k, const float* value) {
            along[k] = value[0] * found.colour[0] + value[1] * found.colour[1] + value[2] * found.colour[2];
        });
        sh_basis_backward<DEGREE>(direction[0], direction[1], direction[2], along, towards);
        view_direction_backward(view, direction, inverse, towards, found.gradient);
    }
}

// What the backward pass reads per Gaussian: radius (0 where not drawn), colour as it was blended, sums over pixels.
struct Drawn {
    const int* radii;
    const float4* features;
    const float* sums;
    int with_normal;
};

// The chain for this thread's Gaussian; all zero where it is not drawn.
template <int DEGREE>
SPLAT_FN Found<DEGREE> find(const Cloud& cloud, const Frame& frame, const Drawn& from) {
    Found<DEGREE> found = {};
    const int i = thread_of_grid();
    found.drawn = i < cloud.n && from.radii[i] > 0;
    if (found.drawn)
        chain<DEGREE>(cloud, view_of(frame), i, from.features[i], from.sums + static_cast<i64>(i) * SUMS, from.with_normal != 0, found);
    return found;
}

constexpr int POSE_ROWS = 32;  // as in splat/rendering/cuda.py

// Adds every thread's share of the pose gradient (rotation row by row, translation) to one of POSE_ROWS rows, so that not
// all blocks meet at the same words. All threads of the block call it.
SPLAT_FN void add_pose(const GaussianGradient<float>& g, double* pose) {
    constexpr int WARPS = THREADS / WARP;
    SHARED(float, partial, 12 * WARPS);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int k = 0; k < 12; ++k) {
        const float sum = warp_sum(k < 9 ? g.pose_r[k % 9] : g.pose_t[k % 3]);
        if (lane == 0) partial[12 * warp + k] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 12) {
        double total = 0.0;
        for (int other = 0; other < WARPS; ++other) total += partial[12 * other + threadIdx.x];
        if (total != 0.0) atomicAdd(pose + 12 * (blockIdx.x % POSE_ROWS) + threadIdx.x, total);
    }
}

// An element of the (N, bands, 3) tensor, and its row within the block; −1 for none.
struct Element {
    i64 at;
    int row, column;
    float gradient;
};
constexpr int BATCH = 4;

// Calls write(BATCH elements) until all of the block's rows have been handed out, neighbouring threads on neighbouring
// elements. Bands beyond `bands_used` are left out. All threads call it.
template <int DEGREE, class Write>
SPLAT_FN void for_each_sh(const Cloud& cloud, const Found<DEGREE>& found, int bands_used, Write write) {
    constexpr int BANDS = Found<DEGREE>::BANDS, PITCH = BANDS | 1;  // odd, against bank conflicts
    SHARED(float, basis, THREADS * PITCH);
    SHARED(float, colour, THREADS * 3);
    const int t = threadIdx.x, first = blockIdx.x * THREADS;
    for (int k = 0; k < BANDS; ++k) basis[t * PITCH + k] = found.basis[k];
    for (int c = 0; c < 3; ++c) colour[t * 3 + c] = found.colour[c];
    __syncthreads();
    const int width = 3 * bands_used, rows = lower(THREADS, cloud.n - first);
    for (int begin = t; begin < rows * width; begin += BATCH * THREADS) {
        Element batch[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            const int e = begin + b * THREADS, row = e / width, column = e % width, k = column / 3;
            batch[b].row = e < rows * width ? row : -1;
            if (batch[b].row < 0) continue;
            batch[b].at = static_cast<i64>(first + row) * 3 * cloud.bands + column;
            batch[b].column = column;
            batch[b].gradient = k < BANDS ? basis[row * PITCH + lower(k, BANDS - 1)] * colour[row * 3 + column % 3] : 0.0f;
        }
        write(batch);
    }
}

template <int DEGREE>
SPLAT_FN void write_gradients(const Cloud& cloud, const Frame& frame, const Drawn& from, double* pose, const Gradients& to) {
    const Found<DEGREE> found = find<DEGREE>(cloud, frame, from);
    const int i = thread_of_grid();
    if (i < cloud.n) {
        const GaussianGradient<float>& g = found.gradient;
        for (int j = 0; j < 3; ++j) {
            to.means[3 * i + j] = g.mean[j];
            to.log_scales[3 * i + j] = g.log_scale[j];
        }
        for (int j = 0; j < 4; ++j) to.quats[4 * i + j] = g.quat[j];
        to.logits[i] = g.logit;
        for (int j = 0; j < 2; ++j) {
            to.means2d[2 * i + j] = found.centre[j];
            to.means2d_abs[2 * i + j] = found.centre_abs[j];
        }
    }
    for_each_sh<DEGREE>(cloud, found, cloud.bands, [&](const Element batch[BATCH]) {
#pragma unroll
        for (int b = 0; b < BATCH; ++b)
            if (batch[b].row >= 0) to.sh[batch[b].at] = batch[b].gradient;
    });
    add_pose(found.gradient, pose);
}

// Adam on one row of up to four columns. A row whose gradient is not finite is left alone.
template <int WIDTH>
SPLAT_FN void update_row(const FusedAdam& step, int field, int row, const float gradient[WIDTH]) {
    bool good = true;
    for (int j = 0; j < WIDTH; ++j) good = good && finite(gradient[j]);
    if (!good) {
        atomicOr(step.nonfinite, 1 << field);
        return;
    }
    for (int j = 0; j < WIDTH; ++j)
        adam_update(step.adam, step.p[field], step.m[field], step.v[field], static_cast<i64>(row) * WIDTH + j, gradient[j], step.rates[field]);
}

SPLAT_FN void add_statistics(const FusedAdam& step, const Frame& frame, int i, const float centre[2], const float centre_abs[2]) {
    const float half_width = 0.5f * frame.width, half_height = 0.5f * frame.height;
    const float x = centre[0] * half_width, y = centre[1] * half_height;
    const float abs_x = centre_abs[0] * half_width, abs_y = centre_abs[1] * half_height;
    if (step.grad2d) step.grad2d[i] += sqrt(x * x + y * y);
    if (step.grad2d_abs) step.grad2d_abs[i] += sqrt(abs_x * abs_x + abs_y * abs_y);
    if (step.count) step.count[i] += 1.0f;
}

template <int DEGREE>
SPLAT_FN void write_adam(const Cloud& cloud, const Frame& frame, const Drawn& from, double* pose, const FusedAdam& step) {
    constexpr int BANDS = Found<DEGREE>::BANDS;
    SHARED(int, updated, THREADS);  // whether the row's SH is
    Found<DEGREE> found = find<DEGREE>(cloud, frame, from);
    const int i = thread_of_grid();
    bool good = i < cloud.n && (found.drawn || !step.visible_only);
    if (good) {
        if (found.drawn) add_statistics(step, frame, i, found.centre, found.centre_abs);
        GaussianGradient<float>& g = found.gradient;
        if (step.opacity_weight != 0.0f) g.logit += opacity_slope(cloud.logits[i], step.opacity_weight);
        if (step.scale_weight != 0.0f)
            for (int j = 0; j < 3; ++j) g.log_scale[j] += scale_slope(cloud.log_scales[3 * i + j], step.scale_weight);
        update_row<3>(step, 0, i, g.mean);
        update_row<3>(step, 1, i, g.log_scale);
        update_row<4>(step, 2, i, g.quat);
        update_row<1>(step, 3, i, &g.logit);
        for (int k = 0; k < BANDS; ++k)
            for (int c = 0; c < 3; ++c) good = good && finite(found.basis[k] * found.colour[c]);
        if (!good) atomicOr(step.nonfinite, 1 << 4);
    }
    updated[threadIdx.x] = good;
    // All threads have read their rows when for_each_sh begins to write: it starts with a barrier.
    float *p = step.p[4], *m = step.m[4], *v = step.v[4];
    for_each_sh<DEGREE>(cloud, found, BANDS, [&](const Element batch[BATCH]) {
        Parameter old[BATCH];
        bool moves[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            moves[b] = batch[b].row >= 0 && updated[batch[b].row] != 0;
            if (moves[b]) old[b] = load_parameter(p, m, v, batch[b].at);
        }
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            const float rate = step.rates[batch[b].column < 3 ? 4 : 5];
            if (moves[b]) store_step(step.adam, old[b], p, m, v, batch[b].at, batch[b].gradient, rate);
        }
    });
    add_pose(found.gradient, pose);
}

}  // namespace splat

#define GAUSSIAN_BACKWARD(DEGREE)                                                                                        \
    KERNEL(splat::THREADS) gaussian_backward_sh##DEGREE(splat::Cloud cloud, splat::Frame frame, splat::Drawn from,      \
                                                        double* pose, splat::Gradients to) {                            \
        splat::write_gradients<DEGREE>(cloud, frame, from, pose, to);                                                    \
    }                                                                                                                    \
    KERNEL(splat::THREADS) gaussian_backward_adam_sh##DEGREE(splat::Cloud cloud, splat::Frame frame, splat::Drawn from, \
                                                             double* pose, splat::FusedAdam step) {                     \
        splat::write_adam<DEGREE>(cloud, frame, from, pose, step);                                                       \
    }

GAUSSIAN_BACKWARD(0)
GAUSSIAN_BACKWARD(1)
GAUSSIAN_BACKWARD(2)
GAUSSIAN_BACKWARD(3)
GAUSSIAN_BACKWARD(4)
