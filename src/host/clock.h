/* SPDX-License-Identifier: MIT */
/* Time: monotonic, in nanoseconds. A clock that the operator sets is of no use here. */
#ifndef BALLAST_HOST_CLOCK_H
#define BALLAST_HOST_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The same to some milliseconds, for a fraction of the time. */
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
