// From the cloud to footprints on the image. One thread per Gaussian; one kernel per SH degree, so that its loops unroll.
#include "gaussians.h"
#include "tiles.h"

namespace splat {

// Per Gaussian: splat, RGB and depth, normal (where asked for), depth again as sort key (where it reaches a tile), centre,
// radius, number of tiles. totals (blocks × 2): the Gaussians of each block that reach a tile, and their tiles.
struct Projected {
    float4 *splats, *features, *normals;
    float *depths, *means2d;
    int *radii, *tiles, *totals;
};

// Returns the number of tiles.
template <int DEGREE>
SPLAT_FN int project_one(const Cloud& cloud, const Frame& frame, const Projected& out, int i) {
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
        const Reached reached(s, columns, rows);
        for (int row = reached.rows.first; row <= reached.rows.last; ++row) tiles += reached.across(row).count();
        store(out.splats, i, s);

        float direction[3], colour[3];
        view_direction(g.mean, view, direction);
        shade<DEGREE>(cloud, i, direction, colour);
        out.features[i] = make_float4(max(colour[0], 0.0f), max(colour[1], 0.0f), max(colour[2], 0.0f), f.depth);
        if (out.normals) {
            float normal[3], axis[3], sign;
            find_normal(g, view, geometry, normal, axis, sign);
            out.normals[i] = make_float4(normal[0], normal[1], normal[2], f.depth * f.depth);
        }
    }
    if (tiles > 0) out.depths[i] = f.depth;
    out.radii[i] = drawn ? static_cast<int>(min(ceilf(max(f.extent_x, f.extent_y)), 1e9f)) : 0;
    out.means2d[2 * i] = drawn ? f.x : 0.0f;
    out.means2d[2 * i + 1] = drawn ? f.y : 0.0f;
    out.tiles[i] = tiles;
    return tiles;
}

template <int DEGREE>
SPLAT_FN void project_block(const Cloud& cloud, const Frame& frame, const Projected& out) {
    SHARED(unsigned, pairs, THREADS / WARP);
    const int i = thread_of_grid(), t = threadIdx.x;
    const int tiles = i < cloud.n ? project_one<DEGREE>(cloud, frame, out, i) : 0;
    const unsigned sum = warp_sum(static_cast<unsigned>(tiles));
    if (t % WARP == 0) pairs[t / WARP] = sum;
    const int reaching = __syncthreads_count(tiles > 0);
    if (t > 0) return;
    unsigned total = 0u;
    for (int warp = 0; warp < THREADS / WARP; ++warp) total += pairs[warp];
    out.totals[2 * blockIdx.x] = reaching;
    out.totals[2 * blockIdx.x + 1] = static_cast<int>(total);
}

}  // namespace splat

#define PROJECTION(DEGREE)                                                                                    \
    KERNEL(splat::THREADS) project_sh##DEGREE(splat::Cloud cloud, splat::Frame frame, splat::Projected out) { \
        splat::project_block<DEGREE>(cloud, frame, out);                                                       \
    }

#if WANTED(project_sh0)
PROJECTION(0)
#endif
#if WANTED(project_sh1)
PROJECTION(1)
#endif
#if WANTED(project_sh2)
PROJECTION(2)
#endif
#if WANTED(project_sh3)
PROJECTION(3)
#endif
#if WANTED(project_sh4)
PROJECTION(4)
#endif
