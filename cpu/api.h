// What every exported function shares. The library speaks plain C on raw pointers: no PyTorch headers, no ABI to match.
#pragma once

#include <cstdint>

namespace splat {

// What exported functions return. INVALID: a null pointer, a size, a range or an order of calls is wrong; nothing was written.
enum Status : int32_t { OK, OUT_OF_MEMORY, TOO_LARGE, INVALID };

// Whether n elements may be read at p, and whether a × b still counts in 64 bits with room for bytes.
inline bool readable(const void* p, int64_t n) { return n >= 0 && (n == 0 || p != nullptr); }
inline bool countable(int64_t a, int64_t b) { return a >= 0 && b >= 0 && (b == 0 || a <= (INT64_MAX >> 8) / b); }

}  // namespace splat

#define SPLAT_API extern "C" __attribute__((visibility("default")))
