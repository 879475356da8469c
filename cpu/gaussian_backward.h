#pragma once

#include "rasterizer.h"
#include "reduce.h"

namespace splat {

// What to do with the gradients of a frame (mirrored in splat/rendering/cpu_structs.py). Pointers to what is not wanted are null.
struct Step {
    // Not fused: write the gradients here, shapes of the cloud's tensors.
    float *means, *log_scales, *quats, *logits, *sh;
    float *means2d, *means2d_abs;  // (count, 2); rows of invisible Gaussians are left as they are
    // Fused: update parameters p with moments m, v, in the order means, log_scales, quats, logits, sh.
    int32_t fused, visible_only;
    int64_t rows;                  // those of the frame
    int32_t bands;                 // SH functions stored, those of the frame
    float *p[5], *m[5], *v[5];
    float rates[6];                // the same order; sh has two: DC, then the rest
    double beta1, beta2, eps;
    int64_t step;                  // counted from 1
    float opacity_weight, scale_weight;  // of Σ opacity and Σ scale in the loss
    float *grad2d, *grad2d_abs, *count;  // (count) statistics to go on with
    // Results.
    float pose[12];                // ∂L/∂rotation row by row, ∂L/∂translation
    int32_t nonfinite;             // bit i: the gradient of tensor i was not finite in some row
};

void gaussian_backward(Workspace& w, Step& step);

}  // namespace splat
