// Lists of Gaussians per tile, nearest first. The Gaussians come in depth order; each writes (tile, itself) for every tile
// it reaches; a stable radix sort by tile (splat/native/cuda_sort.py; 16-bit keys up to 4K) then gives all lists at once.
#include "chunks.h"
#include "tiles.h"

namespace splat {

constexpr int THREADS = 128;
constexpr int LARGE = 32;  // Gaussians of more tiles than this are written by a whole warp

// Pairs of the Gaussian `order[t]` go to [ends[t] − tiles, ends[t]).
template <class Key>
SPLAT_FN void emit(const float4* splats, const int* tiles, const int* order, const i64* ends, int n, int columns, int rows,
                   Key* keys, int* ids) {
    const int t = thread_of_grid(), lane = threadIdx.x % WARP;
    const int id = t < n ? order[t] : 0;
    const int count = t < n ? tiles[id] : 0;
    const i64 begin = t < n ? ends[t] - count : 0;
    if (count > 0 && count <= LARGE) {
        const Splat s = load_splat(splats, id);
        const Range reached = tile_rows(s, rows);
        i64 at = begin;
        for (int row = reached.first; row <= reached.last; ++row) {
            const Range across = tile_columns(s, row, columns);
            for (int column = across.first; column <= across.last; ++column, ++at) {
                keys[at] = static_cast<Key>(row * columns + column);
                ids[at] = id;
            }
        }
    }
    for (unsigned large = __ballot_sync(ALL_LANES, count > LARGE); large != 0; large &= large - 1) {
        const int owner = __ffs(static_cast<int>(large)) - 1;
        const int own_id = __shfl_sync(ALL_LANES, id, owner);
        i64 at = __shfl_sync(ALL_LANES, begin, owner);
        const Splat s = load_splat(splats, own_id);
        const Range reached = tile_rows(s, rows);
        for (int first = reached.first; first <= reached.last; first += WARP) {  // each lane takes a row
            const int row = first + lane;
            Range across = {0, -1};
            if (row <= reached.last) across = tile_columns(s, row, columns);
            int before = across.count();
            for (int step = 1; step < WARP; step *= 2) {
                const int lower_lanes = __shfl_up_sync(ALL_LANES, before, step);
                if (lane >= step) before += lower_lanes;
            }
            i64 mine = at + before - across.count();
            for (int column = across.first; column <= across.last; ++column, ++mine) {
                keys[mine] = static_cast<Key>(row * columns + column);
                ids[mine] = own_id;
            }
            at += __shfl_sync(ALL_LANES, before, WARP - 1);
        }
    }
}

// Where each tile's list begins and ends among the sorted keys (both 0 for tiles without any, set by the caller).
template <class Key>
SPLAT_FN void find_ranges(const Key* keys, int pairs, int2* ranges) {
    const int p = thread_of_grid();
    if (p >= pairs) return;
    const Key tile = keys[p];
    if (p == 0 || keys[p - 1] != tile) ranges[tile].x = p;
    if (p == pairs - 1 || keys[p + 1] != tile) ranges[tile].y = p + 1;
}

}  // namespace splat

#define BINNING(NAME, KEY)                                                                                           \
    KERNEL(splat::THREADS) emit_##NAME(const float4* splats, const int* tiles, const int* order,                    \
                                       const splat::i64* ends, int n, int columns, int rows, KEY* keys, int* ids) { \
        splat::emit<KEY>(splats, tiles, order, ends, n, columns, rows, keys, ids);                                   \
    }                                                                                                                \
    KERNEL(splat::THREADS) find_ranges_##NAME(const KEY* keys, int pairs, int2* ranges) {                            \
        splat::find_ranges<KEY>(keys, pairs, ranges);                                                                \
    }

BINNING(short, short)
BINNING(int, int)

KERNEL(128) count_chunks(const int2* ranges, int tiles, int* counts) {
    const int tile = splat::thread_of_grid();
    if (tile < tiles) counts[tile] = splat::chunks_of(ranges[tile]);
}
