// The rasterizer as C functions. Each returns 0, or 1 when memory ran out, or 2 when a frame exceeds what indices can hold.
#include "rasterizer.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <limits>

#include "api.h"
#include "gaussian_backward.h"

namespace splat {
namespace {

enum Status { OK, OUT_OF_MEMORY, TOO_LARGE };

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

Status forward(Workspace& w, const Frame& frame) {
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
    return OK;
}

Status backward(Workspace& w, const PictureGradients& gradients, Step& step) {
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

SPLAT_API int splat_forward(splat::Workspace* w, const splat::Frame* frame) {
    try {
        return splat::forward(*w, *frame);
    } catch (const std::bad_alloc&) {
        return splat::OUT_OF_MEMORY;
    }
}

SPLAT_API int splat_backward(splat::Workspace* w, const splat::PictureGradients* gradients, splat::Step* step) {
    try {
        return splat::backward(*w, *gradients, *step);
    } catch (const std::bad_alloc&) {
        return splat::OUT_OF_MEMORY;
    }
}
