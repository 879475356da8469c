// Which build variants of the core this processor can run. Compiled for the oldest supported processor,
// so that it may be called before anything is known about the machine.
#include "api.h"

// Space-separated names, slowest first.
SPLAT_API const char* splat_probe_variants() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd");
    return avx512 ? "sse2 avx2 avx512" : avx2 ? "sse2 avx2" : "sse2";
#else
    return "neon";
#endif
}
