/* SPDX-License-Identifier: MIT */
#include "base/histogram.h"

#include <stddef.h>

#define SUB_BITS 3
#define SUB      (UINT64_C(1) << SUB_BITS)

/* Below 8 each value has a bucket; above, the top four bits choose it. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < SUB) {
        return (size_t)ns;
    }
    unsigned exponent = 63 - (unsigned)__builtin_clzll(ns);
    return (size_t)((exponent - SUB_BITS + 1) * SUB + ((ns >> (exponent - SUB_BITS)) & (SUB - 1)));
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_end(size_t bucket)
{
    if (bucket < SUB) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket / SUB - 1);
    return ((SUB + bucket % SUB + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->count++;
    histogram->buckets[bucket_of(ns)]++;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

uint64_t histogram_quantile(const struct histogram *histogram, double percent)
{
    if (histogram->count == 0) {
        return 0;
    }
    double wanted = (double)histogram->count * percent / 100.0;
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen != 0 && (double)seen >= wanted) {
            uint64_t end = bucket_end(bucket);
            return end < histogram->max_ns ? end : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}
