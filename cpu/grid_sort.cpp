// Sorting rows into a grid so that neighbours are alike: parallel linear assignment sorting after Morgenstern et al.
// 2024 (Self-Organizing Gaussian Grids, arXiv:2312.13299, §4.1), with sliding means instead of Gaussian blurs.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "api.h"
#include "thread_pool.h"

namespace splat {
namespace {

constexpr int kWide = 16;  // floats of a row: one cache line
using V4 = float __attribute__((vector_size(16)));

struct alignas(64) Row {
    V4 part[kWide / 4];
};

uint64_t next(uint64_t& state) {  // splitmix64 (Steele et al. 2014)
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

int64_t below(uint64_t& state, int64_t bound) { return static_cast<int64_t>((static_cast<unsigned __int128>(next(state)) * bound) >> 64); }

double dot(const Row& a, const Row& b) {
    V4 sum = a.part[0] * b.part[0];
    for (int k = 1; k < kWide / 4; ++k) sum += a.part[k] * b.part[k];
    return static_cast<double>(sum[0] + sum[1]) + static_cast<double>(sum[2] + sum[3]);
}

// Index as in a mirror at both ends.
int64_t mirrored(int64_t i, int64_t size) {
    if (size == 1) return 0;
    const int64_t period = 2 * size - 2;
    i = ((i % period) + period) % period;
    return i < size ? i : period - i;
}

// out[i] = mean of the 2r+1 rows around line[i]; `stride` rows from one to the next, the ends mirrored.
void box(const Row* line, Row* out, int64_t size, int64_t stride, int64_t r) {
    Row sum{};
    for (int64_t k = -r; k <= r; ++k)
        for (int p = 0; p < kWide / 4; ++p) sum.part[p] += line[mirrored(k, size) * stride].part[p];
    const float share = 1.0f / static_cast<float>(2 * r + 1);
    for (int64_t i = 0; i < size; ++i) {
        const Row& in = line[mirrored(i + r + 1, size) * stride];
        const Row& gone = line[mirrored(i - r, size) * stride];
        for (int p = 0; p < kWide / 4; ++p) {
            out[i * stride].part[p] = sum.part[p] * share;
            sum.part[p] += in.part[p] - gone.part[p];
        }
    }
}

struct Grid {
    int64_t height, width;
    std::vector<Row> rows, target, between;
    std::vector<int32_t> order;  // row of the input at each place

    void blur(int64_t r) {
        const int64_t rx = std::min(r, width - 1), ry = std::min(r, height - 1);
        parallel_for(height, 8, [&](int64_t begin, int64_t end, int) {
            for (int64_t y = begin; y < end; ++y) box(&rows[y * width], &between[y * width], width, 1, rx);
        });
        parallel_for(width, 8, [&](int64_t begin, int64_t end, int) {
            for (int64_t x = begin; x < end; ++x) box(&between[x], &target[x], height, width, ry);
        });
    }

    // Σ |row − target|².
    double error() const {
        std::vector<double> sums((height + 63) / 64, 0.0);
        parallel_for(height, 64, [&](int64_t begin, int64_t end, int) {
            double sum = 0;
            for (int64_t i = begin * width; i < end * width; ++i)
                sum += dot(rows[i], rows[i]) + dot(target[i], target[i]) - 2 * dot(rows[i], target[i]);
            sums[begin / 64] = sum;
        });
        return std::accumulate(sums.begin(), sums.end(), 0.0);
    }

    // Exchange the rows at four places so that they fit their targets best; returns the gain in Σ row·target.
    float assign(const int64_t (&place)[4]) {
        float fit[4][4];
        const Row* item[4];
        for (int i = 0; i < 4; ++i) item[i] = &rows[place[i]];
        for (int j = 0; j < 4; ++j) {
            const Row& wish = target[place[j]];
            for (int i = 0; i < 4; ++i) {
                V4 sum = item[i]->part[0] * wish.part[0];
                for (int k = 1; k < kWide / 4; ++k) sum += item[i]->part[k] * wish.part[k];
                fit[i][j] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            }
        }
        static constexpr int kPairs[6][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}, {1, 2, 0, 3}, {1, 3, 0, 2}, {2, 3, 0, 1}};
        const float now = (fit[0][0] + fit[1][1]) + (fit[2][2] + fit[3][3]);
        float best = now;
        int pick = -1, turn = 0;
        for (int p = 0; p < 6; ++p) {
            const auto& [a, b, c, d] = kPairs[p];
            const float first[2] = {fit[0][a] + fit[1][b], fit[0][b] + fit[1][a]};
            const float last[2] = {fit[2][c] + fit[3][d], fit[2][d] + fit[3][c]};
            const int f = first[1] > first[0], l = last[1] > last[0];
            if (first[f] + last[l] > best) {
                best = first[f] + last[l];
                pick = p, turn = 2 * f + l;
            }
        }
        if (pick < 0) return 0;
        const auto& pair = kPairs[pick];
        const int f = turn >> 1, l = turn & 1;
        const int to[4] = {pair[f], pair[1 - f], pair[2 + l], pair[3 - l]};
        Row old[4];
        int32_t names[4];
        for (int i = 0; i < 4; ++i) old[i] = rows[place[i]], names[i] = order[place[i]];
        for (int i = 0; i < 4; ++i) rows[place[to[i]]] = old[i], order[place[to[i]]] = names[i];
        return best - now;
    }

    // One round of groups of four within blocks of `side`, shifted at random; returns the gain in Σ row·target.
    double round(int64_t side, uint64_t& state) {
        const int64_t sy = std::min(side, height), sx = std::min(side, width);
        const int64_t oy = below(state, sy), ox = below(state, sx);
        const int64_t down = height / sy, across = width / sx, cells = sy * sx, groups = cells / 4;
        std::vector<int32_t> mix(cells);
        std::iota(mix.begin(), mix.end(), 0);
        for (int64_t i = cells - 1; i > 0; --i) std::swap(mix[i], mix[below(state, i + 1)]);
        const int64_t total = down * across * groups, chunk = std::max<int64_t>(256, std::min<int64_t>(groups, 8192));
        std::vector<double> gains((total + chunk - 1) / chunk, 0.0);
        parallel_for(total, chunk, [&](int64_t begin, int64_t end, int) {
            double gain = 0;
            for (int64_t number = begin; number < end; ++number) {
                const int64_t block = number / groups, group = number % groups;
                const int64_t top = oy + (block / across) * sy, left = ox + (block % across) * sx;
                int64_t place[4];
                for (int k = 0; k < 4; ++k) {
                    const int64_t cell = mix[4 * group + k];
                    int64_t y = top + cell / sx, x = left + cell % sx;
                    y -= y >= height ? height : 0, x -= x >= width ? width : 0;  // blocks go round the edges
                    place[k] = y * width + x;
                }
                gain += assign(place);
            }
            gains[begin / chunk] = gain;
        });
        return std::accumulate(gains.begin(), gains.end(), 0.0);
    }
};

}  // namespace
}  // namespace splat

// Sort height·width rows of `dims` ≤ 16 features into a grid. order[y·width + x]: the row at that place, before and after.
// radius: of the first blur, places; decay: of the radius from one blur to the next; patience: the least relative gain
// for which a radius goes on. Same seed, same result, for any number of threads.
// rows: how many `features` has, at least height·width. Returns a Status of api.h.
SPLAT_API int32_t splat_grid_sort(const float* features, int64_t rows, int64_t height, int64_t width, int32_t dims, float radius,
                                  float decay, float patience, uint64_t seed, int32_t* order) {
    using namespace splat;
    if (dims < 1 || dims > kWide || !countable(height, width) || rows < height * width || !(decay > 0 && decay < 1)) return INVALID;
    if (!readable(features, rows) || !readable(order, height * width) || !(radius < 1e9f) || !(patience >= 0)) return INVALID;
    for (int64_t i = 0; i < height * width; ++i)
        if (order[i] < 0 || order[i] >= rows) return INVALID;
    if (height * width == 0) return OK;
    try {
        const int64_t count = height * width;
        Grid grid{height, width, std::vector<Row>(count), std::vector<Row>(count), std::vector<Row>(count),
                  std::vector<int32_t>(order, order + count)};
        parallel_for(count, 4096, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                float values[kWide] = {};
                std::memcpy(values, features + grid.order[i] * static_cast<int64_t>(dims), dims * sizeof(float));
                std::memcpy(&grid.rows[i], values, sizeof(values));
            }
        });
        uint64_t state = seed;
        for (float r = radius; r >= 1; r *= decay) {
            const int64_t reach = static_cast<int64_t>(r);
            grid.blur(reach);
            double left = std::max(grid.error(), 1e-30);
            const int64_t side = std::max<int64_t>(16, 2 * reach + 2);
            for (int number = 0, idle = 0; number < 64 && idle < 2; ++number) {
                const double gain = 2 * grid.round(side, state);
                idle = gain < patience * left ? idle + 1 : 0;
                left -= gain;
            }
        }
        std::copy(grid.order.begin(), grid.order.end(), order);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
