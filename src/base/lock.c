/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <stdlib.h>
#include <time.h>

/* Bit r: this thread holds a lock of rank r. Initial-exec, because the agent
 * lives in somebody else's process and must not allocate for this. */
#ifndef NDEBUG
static __thread unsigned held_ranks __attribute__((tls_model("initial-exec")));
#endif

void lock_init(struct lock *lock, enum lock_rank rank)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->rank = rank;
    atomic_init(&lock->wanted, 0);
}

static void note_held(const struct lock *lock)
{
#ifndef NDEBUG
    if (held_ranks >> lock->rank) {
        abort(); /* a lock of this rank or above is held */
    }
    held_ranks |= 1U << lock->rank;
#else
    (void)lock;
#endif
}

static void note_free(const struct lock *lock)
{
#ifndef NDEBUG
    held_ranks &= ~(1U << lock->rank);
#else
    (void)lock;
#endif
}

void lock_acquire(struct lock *lock)
{
    note_held(lock);
    pthread_mutex_lock(&lock->mutex);
}

static struct timespec as_timespec(uint64_t moment_ns)
{
    const uint64_t second_ns = UINT64_C(1000000000);
    return (struct timespec){(time_t)(moment_ns / second_ns), (long)(moment_ns % second_ns)};
}

bool lock_acquire_until(struct lock *lock, uint64_t moment_ns)
{
    const struct timespec moment = as_timespec(moment_ns);
    note_held(lock);
    bool got = pthread_mutex_clocklock(&lock->mutex, CLOCK_MONOTONIC, &moment) == 0;
    if (!got) {
        note_free(lock);
    }
    return got;
}

void lock_acquire_first(struct lock *lock)
{
    atomic_fetch_add_explicit(&lock->wanted, 1, memory_order_relaxed);
    lock_acquire(lock);
    atomic_fetch_sub_explicit(&lock->wanted, 1, memory_order_relaxed);
}

void lock_release(struct lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
    note_free(lock);
}

void lock_wait(struct lock *lock, pthread_cond_t *condition)
{
    /* The rank stays held: this thread takes no other lock meanwhile. */
    pthread_cond_wait(condition, &lock->mutex);
}

void lock_wait_until(struct lock *lock, pthread_cond_t *condition, uint64_t moment_ns)
{
    const struct timespec moment = as_timespec(moment_ns);
    pthread_cond_clockwait(condition, &lock->mutex, CLOCK_MONOTONIC, &moment);
}
