// What code compiled with -fsanitize=undefined -fno-sanitize-recover calls when something undefined happens: the sanitizer's own
// runtime, which would end the process, is not linked; here the kernel fails with one sentence.
#pragma once

#include "block.h"

namespace emulation {

// How the compiler describes a place in the source.
struct Source {
    const char* file;
    std::uint32_t line, column;
};

[[noreturn]] inline void undefined(const Source* at, const char* what) {
    const std::string file = at->file ? at->file : "unknown file";
    fail("undefined behaviour at " + file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(at->line) + ": " + what);
}

}  // namespace emulation

// Every description that the compiler passes begins with the place.
#define UNDEFINED(name, what, ...) \
    extern "C" inline void __attribute__((used, noreturn)) __ubsan_handle_##name##_abort(void* data, ##__VA_ARGS__) { \
        ::emulation::undefined(static_cast<const ::emulation::Source*>(data), what); \
    }

UNDEFINED(add_overflow, "signed sum overflows", void*, void*)
UNDEFINED(sub_overflow, "signed difference overflows", void*, void*)
UNDEFINED(mul_overflow, "signed product overflows", void*, void*)
UNDEFINED(negate_overflow, "signed negation overflows", void*)
UNDEFINED(divrem_overflow, "division by zero, or its result overflows", void*, void*)
UNDEFINED(shift_out_of_bounds, "shift by more bits than there are, or of a negative number", void*, void*)
UNDEFINED(out_of_bounds, "index outside of a local array", void*)
UNDEFINED(type_mismatch_v1, "null or misaligned pointer is used", void*)
UNDEFINED(alignment_assumption, "misaligned pointer is used", void*, void*, void*)
UNDEFINED(load_invalid_value, "bool or enum has another value than its type", void*)
UNDEFINED(float_cast_overflow, "float does not fit the integer it is converted to", void*)
UNDEFINED(vla_bound_not_positive, "array of no elements", void*)
UNDEFINED(invalid_builtin, "bit scan of zero")

extern "C" {
// The sums are unsigned here, as the compiler passes addresses.
inline void __attribute__((used, noreturn)) __ubsan_handle_pointer_overflow_abort(void* data, std::uintptr_t from, std::uintptr_t to) {
    ::emulation::undefined(static_cast<const ::emulation::Source*>(data),
                           from == 0 || to == 0 ? "null pointer plus an offset" : "pointer plus an offset leaves the address space");
}
inline void __attribute__((used, noreturn)) __ubsan_handle_builtin_unreachable(void* data) {
    ::emulation::undefined(static_cast<const ::emulation::Source*>(data), "a place that cannot be reached is");
}
inline void __attribute__((used, noreturn)) __ubsan_handle_missing_return(void* data) {
    ::emulation::undefined(static_cast<const ::emulation::Source*>(data), "a function ends without its value");
}
}

#undef UNDEFINED
