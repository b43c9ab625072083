/* SPDX-License-Identifier: MIT */
/* Time: monotonic. A clock that the operator sets is of no use here. The engine reads
 * none. */
#ifndef BALLAST_BASE_CLOCK_H
#define BALLAST_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The same in whole milliseconds, for deadlines and time limits. */
static inline int64_t clock_now_ms(void)
{
    return (int64_t)(clock_now_ns() / UINT64_C(1000000));
}

/* The same as clock_now_ns() to some milliseconds, for a fraction of the time. */
static inline uint64_t clock_coarse_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Sleeps, or returns earlier if a signal comes. */
static inline void clock_sleep_ns(uint64_t ns)
{
    struct timespec time = {(time_t)(ns / UINT64_C(1000000000)), (long)(ns % UINT64_C(1000000000))};
    nanosleep(&time, NULL);
}

#endif
