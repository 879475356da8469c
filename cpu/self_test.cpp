// Exported only for the project's own tests: the thread pool and the vector math of this build variant.
#include <atomic>
#include <new>

#include "api.h"
#include "simd.h"
#include "thread_pool.h"

// A loop of `count` items that adds (item + 1) · (nested loop's sum) into *total: for the pool's own tests.
SPLAT_API void splat_test_pool(int64_t count, int64_t chunk, int fixed, int64_t* total) {
    std::atomic<int64_t> sum{0};
    auto body = [&](int64_t begin, int64_t end, int worker) {
        if (worker < 0 || worker >= splat::thread_count()) return;
        for (int64_t item = begin; item < end; ++item)
            splat::parallel_for(3, 1, [&](int64_t a, int64_t b, int) { sum += (item + 1) * (b - a); });
    };
    if (fixed) splat::parallel_for_fixed(count, chunk, body);
    else splat::parallel_for(count, chunk, body);
    *total = sum;
}

// A loop of `count` items of which every third throws std::bad_alloc: 1 if that came through, 0 if not.
// *running gets the number of bodies that were still at work then.
SPLAT_API int splat_test_pool_failure(int64_t count, int64_t* running) {
    std::atomic<int64_t> inside{0};
    struct Inside {
        std::atomic<int64_t>& number;
        ~Inside() { --number; }
    };
    try {
        splat::parallel_for(count, 1, [&](int64_t begin, int64_t, int) {
            ++inside;
            Inside leaves{inside};
            if (begin % 3 == 2) throw std::bad_alloc();
            for (volatile int spin = 0; spin < 20000;) spin = spin + 1;
        });
    } catch (const std::bad_alloc&) {
        *running = inside;
        return 1;
    }
    return 0;
}

// out[i] = function(a[i], b[i]) for n numbers: 0 exp, 1 log, 2 sigmoid, 3 fma(a, b, a), 4 min, 5 max, 6 floor, 7 sqrt,
// 8 |a| with b's sign, 9 a < b ? a : b, 10 rounded to the nearest integer, 11 sum over the vector a sits in.
SPLAT_API void splat_test_math(int which, int64_t n, const float* a, const float* b, float* out) {
    using namespace splat;
    for (int64_t i = 0; i < n; i += W) {
        const int left = static_cast<int>(n - i);
        const VF x = load_first(a + i, left), y = load_first(b + i, left);
        VF r = zero();
        switch (which) {
            case 0: r = exp(x); break;
            case 1: r = log(x); break;
            case 2: r = sigmoid(x); break;
            case 3: r = fma(x, y, x); break;
            case 4: r = min(x, y); break;
            case 5: r = max(x, y); break;
            case 6: r = floor(x); break;
            case 7: r = sqrt(x); break;
            case 8: r = copysign(x, y); break;
            case 9: r = select(lt(x, y), x, y); break;
            case 10: r = to_float(round_int(x)); break;
            case 11: r = set1(sum(x)); break;
        }
        store_first(out + i, r, left);
    }
}

// Which of none, any, all hold for x < y over each vector of W lanes (bits 1, 2, 4), and how many lanes (times 8).
SPLAT_API void splat_test_masks(int64_t n, const float* a, const float* b, int32_t* out) {
    using namespace splat;
    for (int64_t i = 0; i + W <= n; i += W) {
        const VM m = lt(load(a + i), load(b + i)) & ~eq(load(a + i), set1(0.0f));
        out[i / W] = none(m) | any(m) << 1 | all(m) << 2 | count(m) << 3;
    }
}
SPLAT_API int splat_vector_width() { return splat::W; }
