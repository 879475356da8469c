// Adam on any tensor, for gradients that come from elsewhere than the fused backward pass.
#include "adam.h"

namespace splat {

constexpr int THREADS = 256;

// One step on a (rows, width) tensor, width ≤ 256. The first `head` columns learn at head_rate, the others at tail_rate.
// regulariser: 0 none, 1 adds weight · ∂Σ sigmoid(p), 2 adds weight · ∂Σ exp(p). visible (rows): rows with 0 are left alone;
// null updates all. Rows with a gradient that is not finite are left alone too; *first_bad becomes the first of them.
struct Rows {
    float *p, *m, *v;
    const float* g;
    const unsigned char* visible;
    int rows, width, head;
    float head_rate, tail_rate;
    Adam adam;
    int regulariser;
    float weight;
    int* first_bad;
};

// Each block takes as many whole rows as it has threads for.
KERNEL(256) adam_rows(Rows a) {
    SHARED(int, bad, THREADS);  // per row of the block
    const int rows_here = THREADS / a.width, t = threadIdx.x, own = t / a.width, column = t % a.width;
    const int row = blockIdx.x * rows_here + own;
    const bool exists = own < rows_here && row < a.rows;
    const i64 at = static_cast<i64>(row) * a.width + column;
    bad[t] = 0;
    __syncthreads();
    const float gradient = exists ? a.g[at] : 0.0f;
    if (exists && !finite(gradient)) atomicAdd(&bad[own], 1);
    __syncthreads();
    if (!exists) return;
    if (bad[own] > 0) {
        if (column == 0) atomicMin(a.first_bad, row);
        return;
    }
    if (a.visible && !a.visible[row]) return;
    float slope = 0.0f;
    if (a.regulariser == 1) slope = opacity_slope(a.p[at], a.weight);
    if (a.regulariser == 2) slope = scale_slope(a.p[at], a.weight);
    adam_update(a.adam, a.p, a.m, a.v, at, gradient + slope, column < a.head ? a.head_rate : a.tail_rate);
}

}  // namespace splat
