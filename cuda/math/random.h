// What the CPU's and the GPU's random numbers share: the constants of Philox4x32 with 10 rounds (Salmon et al. 2011,
// "Parallel random numbers: as easy as 1, 2, 3"). Both draw the same numbers from the same key and counter.
#pragma once

namespace splat {

constexpr int PHILOX_ROUNDS = 10;
constexpr unsigned PHILOX_FACTOR_0 = 0xD2511F53u, PHILOX_FACTOR_1 = 0xCD9E8D57u;
constexpr unsigned PHILOX_WEYL_0 = 0x9E3779B9u, PHILOX_WEYL_1 = 0xBB67AE85u;
constexpr float RANDOM_UNIT = 5.9604644775390625e-8f;  // 2⁻²⁴

}  // namespace splat
