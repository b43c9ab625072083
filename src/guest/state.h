/* SPDX-License-Identifier: MIT */
/*
 * What the parts that serve a guest share: life.c (it begins and ends), plug.c (memory
 * that comes later, and goes), target.c (memory is brought from the host), guest.c (what
 * others ask of it), faults.c (the thread that serves faults), upkeep.c (the thread that
 * works ahead) and watch.c (the thread that sees to it that all is well).
 */
#ifndef BALLAST_GUEST_STATE_H
#define BALLAST_GUEST_STATE_H

#include "base/histogram.h"
#include "base/lock.h"
#include "guest/guest.h"
#include "guest/history.h"
#include "host/linux_host.h"

#include <pthread.h>
#include <stdatomic.h>

/* Faults that can wait for pages. */
#define GUEST_WAITING_MAX 1024

struct waiting_fault {
    gfn_t at;
    uint64_t read_ns;
};

#define GUEST_THREADS 3

struct guest {
    /* Guards what prepares memory on the host, in host.aside: the build, or one
     * change of the target; and the target that this is for, or 0. */
    struct lock target_lock;
    pages_t growing_to_pages;

    /* Guards the members from here to `upkeep`. */
    struct lock lock;
    struct domain domain;
    struct history history;
    struct histogram latency;
    struct guest_event events[GUEST_EVENTS_KEPT]; /* number n is at n % GUEST_EVENTS_KEPT */
    uint64_t events_made;
    pages_t growing_pages, growing_ready_pages;   /* see struct guest_report */
    pages_t ordered_pages;                        /* the target to start with, and... */
    bool built;                                   /* ...whether the domain has it */
    bool unused[BLOCKS_MAX];                      /* blocks of guest RAM: see plug.h */
    unsigned fresh;                               /* how many it has not touched yet, */
    bool is_fresh[BLOCKS_MAX];                    /* and which */
    bool low_noted, covered_noted, reached_noted; /* events that stand until undone */
    bool upkeep_idle;                             /* upkeep.c waits for work... */
    bool upkeep_calm;                             /* ...and for superpages to recover */
    pthread_cond_t upkeep;

    /* Known to the fault thread alone. */
    struct waiting_fault waiting[GUEST_WAITING_MAX];
    unsigned waiting_count;
    uint64_t retry_ns; /* when they are tried again without a kick */

    /* Written by guest_build before `exists`; constant from then on. */
    struct guest_options options;
    struct linux_host host;
    void *metadata;
    uint64_t metadata_bytes;
    int kick_fd; /* an eventfd: waiting faults may have a page now */
    int end_fd;  /* an eventfd: can be read from guest_end on */
    atomic_bool exists;

    /* Known to guest_build and guest_end. */
    pthread_t threads[GUEST_THREADS];
    unsigned thread_count;

    atomic_bool ending; /* guest_end has begun */
    atomic_bool broken; /* guest_broken was called */
};

#define GUEST_INITIALIZER                                                                          \
    {                                                                                              \
        .target_lock = LOCK_INITIALIZER(LOCK_RANK_TARGET),                                         \
        .lock = LOCK_INITIALIZER(LOCK_RANK_DOMAIN), .upkeep = PTHREAD_COND_INITIALIZER,            \
        .kick_fd = -1, .end_fd = -1,                                                               \
    }

/* Under the lock: makes an event. Neither waits nor allocates. */
void guest_note(struct guest *guest, enum guest_event_kind kind);

/* Under the lock, after anything that moved pages: makes the events that the
 * new counts call for, and wakes the upkeep if there is work for it. */
void guest_settled(struct guest *guest);

/* Waiting faults may have a page now. */
void guest_kick(const struct guest *guest);

/*
 * Under the lock, after each operation on the domain: keeps it for a report, and
 * sees whether the sums of the equations hold still. If not, or if the error is
 * -EIO, guest_broken() is called. Returns the error, -EIO if it is broken.
 */
int guest_did(struct guest *guest, const char *operation, gfn_t at, pages_t pages, int err);

/* Under the lock: sees whether all equations hold, which takes a pass over the
 * metadata. If not, calls guest_broken(). */
void guest_check(struct guest *guest, const char *when);

/* The domain's state is wrong, or cannot be got at: see on_broken. Any thread; it need
 * not hold the lock. */
void guest_broken(struct guest *guest, const char *operation, gfn_t at);

/* Whether its threads have nothing left to do. */
static inline bool guest_is_over(const struct guest *guest)
{
    return atomic_load(&guest->ending) || atomic_load(&guest->broken);
}

/* In target.c: brings the target, all of it or nothing, into the new domain's cache. */
int guest_fill_cache(struct guest *guest);

/* The same while the machine is made, of what lacks to the ordered target, as far as
 * there is RAM for it by now. Errors are those of guest_build. */
int guest_grow_to_order(struct guest *guest, struct guest_problem *problem);

/* In plug.c, under the lock: whether the guest has begun to use blocks that it was given
 * while it ran; those are POD then. Work: a pass over their entries. */
bool guest_take_fresh(struct guest *guest);

/* Under the lock: if all that was ordered is there, the guest may run. */
void guest_note_built(struct guest *guest);

/* The threads. */
void *faults_thread(void *guest);
void *upkeep_thread(void *guest);
void *watch_thread(void *guest);

#endif
