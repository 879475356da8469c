// What tools/bench_kernels.py measures against: the machine's arithmetic peak, and how much work a frame really held.
#include <algorithm>
#include <vector>

#include "api.h"
#include "blending.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int kChains = 12;  // enough independent sums to fill two pipelines of six cycles, few enough for 16 registers

// Says that a vector is read and changed here, in a register: the compiler may neither merge rounds nor spill the sums.
SPLAT_INLINE void hold(VF& v) {
#if defined(__AVX512F__)
    asm volatile("" : "+v"(v));
#elif defined(__x86_64__)
    asm volatile("" : "+x"(v));
#else
    asm volatile("" : "+w"(v));
#endif
}

float spin(int64_t rounds) {
    VF s0 = set1(0.50f), s1 = set1(0.51f), s2 = set1(0.52f), s3 = set1(0.53f), s4 = set1(0.54f), s5 = set1(0.55f);
    VF s6 = set1(0.56f), s7 = set1(0.57f), s8 = set1(0.58f), s9 = set1(0.59f), s10 = set1(0.60f), s11 = set1(0.61f);
    const VF factor = set1(0.999f), offset = set1(0.001f);
    auto step = [&](VF& s) {
        s = fma(factor, offset, s);  // ARM accumulates in place; so must this, or copies are measured there
        hold(s);
    };
    for (int64_t round = 0; round < rounds; ++round) {
        step(s0), step(s1), step(s2), step(s3), step(s4), step(s5);
        step(s6), step(s7), step(s8), step(s9), step(s10), step(s11);
    }
    return sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11);
}

struct Work {
    int64_t contributing = 0, evaluated = 0;
};

// The forward pass of one tile without its pictures: counts instead of blending.
Work count_tile(const Workspace& w, int index, Local* batch) {
    const int left = index % w.tiles_x * TILE_W, top = index / w.tiles_x * TILE_H;
    alignas(64) float transmittance[PIXELS];
    for (int p = 0; p < PIXELS; ++p) {
        const int block = p / W, lane = p % W;
        const int x = left + block % BLOCK_COLUMNS * BLOCK_W + lane % BLOCK_W, y = top + block / BLOCK_COLUMNS * BLOCK_H + lane / BLOCK_W;
        transmittance[p] = x < w.frame.width && y < w.frame.height ? 1.0f : -1.0f;  // negative: finished
    }
    Work work;
    for (int64_t start = w.tile_first[index]; start < w.tile_first[index + 1]; start += BATCH) {
        const int64_t stop = std::min(w.tile_first[index + 1], start + BATCH);
        prepare(w, w.tile_first[index], start, stop, static_cast<float>(left), static_cast<float>(top), batch);
        for (int i = 0; i < stop - start; ++i) {
            const Local& g = batch[i];
            const Lanes lanes(g);
            for (uint64_t blocks = g.blocks; blocks != 0; blocks &= blocks - 1) {
                const int block = __builtin_ctzll(blocks);
                const VF before = load(transmittance + block * W);
                if (none(gt(before, zero()))) continue;
                const int row = block / BLOCK_COLUMNS;
                const VF u = lanes.u + g.u_row[row] + g.u_column[block % BLOCK_COLUMNS], v = lanes.v + g.v_row[row];
                const VF q = g.peak - u * u - v * v;
                const VM seen = ge(q, set1(LOG2_ALPHA_MIN));
                const VF alpha = keep(seen, min(exp(q * 0.693147180559945f), set1(ALPHA_MAX)));
                const VF after = before - alpha * before;
                const VM blended = gt(after, set1(TRANSMITTANCE_MIN));
                work.evaluated += W;
                work.contributing += count(blended & seen);
                store(transmittance + block * W, select(blended, after, -abs(before)));
            }
        }
    }
    return work;
}

}  // namespace
}  // namespace splat

// Runs `rounds` rounds of independent multiply-adds on every thread; returns how many lanes were computed in all.
SPLAT_API int64_t splat_fma_peak(int64_t rounds) {
    using namespace splat;
    const int threads = thread_count();
    volatile float keep_result = 0;
    parallel_for_fixed(threads, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) keep_result = spin(rounds);
    });
    return rounds * kChains * W * threads;
}

// After a forward pass: Gaussian–pixel pairs that were blended (alpha ≥ 1/255, pixel not finished), and pairs evaluated.
SPLAT_API void splat_count_work(const splat::Workspace* w, int64_t* contributing, int64_t* evaluated) {
    using namespace splat;
    std::vector<Work> tiles(static_cast<size_t>(w->tiles_x) * w->tiles_y);
    parallel_for(static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end, int) {
        Local batch[BATCH];
        for (int64_t tile = begin; tile < end; ++tile) tiles[tile] = count_tile(*w, static_cast<int>(tile), batch);
    });
    *contributing = *evaluated = 0;
    for (const Work& work : tiles) {
        *contributing += work.contributing;
        *evaluated += work.evaluated;
    }
}
