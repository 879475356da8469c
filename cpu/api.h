// What every exported function shares. The library speaks plain C on raw pointers: no PyTorch headers, no ABI to match.
#pragma once

#include <cstdint>

#define SPLAT_API extern "C" __attribute__((visibility("default")))
