// Stage 5: from the sums of blending's backward pass to gradients of every Gaussian, and, fused with it, the optimiser:
// the gradients of SPAN Gaussians exist in a small scratch of the thread for just as long as Adam needs them.
#include "gaussian_backward.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "adam.h"
#include "columns.h"
#include "thread_pool.h"

#include "math/sh.h"

namespace splat {
namespace {

constexpr int SPAN = 64;  // Gaussians handled at a time; divides CHUNK, and is one word of visible_bits
constexpr int MAX_BANDS = 25;

struct Scratch {
    alignas(64) float means[SPAN * 3], log_scales[SPAN * 3], quats[SPAN * 4], logits[SPAN], sh[SPAN * 3 * MAX_BANDS];
    alignas(64) float pair_sums[W * PAIR_FLOATS_LARGE];
    alignas(64) VF pose[12];
};

// Asks for `bytes` of memory that will be needed soon.
SPLAT_INLINE void ask(const void* p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i, 1, 2);
}

// Where the rows of a span's gradients go: into the scratch (fused) or the caller's tensors.
struct Rows {
    float *means, *log_scales, *quats, *logits, *sh;
    int64_t sh_stride;
};

struct Span {
    Workspace& w;
    const Step& step;
    int64_t first;
    int size;
    int ahead;  // rows from here to those to ask for; 0 where another thread has them
    uint64_t visible;
};

// Sum of the Gaussian's pairs, in the order of its tiles.
SPLAT_INLINE void gather_pairs(const Workspace& w, int64_t gaussian, int width, float* out) {
    VF sum[PAIR_FLOATS_LARGE / W] = {};
    const float* row = w.pair_sums.data() + w.first_pair[gaussian] * width;
    for (int64_t p = w.first_pair[gaussian]; p < w.first_pair[gaussian + 1]; ++p, row += width)
        for (int k = 0; k < PAIR_FLOATS_LARGE / W; ++k) sum[k] += load_first(row + k * W, width - k * W);
    for (int k = 0; k < PAIR_FLOATS_LARGE / W; ++k) store(out + k * W, sum[k]);
}

void add_statistics(const Span& span, const uint32_t* ids, int n, const FootprintGradient<VF>& print, VF abs_x, VF abs_y) {
    const Step& s = span.step;
    const VF half_w = set1(0.5f * static_cast<float>(span.w.frame.width)), half_h = set1(0.5f * static_cast<float>(span.w.frame.height));
    alignas(64) float norm[W], norm_abs[W], centre[2][W], centre_abs[2][W];
    const VF x = print.x * half_w, y = print.y * half_h, ax = abs_x * half_w, ay = abs_y * half_h;
    store(norm, sqrt(x * x + y * y));
    store(norm_abs, sqrt(ax * ax + ay * ay));
    store(centre[0], print.x), store(centre[1], print.y);
    store(centre_abs[0], abs_x), store(centre_abs[1], abs_y);
    for (int lane = 0; lane < n; ++lane) {
        const uint32_t g = ids[lane];
        if (s.grad2d != nullptr) s.grad2d[g] += norm[lane];
        if (s.grad2d_abs != nullptr) s.grad2d_abs[g] += norm_abs[lane];
        if (s.count != nullptr) s.count[g] += 1.0f;
        for (int i = 0; i < 2; ++i) {
            if (s.means2d != nullptr) s.means2d[2 * g + i] = centre[i][lane];
            if (s.means2d_abs != nullptr) s.means2d_abs[2 * g + i] = centre_abs[i][lane];
        }
    }
}

// Gradients of up to W visible Gaussians of the span.
template <int DEGREE>
void backward_group(const Span& span, const uint32_t* ids, int n, const Rows& rows, Scratch& scratch) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    Workspace& w = span.w;
    const Frame& f = w.frame;
    const int width = pair_floats(f);
    for (int lane = 0; lane < n; ++lane) gather_pairs(w, ids[lane], width, scratch.pair_sums + lane * PAIR_FLOATS_LARGE);
    VF sum[PAIR_FLOATS_LARGE];
    load_columns<PAIR_FLOATS_LARGE>(rows_at(scratch.pair_sums, PAIR_FLOATS_LARGE, n), sum);

    Gaussian<VF> g;
    VF logit[1];
    load_columns<3>(rows_at(f.means, 3, ids, n), g.mean);
    load_columns<3>(rows_at(f.log_scales, 3, ids, n), g.log_scale);
    load_columns<4>(rows_at(f.quats, 4, ids, n), g.quat);
    load_columns<1>(rows_at(f.logits, 1, ids, n), logit);
    g.logit = logit[0];
    Geometry<VF> geometry;
    Footprint<VF> print;
    project(g, w.view, geometry, print);
    const Whitening<VF> white = whiten(print);

    FootprintGradient<VF> outer;
    moments_backward<VF>({sum[SUM_S], sum[SUM_U], sum[SUM_V], sum[SUM_UU], sum[SUM_UV], sum[SUM_VV]}, white, print.opacity, outer);
    outer.depth = fma(2.0f * print.depth, sum[SUM_SQUARE], sum[SUM_DEPTH]);
    for (int i = 0; i < 3; ++i) outer.normal[i] = sum[SUM_NORMAL_X + i];
    const VF two_ln2 = set1(2.0f * LN_2);
    add_statistics(span, ids, n, outer, two_ln2 * white.m11 * sum[SUM_ABS_X], two_ln2 * sum[SUM_ABS_Y]);

    GaussianGradient<VF> inner;
    if (f.with_normal) project_backward<true>(g, w.view, geometry, white, outer, inner);
    else project_backward<false>(g, w.view, geometry, white, outer, inner);

    VF direction[3], basis[K], coefficients[3 * K], along[K], turn[3], colour[3];
    const VF inverse = view_direction(g.mean, w.view, direction);
    sh_basis<DEGREE>(direction[0], direction[1], direction[2], basis);
    alignas(64) int32_t shown[W] = {};
    for (int lane = 0; lane < n; ++lane) shown[lane] = w.colour_bits[ids[lane]];
    for (int c = 0; c < 3; ++c) colour[c] = select(eq(load(shown) & set1(1 << c), set1(0)), zero(), sum[SUM_RED + c]);
    if (DEGREE > 0) {
        load_columns<3 * K>(rows_at(f.sh, 3 * static_cast<int64_t>(f.sh_bands), ids, n), coefficients);
        for (int k = 0; k < K; ++k)
            along[k] = fma(coefficients[3 * k], colour[0], fma(coefficients[3 * k + 1], colour[1], coefficients[3 * k + 2] * colour[2]));
        sh_basis_backward<DEGREE>(direction[0], direction[1], direction[2], along, turn);
        view_direction_backward(w.view, direction, inverse, turn, inner);
    }
    for (int k = 0; k < K; ++k)
        for (int c = 0; c < 3; ++c) coefficients[3 * k + c] = basis[k] * colour[c];

    const VM valid = first_lanes(n);
    for (int i = 0; i < 9; ++i) scratch.pose[i] += keep(valid, inner.pose_r[i]);
    for (int i = 0; i < 3; ++i) scratch.pose[9 + i] += keep(valid, inner.pose_t[i]);
    uint32_t local[W];
    for (int lane = 0; lane < n; ++lane) local[lane] = ids[lane] - static_cast<uint32_t>(span.first);
    scatter_columns<3>(rows.means, 3, local, n, inner.mean);
    scatter_columns<3>(rows.log_scales, 3, local, n, inner.log_scale);
    scatter_columns<4>(rows.quats, 4, local, n, inner.quat);
    scatter_columns<1>(rows.logits, 1, local, n, &inner.logit);
    scatter_columns<3 * K>(rows.sh, rows.sh_stride, local, n, coefficients);
}

using BackwardGroup = void (*)(const Span&, const uint32_t*, int, const Rows&, Scratch&);
constexpr BackwardGroup BACKWARD_GROUP[5] = {backward_group<0>, backward_group<1>, backward_group<2>, backward_group<3>,
                                             backward_group<4>};

// Whether all of p[0 … n) is finite: x·0 is NaN for what is not, and NaN survives a sum.
bool finite(const float* p, int64_t n) {
    VF total = zero();
    int64_t i = 0;
    for (; i + W <= n; i += W) total = fma(load(p + i), zero(), total);
    total = fma(load_first(p + i, static_cast<int>(n - i)), zero(), total);
    return all(eq(total, zero()));
}

// ∂/∂logit of weight · Σ sigmoid(logit), ∂/∂log_scale of weight · Σ exp(log_scale), onto the gradients.
void add_regularisers(const Span& span, const Rows& rows) {
    const Frame& f = span.w.frame;
    if (span.step.opacity_weight != 0.0f)
        for (int i = 0; i < span.size; i += W) {
            const VF o = sigmoid(load_first(f.logits + span.first + i, span.size - i));
            const VF g = load_first(rows.logits + i, span.size - i);
            store_first(rows.logits + i, fma(o * (1.0f - o), set1(span.step.opacity_weight), g), span.size - i);
        }
    if (span.step.scale_weight != 0.0f)
        for (int i = 0; i < 3 * span.size; i += W) {
            const VF s = exp(load_first(f.log_scales + 3 * span.first + i, 3 * span.size - i));
            const VF g = load_first(rows.log_scales + i, 3 * span.size - i);
            store_first(rows.log_scales + i, fma(s, set1(span.step.scale_weight), g), 3 * span.size - i);
        }
}

// One optimised tensor: its rows are `stride` floats apart, of which the first rates.width are updated.
struct Field {
    float *p, *m, *v;
    int64_t stride;
    AdamRates rates;
};

// Adam on the span's rows of one tensor. `gradient` rows are rates.width apart. Returns false if some row was skipped
// because its gradient is not finite.
bool update_field(const Span& span, const Adam& adam, const Field& field, const float* gradient) {
    const int width = field.rates.width;
    const bool good = finite(gradient, static_cast<int64_t>(span.size) * width);
    // The same rows of the next span are asked for along the way: all at once beforehand would keep Adam waiting.
    const int64_t at = span.first * field.stride, ahead = span.ahead * field.stride;
    if (good && !span.step.visible_only && field.stride == width) {
        adam_rows(adam, field.rates, field.p + at, field.m + at, field.v + at, gradient, span.size, ahead);
        return true;
    }
    for (int i = 0; i < span.size; ++i) {
        if (span.step.visible_only && (span.visible >> i & 1) == 0) continue;
        if (!good && !finite(gradient + i * width, width)) continue;
        const int64_t row = at + i * field.stride;
        adam_rows(adam, field.rates, field.p + row, field.m + row, field.v + row, gradient + i * width, 1, ahead);
    }
    return good;
}

}  // namespace

void gaussian_backward(Workspace& w, Step& step) {
    const Frame& f = w.frame;
    const int64_t chunks = (f.count + CHUNK - 1) / CHUNK;
    const int active = 3 * (f.sh_degree + 1) * (f.sh_degree + 1), stored = 3 * f.sh_bands;
    w.pose_sums.reserve(12 * chunks);

    Adam adam{};
    Field fields[5];
    if (step.fused) {
        adam = make_adam(step.beta1, step.beta2, step.eps, step.visible_only ? 0 : step.step);
        const int widths[5] = {3, 3, 4, 1, active};
        for (int i = 0; i < 5; ++i)
            fields[i] = {step.p[i], step.m[i], step.v[i], i < 4 ? widths[i] : stored,
                         make_rates(widths[i], i < 4 ? widths[i] : 3, step.rates[i], step.rates[i < 4 ? i : 5])};
    }

    std::atomic<int32_t> nonfinite{0};
    parallel_for(chunks, 4, [&](int64_t begin, int64_t end, int) {
        Scratch scratch;
        for (int64_t c = begin; c < end; ++c) {
            for (VF& p : scratch.pose) p = zero();
            for (int64_t first = c * CHUNK; first < std::min(f.count, (c + 1) * CHUNK); first += SPAN) {
                const int64_t next = first + SPAN;
                const bool more = next + SPAN <= std::min(f.count, end * CHUNK);
                const Span span{w, step, first, static_cast<int>(std::min<int64_t>(SPAN, f.count - first)), more ? SPAN : 0,
                                w.visible_bits[first / SPAN]};
                if (more) {
                    const int width = pair_floats(f);
                    const int64_t pairs = w.first_pair[next + SPAN] - w.first_pair[next];
                    ask(w.pair_sums.data() + w.first_pair[next] * width, std::min<int64_t>(pairs * width * 4, 1 << 14));
                }
                Rows rows{scratch.means, scratch.log_scales, scratch.quats, scratch.logits, scratch.sh, active};
                if (!step.fused)
                    rows = {step.means + 3 * first, step.log_scales + 3 * first, step.quats + 4 * first, step.logits + first,
                            step.sh + stored * first, stored};
                std::memset(rows.means, 0, sizeof(float) * 3 * span.size);
                std::memset(rows.log_scales, 0, sizeof(float) * 3 * span.size);
                std::memset(rows.quats, 0, sizeof(float) * 4 * span.size);
                std::memset(rows.logits, 0, sizeof(float) * span.size);
                std::memset(rows.sh, 0, sizeof(float) * rows.sh_stride * span.size);

                uint32_t ids[SPAN];
                int n = 0;
                for (uint64_t rest = span.visible; rest != 0; rest &= rest - 1)
                    ids[n++] = static_cast<uint32_t>(first + __builtin_ctzll(rest));
                for (int i = 0; i < n; i += W) BACKWARD_GROUP[f.sh_degree](span, ids + i, std::min(W, n - i), rows, scratch);

                if (step.fused) {
                    add_regularisers(span, rows);
                    const float* gradients[5] = {rows.means, rows.log_scales, rows.quats, rows.logits, rows.sh};
                    for (int i = 0; i < 5; ++i)
                        if (!update_field(span, adam, fields[i], gradients[i])) nonfinite.fetch_or(1 << i, std::memory_order_relaxed);
                }
            }
            alignas(64) float pose[12];
            sums<12>(scratch.pose, pose);
            for (int i = 0; i < 12; ++i) w.pose_sums[12 * c + i] = pose[i];
        }
    });
    for (int i = 0; i < 12; ++i) {
        double total = 0.0;
        for (int64_t c = 0; c < chunks; ++c) total += w.pose_sums[12 * c + i];
        step.pose[i] = static_cast<float>(total);
    }
    step.nonfinite = nonfinite.load();
}

}  // namespace splat
