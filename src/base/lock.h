/* SPDX-License-Identifier: MIT */
/*
 * Mutexes with ranks.
 *
 * A thread may take a lock only if its rank is above that of every lock that
 * it holds: no cycle, no deadlock. Debug builds (without NDEBUG) check this at
 * each acquisition and abort where it does not hold.
 *
 * The ranks, in the order in which locks may be taken:
 */
#ifndef BALLAST_BASE_LOCK_H
#define BALLAST_BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
    LOCK_RANK_TARGET = 1, /* guest/target.c: changes of the target, one at a time */
    LOCK_RANK_DOMAIN = 2, /* guest/guest.c: the domain, its counters, latencies and events */
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
    atomic_uint wanted; /* threads in lock_acquire_first */
};

#define LOCK_INITIALIZER(the_rank)                                                                 \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, (the_rank), 0                                                   \
    }

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);

/* The same as lock_acquire, but only until a moment of CLOCK_MONOTONIC: false if it
 * could not be had. */
bool lock_acquire_until(struct lock *lock, uint64_t moment_ns);

/* As lock_acquire, for a thread that must not wait long: who holds the lock for
 * long work can see that it is wanted, and lets go of it until it is not. */
void lock_acquire_first(struct lock *lock);

static inline bool lock_is_wanted(const struct lock *lock)
{
    return atomic_load_explicit(&lock->wanted, memory_order_relaxed) != 0;
}

/* Lets go of the lock, waits for the condition, and takes the lock again.
 * Returns also for no reason: look again at what was waited for. */
void lock_wait(struct lock *lock, pthread_cond_t *condition);

/* The same, until a moment of CLOCK_MONOTONIC at the latest. */
void lock_wait_until(struct lock *lock, pthread_cond_t *condition, uint64_t moment_ns);

#endif
