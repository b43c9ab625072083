/* SPDX-License-Identifier: MIT */
/*
 * The last operations on the domain, for the report of one that went wrong.
 *
 * A ring of fixed size: adding neither allocates nor waits. What repeats itself
 * without change is counted in one record, so that a thousand tries do not push
 * out what led to them. The domain's lock guards it.
 */
#ifndef BALLAST_GUEST_HISTORY_H
#define BALLAST_GUEST_HISTORY_H

#include "engine/domain.h"

#define HISTORY_KEPT 64

/* One operation, and the counts as it left them. */
struct history_record {
    const char *operation; /* a constant */
    gfn_t at;
    pages_t pages;
    int err; /* what the engine returned */
    uint64_t times;
    uint64_t last_ns; /* CLOCK_MONOTONIC, to some milliseconds, of the last time */
    pages_t total_pages, cache_pages, in_place_pages; /* in_place: P + G */
};

struct history {
    uint64_t operations; /* that were added; to be read atomically without the lock */
    uint64_t made;       /* records; number n is at n % HISTORY_KEPT */
    struct history_record records[HISTORY_KEPT];
};

/* Adds an operation that has just ended. */
void history_add(struct history *history, const struct domain *domain, const char *operation,
                 gfn_t at, pages_t pages, int err);

#endif
