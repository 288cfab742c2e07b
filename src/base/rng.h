// SPDX-License-Identifier: MIT
// Random numbers by counting: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). Number i of stream t under seed s is a function of (s, t, i) alone, so the whole state is three integers,
// any number can be reached at once, and threads may take streams of their own. Not for secrets.
#ifndef FM_BASE_RNG_H
#define FM_BASE_RNG_H

#include <stdint.h>

// Save and restore by copying seed, stream and next.
struct fm__rng {
    uint64_t seed, stream;
    uint64_t next; // index of the next 32-bit number
};

// Multipliers and Weyl constants of the paper, table 2 and section 4.
enum { FM__PHILOX_ROUNDS = 10 };
#define FM__PHILOX_M0 0xd2511f53u
#define FM__PHILOX_M1 0xcd9e8d57u
#define FM__PHILOX_W0 0x9e3779b9u
#define FM__PHILOX_W1 0xbb67ae85u
void fm__philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]); // ten rounds

static inline struct fm__rng fm__rng_new(uint64_t seed, uint64_t stream)
{
    return (struct fm__rng){seed, stream, 0};
}
uint32_t fm__rng_u32(struct fm__rng *rng);
uint64_t fm__rng_u64(struct fm__rng *rng);               // two numbers, aligned: an odd one is skipped
double fm__rng_uniform(struct fm__rng *rng);             // [0, 1), 53 bits
uint64_t fm__rng_below(struct fm__rng *rng, uint64_t n); // 0 … n − 1 without bias; n > 0
double fm__rng_normal(struct fm__rng *rng);              // mean 0, variance 1 (Box and Muller), two uniforms each

#endif
