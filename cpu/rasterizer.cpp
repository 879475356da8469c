// The rasterizer as C functions. Those that can fail return a Status of api.h.
#include "rasterizer.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <initializer_list>
#include <limits>

#include "api.h"
#include "gaussian_backward.h"

namespace splat {
namespace {

// The clock of the stage times. SPLAT_CPU_CLOCK counts only this thread's own time, for measurements on a busy machine.
double now() {
#if defined(SPLAT_CPU_CLOCK)
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
#else
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

// Adds the life of this object to a stage's time.
class StageTimer {
public:
    StageTimer(Workspace& w, Stage stage) : total_(w.seconds[stage]), start_(now()) {}
    ~StageTimer() { total_ += now() - start_; }

private:
    double& total_;
    double start_;
};

void set_view(Workspace& w) {
    const Frame& f = w.frame;
    View<float>& v = w.view;
    for (int i = 0; i < 9; ++i) v.r[i] = f.rotation[i];
    for (int i = 0; i < 3; ++i) v.t[i] = f.translation[i];
    v.fx = f.fx, v.fy = f.fy, v.cx = f.cx, v.cy = f.cy;
    v.width = static_cast<float>(f.width), v.height = static_cast<float>(f.height);
    v.near_plane = f.near_plane;
    v.blur = f.blur;
    v.antialiased = f.antialiased;
    v.complete();
    w.tiles_x = (f.width + TILE_W - 1) / TILE_W;
    w.tiles_y = (f.height + TILE_H - 1) / TILE_H;
}

bool valid(const Frame& f) {
    const int bands = f.sh_bands;
    const bool sh = (bands == 1 || bands == 4 || bands == 9 || bands == 16 || bands == 25) && f.sh_degree >= 0 && f.sh_degree <= 4 &&
                    (f.sh_degree + 1) * (f.sh_degree + 1) <= bands;
    bool inputs = f.count >= 0 && f.width >= 1 && f.height >= 1 && f.rgb != nullptr && f.alpha != nullptr;
    for (const void* p : std::initializer_list<const void*>{f.means, f.log_scales, f.quats, f.logits, f.sh})
        inputs = inputs && readable(p, f.count);
    const bool outputs = (!f.with_depth || (f.depth && f.median_depth)) && (!f.with_normal || f.normal) &&
                         (!f.with_weights || readable(f.weights, f.count)) && (!f.with_square || f.square_depth);
    const bool lens = std::isfinite(f.fx) && std::isfinite(f.fy) && f.fx > 0 && f.fy > 0 && std::isfinite(f.cx) && std::isfinite(f.cy);
    return sh && inputs && outputs && lens && std::isfinite(f.near_plane) && std::isfinite(f.blur) && f.blur >= 0;
}

bool valid(const Workspace& w, const PictureGradients& g, const Step& s) {
    if (!w.rendered || g.width != w.frame.width || g.height != w.frame.height || s.rows != w.frame.count || s.bands != w.frame.sh_bands) return false;
    bool good = true;
    if (s.fused) {
        for (int i = 0; i < 5; ++i) good = good && readable(s.p[i], s.rows) && readable(s.m[i], s.rows) && readable(s.v[i], s.rows);
        return good && s.step >= 1 && s.beta1 >= 0 && s.beta1 < 1 && s.beta2 >= 0 && s.beta2 < 1;
    }
    for (const void* p : std::initializer_list<const void*>{s.means, s.log_scales, s.quats, s.logits, s.sh}) good = good && readable(p, s.rows);
    return good;
}

Status forward(Workspace& w, const Frame& frame) {
    w.rendered = false;
    if (!valid(frame)) return INVALID;
    // Gaussians are numbered in 32 bits, tiles along a side in 15.
    if (frame.count > std::numeric_limits<uint32_t>::max() || frame.width > 32767 * TILE_W || frame.height > 32767 * TILE_H) return TOO_LARGE;
    w.frame = frame;
    set_view(w);
    {
        StageTimer timer(w, STAGE_PROJECTION);
        project_all(w);
    }
    {
        StageTimer timer(w, STAGE_SORT);
        sort_by_depth(w);
    }
    {
        StageTimer timer(w, STAGE_BINNING);
        bin(w);
    }
    StageTimer timer(w, STAGE_BLEND);
    blend(w);
    w.rendered = true;
    return OK;
}

Status backward(Workspace& w, const PictureGradients& gradients, Step& step) {
    if (!valid(w, gradients, step)) return INVALID;
    {
        StageTimer timer(w, STAGE_BLEND_BACKWARD);
        blend_backward(w, gradients, step.means2d_abs != nullptr || step.grad2d_abs != nullptr);
    }
    StageTimer timer(w, STAGE_GAUSSIAN_BACKWARD);
    gaussian_backward(w, step);
    return OK;
}

}  // namespace

template <class Visit>
void visit_buffers(Workspace& w, Visit&& visit) {
    visit(w.records), visit(w.depth_normals), visit(w.colour_bits), visit(w.visible_bits), visit(w.first_pair), visit(w.chunk_visible), visit(w.chunk_pairs), visit(w.order);
    visit(w.order_spare), visit(w.histogram), visit(w.tile_cursor), visit(w.tile_first), visit(w.entries), visit(w.weights);
    visit(w.finals), visit(w.pair_sums), visit(w.pose_sums);
}

}  // namespace splat

SPLAT_API splat::Workspace* splat_workspace_new() { return new (std::nothrow) splat::Workspace(); }
SPLAT_API void splat_workspace_free(splat::Workspace* w) { delete w; }
// Bytes its buffers hold.
SPLAT_API int64_t splat_workspace_bytes(splat::Workspace* w) {
    int64_t total = 0;
    splat::visit_buffers(*w, [&](auto& buffer) { total += buffer.bytes(); });
    return total;
}
// Gaussians visible and (Gaussian, tile) pairs of the last frame.
SPLAT_API void splat_workspace_counts(const splat::Workspace* w, int64_t* out) {
    out[0] = w->visible;
    out[1] = w->pairs;
}
// Seconds per stage (order of enum Stage) since the last reset; `out` has room for 6.
SPLAT_API void splat_workspace_seconds(splat::Workspace* w, double* out, int reset) {
    for (int i = 0; i < splat::STAGES; ++i) {
        out[i] = w->seconds[i];
        if (reset) w->seconds[i] = 0.0;
    }
}

SPLAT_API int32_t splat_forward(splat::Workspace* w, const splat::Frame* frame) {
    if (w == nullptr || frame == nullptr) return splat::INVALID;
    try {
        return splat::forward(*w, *frame);
    } catch (const std::bad_alloc&) {
        return splat::OUT_OF_MEMORY;
    }
}

SPLAT_API int32_t splat_backward(splat::Workspace* w, const splat::PictureGradients* gradients, splat::Step* step) {
    if (w == nullptr || gradients == nullptr || step == nullptr) return splat::INVALID;
    try {
        return splat::backward(*w, *gradients, *step);
    } catch (const std::bad_alloc&) {
        return splat::OUT_OF_MEMORY;
    }
}
