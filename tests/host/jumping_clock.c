/* SPDX-License-Identifier: MIT */
/*
 * A clock that jumps, to be preloaded: each time that somebody asks for the time of day
 * it has been set, ten years ahead and back in turn. The monotonic clocks go on as ever,
 * as they do when an operator or a time server sets the clock.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define JUMP_S ((time_t)10 * 365 * 86400)

EXPORT int clock_gettime(clockid_t clock, struct timespec *now);
EXPORT time_t time(time_t *seconds);

static atomic_uint asked;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*_Atomic original)(clockid_t clock, struct timespec * now);
    if (original == NULL) {
        original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int err = original(clock, now);
    if (err == 0 && clock == CLOCK_REALTIME) {
        now->tv_sec += atomic_fetch_add(&asked, 1) % 2 == 0 ? JUMP_S : -JUMP_S;
    }
    return err;
}

time_t time(time_t *seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds != NULL) {
        *seconds = now.tv_sec;
    }
    return now.tv_sec;
}
