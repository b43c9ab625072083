/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps of one superpage: 512 bits, bit i for page i.
 *
 * All ranges are [at, at + count) with at + count <= 512.
 */
#ifndef BALLAST_BASE_BITMAP_H
#define BALLAST_BASE_BITMAP_H

#include "base/types.h"

#define BITMAP_WORDS (SUPERPAGE_PAGES / 64)

struct bitmap {
    uint64_t words[BITMAP_WORDS];
};

static inline bool bitmap_test(const struct bitmap *map, pages_t bit)
{
    return (map->words[bit / 64] >> (bit % 64)) & 1;
}

/* The bits [at, at + count) that fall into word w, as a mask of that word. */
static inline uint64_t bitmap_word_mask(pages_t w, pages_t at, pages_t count)
{
    uint64_t first = max_u64(at, w * 64), end = min_u64(at + count, w * 64 + 64);
    if (first >= end) {
        return 0;
    }
    return (~UINT64_C(0) >> (64 - (end - first))) << (first % 64);
}

static inline void bitmap_assign(struct bitmap *map, pages_t at, pages_t count, bool value)
{
    for (pages_t w = at / 64; w < BITMAP_WORDS && w * 64 < at + count; w++) {
        uint64_t mask = bitmap_word_mask(w, at, count);
        map->words[w] = value ? map->words[w] | mask : map->words[w] & ~mask;
    }
}

static inline pages_t bitmap_count(const struct bitmap *map, pages_t at, pages_t count)
{
    pages_t set = 0;
    for (pages_t w = at / 64; w < BITMAP_WORDS && w * 64 < at + count; w++) {
        set += (pages_t)__builtin_popcountll(map->words[w] & bitmap_word_mask(w, at, count));
    }
    return set;
}

/* The first bit of the given value in [at, end), or end. */
static inline pages_t bitmap_next(const struct bitmap *map, pages_t at, pages_t end, bool value)
{
    while (at < end) {
        uint64_t word = value ? map->words[at / 64] : ~map->words[at / 64];
        word >>= at % 64;
        if (word != 0) {
            return min_u64(at + (pages_t)__builtin_ctzll(word), end);
        }
        at = (at / 64 + 1) * 64;
    }
    return end;
}

#endif
