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

enum lock_rank {
    LOCK_RANK_TARGET = 1, /* changes of a domain's target, one at a time */
    LOCK_RANK_DOMAIN = 2, /* agent/guest.c: the domain, its counters and latencies */
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};

#define LOCK_INITIALIZER(the_rank)                                                                 \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, (the_rank)                                                      \
    }

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);

#endif
