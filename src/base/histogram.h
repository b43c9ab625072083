/* SPDX-License-Identifier: MIT */
/*
 * A histogram of durations in a fixed 4 KiB: eight buckets for each power of
 * two, so that a quantile is at most an eighth too high.
 *
 *   count = sum of the buckets
 *
 * Not thread safe.
 */
#ifndef BALLAST_BASE_HISTOGRAM_H
#define BALLAST_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 496

struct histogram {
    uint64_t count, max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);

/* The duration that `percent` (0 to 100) of those added did not exceed,
 * rounded up to its bucket's end; 0 if there are none. */
uint64_t histogram_quantile(const struct histogram *histogram, double percent);

#endif
