// Lists of Gaussians per tile, nearest first. Those that reach a tile are gathered and sorted by depth; each writes (tile,
// itself) for every tile it reaches; a stable radix sort by tile (splat/native/cuda_sort.py; 16-bit keys up to 4K) then
// gives all lists at once.
#include "chunks.h"
#include "tiles.h"

namespace splat {

constexpr int LARGE = 32;  // Gaussians of more tiles than this are written by a whole warp

// Numbers and depths of the Gaussians that reach a tile, in the order of their numbers. totals (blocks × 2): such Gaussians
// (and pairs) in all blocks of projection up to and with each.
SPLAT_FN void gather(const int* tiles, const float* depths, const i64* totals, int n, float* keys, int* ids) {
    SHARED(int, reaching, THREADS / WARP);
    const int i = thread_of_grid(), lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const bool mine = i < n && tiles[i] > 0;
    const unsigned lanes = __ballot_sync(ALL_LANES, mine);
    if (lane == 0) reaching[warp] = __popc(lanes);
    __syncthreads();
    if (!mine) return;
    i64 at = blockIdx.x > 0 ? totals[2 * (blockIdx.x - 1)] : 0;
    for (int before = 0; before < warp; ++before) at += reaching[before];
    at += __popc(lanes & ((1u << lane) - 1u));
    keys[at] = depths[i];
    ids[at] = i;
}

// Pairs of the Gaussian `order[t]` go to [ends[t] − tiles, ends[t]), never beyond. Were there fewer than counted, pairs of
// a tile one past the last would fill the rest: they sort behind all lists, and find_ranges passes them over.
template <class Key>
SPLAT_FN void emit(const float4* splats, const int* tiles, const int* order, const i64* ends, int n, int columns, int rows,
                   Key* keys, int* ids) {
    const int t = thread_of_grid(), lane = threadIdx.x % WARP;
    const int id = t < n ? order[t] : 0;
    const int count = t < n ? tiles[id] : 0;
    const i64 end = t < n ? ends[t] : 0;
    const Key none = static_cast<Key>(columns * rows);
    if (count > 0 && count <= LARGE) {
        const Reached reached(load_splat(splats, id), columns, rows);
        i64 at = end - count;
        for (int row = reached.rows.first; row <= reached.rows.last && at < end; ++row) {
            const Range across = reached.across(row);
            for (int column = across.first; column <= across.last && at < end; ++column, ++at) {
                keys[at] = static_cast<Key>(row * columns + column);
                ids[at] = id;
            }
        }
        for (; at < end; ++at) keys[at] = none, ids[at] = id;
    }
    for (unsigned large = __ballot_sync(ALL_LANES, count > LARGE); large != 0; large &= large - 1) {
        const int owner = __ffs(static_cast<int>(large)) - 1;
        const int own_id = __shfl_sync(ALL_LANES, id, owner);
        const i64 own_end = __shfl_sync(ALL_LANES, end, owner);
        i64 at = own_end - __shfl_sync(ALL_LANES, count, owner);
        const Reached reached(load_splat(splats, own_id), columns, rows);
        for (int first = reached.rows.first; first <= reached.rows.last; first += WARP) {  // each lane takes a row
            const int row = first + lane;
            Range across = {0, -1};
            if (row <= reached.rows.last) across = reached.across(row);
            int before = across.count();
            for (int step = 1; step < WARP; step *= 2) {
                const int lower_lanes = __shfl_up_sync(ALL_LANES, before, step);
                if (lane >= step) before += lower_lanes;
            }
            i64 mine = at + before - across.count();
            for (int column = across.first; column <= across.last && mine < own_end; ++column, ++mine) {
                keys[mine] = static_cast<Key>(row * columns + column);
                ids[mine] = own_id;
            }
            at += __shfl_sync(ALL_LANES, before, WARP - 1);
        }
        for (i64 hole = at + lane; hole < own_end; hole += WARP) keys[hole] = none, ids[hole] = own_id;
    }
}

// Where each tile's list begins and ends among the sorted keys (both 0 for tiles without any, set by the caller). Keys
// that are no tile's mark no list.
template <class Key>
SPLAT_FN void find_ranges(const Key* keys, int pairs, int tiles, int2* ranges) {
    const int p = thread_of_grid();
    if (p >= pairs) return;
    const Key tile = keys[p];
    if (tile < 0 || tile >= tiles) return;
    if (p == 0 || keys[p - 1] != tile) ranges[tile].x = p;
    if (p == pairs - 1 || keys[p + 1] != tile) ranges[tile].y = p + 1;
}

}  // namespace splat

#define BINNING(NAME, KEY)                                                                                           \
    KERNEL(splat::THREADS) emit_##NAME(const float4* splats, const int* tiles, const int* order,                    \
                                       const splat::i64* ends, int n, int columns, int rows, KEY* keys, int* ids) { \
        splat::emit<KEY>(splats, tiles, order, ends, n, columns, rows, keys, ids);                                   \
    }                                                                                                                \
    KERNEL(splat::THREADS) find_ranges_##NAME(const KEY* keys, int pairs, int tiles, int2* ranges) {                 \
        splat::find_ranges<KEY>(keys, pairs, tiles, ranges);                                                         \
    }

BINNING(short, short)
BINNING(int, int)

KERNEL(splat::THREADS) gather_reaching(const int* tiles, const float* depths, const splat::i64* totals, int n, float* keys, int* ids) {
    splat::gather(tiles, depths, totals, n, keys, ids);
}

// Tiles of the Gaussian `order[t]`, 0 from `n` up to `room`.
KERNEL(splat::THREADS) tiles_in_order(const int* tiles, const int* order, int n, int room, splat::i64* counts) {
    const int t = splat::thread_of_grid();
    if (t < room) counts[t] = t < n ? tiles[order[t]] : 0;
}

KERNEL(splat::THREADS) count_chunks(const int2* ranges, int tiles, int* counts) {
    const int tile = splat::thread_of_grid();
    if (tile < tiles) counts[tile] = splat::chunks_of(ranges[tile]);
}
