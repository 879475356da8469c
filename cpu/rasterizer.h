// The stages of one frame and what passes between them: projection → binning → blending → (blending backward →
// Gaussian backward). One Workspace belongs to one frame at a time; frames on different workspaces are independent.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "simd.h"

#include "math/blending.h"
#include "math/projection.h"

namespace splat {

// ---- what Python hands over (mirrored in splat/rendering/cpu_structs.py, field by field) ----

struct Frame {
    int64_t count;                                              // Gaussians
    const float *means, *log_scales, *quats, *logits, *sh;      // sh: (count, sh_bands, 3)
    int32_t sh_bands, sh_degree;                                // functions stored; highest degree used
    float rotation[9], translation[3];                          // world to camera
    float fx, fy, cx, cy, near_plane, blur;
    int32_t width, height;
    float background[3];
    int32_t antialiased, with_depth, with_normal, with_weights, with_square;
    // Outputs; those not asked for are null.
    float *rgb, *alpha, *depth, *median_depth, *normal;         // (H, W[, 3])
    float* square_depth;                                        // (H, W)
    int32_t* radii;                                             // (count)
    float *means2d, *weights;                                   // (count, 2), (count)
};

// ∂L/∂pictures; null where the loss does not use one.
struct PictureGradients {
    const float *rgb, *alpha, *depth, *normal, *square_depth;
    int32_t width, height;                                      // those of the frame
};

// ---- inside ----

// A tile is 64 blocks, so that a set of them is one word; a block is the pixels that share one vector. What is paid per
// (Gaussian, tile) pair is about as much as for 4 blocks, so large tiles pay.
constexpr int BLOCK_W = 4, BLOCK_H = W / 4;
constexpr int BLOCK_COLUMNS = W == 4 ? 4 : 8, BLOCK_ROWS = 64 / BLOCK_COLUMNS;
constexpr int BLOCKS = BLOCK_COLUMNS * BLOCK_ROWS;
constexpr int TILE_W = BLOCK_COLUMNS * BLOCK_W, TILE_H = BLOCK_ROWS * BLOCK_H;  // 32×32, 32×16 or 16×16
constexpr int PIXELS = TILE_W * TILE_H;
constexpr int64_t CHUNK = 256;                   // Gaussians per unit of parallel work

// A visible Gaussian on the image: one cache line.
struct Record {
    float x, y;                  // centre, pixels
    Whitening<float> white;      // m11 m12 m22 peak
    float colour[3];
    uint32_t unused[2];
    uint32_t tile_mask;          // touched tiles of the box, row by row, if the box has at most 32; else see row_span
    int64_t first_pair;          // number of its first (Gaussian, tile) pair
    int16_t tile_x, tile_y;      // first tile of its box
    int16_t tiles_wide, tiles_high;
};
static_assert(sizeof(Record) == 64, "one cache line");

// What only pictures of depth and normals need of it.
struct DepthNormal {
    float depth, normal[3];
};

// An entry of a tile's list: which Gaussian, and the how many-th of its own tiles this is.
struct Entry {
    uint32_t gaussian, local;
};

// What blending adds up per (Gaussian, tile) in the backward pass, in this order.
enum PairSum {
    SUM_S, SUM_U, SUM_V, SUM_UU, SUM_UV, SUM_VV, SUM_RED, SUM_GREEN, SUM_BLUE,
    SUM_ABS_X, SUM_ABS_Y, SUM_DEPTH, SUM_NORMAL_X, SUM_NORMAL_Y, SUM_NORMAL_Z, SUM_SQUARE,
};
constexpr int PAIR_FLOATS_SMALL = 12, PAIR_FLOATS_LARGE = 16;  // without and with depth and normal

enum Stage { STAGE_PROJECTION, STAGE_SORT, STAGE_BINNING, STAGE_BLEND, STAGE_BLEND_BACKWARD, STAGE_GAUSSIAN_BACKWARD, STAGES };

struct Workspace {
    bool rendered = false;           // a forward pass has succeeded
    Frame frame;
    View<float> view;
    int tiles_x, tiles_y;
    int64_t visible, pairs;

    Buffer<Record> records;          // by Gaussian; only rows of visible ones are written
    Buffer<DepthNormal> depth_normals;     // likewise, with depth or normals
    Buffer<uint8_t> colour_bits;     // likewise: channels that are not clamped at 0
    Buffer<uint64_t> visible_bits;   // by Gaussian, one bit each; whole chunks
    Buffer<int64_t> first_pair;      // by Gaussian, count + 1
    Buffer<int64_t> chunk_visible, chunk_pairs;
    Buffer<uint64_t> order, order_spare;   // depth key << 32 | Gaussian
    Buffer<uint32_t> histogram;
    Buffer<int64_t> tile_cursor;
    Buffer<int64_t> tile_first;      // tiles + 1
    Buffer<Entry> entries;           // by tile, nearest first
    Buffer<float> weights;           // by pair
    Buffer<float> finals;            // per tile: planes of PIXELS numbers, see blending.cpp
    Buffer<float> pair_sums;         // by pair
    Buffer<double> pose_sums;        // by chunk

    double seconds[STAGES] = {};     // added up since the last reset
};

// Pictures blended: RGB; or also depth and normals; or also the square of the depth.
inline int blended_channels(const Frame& f) { return f.with_square ? 8 : f.with_depth || f.with_normal ? 7 : 3; }
inline int final_planes(const Frame& f) { return f.with_square ? 4 : blended_channels(f) > 3 ? 3 : 2; }
inline int pair_floats(const Frame& f) { return blended_channels(f) > 3 ? PAIR_FLOATS_LARGE : PAIR_FLOATS_SMALL; }

// projection.cpp: fills records, first_pair, order (unsorted), radii, means2d; sets visible and pairs.
void project_all(Workspace& w);
// binning.cpp: sorts by depth, fills tile_first and entries.
void sort_by_depth(Workspace& w);
void bin(Workspace& w);
// Tiles [x0, x1) of tile row `ty` that the Gaussian touches. One compiled function, so that every pass agrees.
void row_span(const Record& r, int ty, int tiles_x, int& x0, int& x1);
// Writes tile box and mask into the record and returns how many tiles are touched.
int64_t touch_tiles(Record& r, float extent_x, float extent_y, int tiles_x, int width, int height);
// blending.cpp
void blend(Workspace& w);
void blend_backward(Workspace& w, const PictureGradients& gradients, bool with_abs);

}  // namespace splat
