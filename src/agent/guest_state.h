/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the agent that serve the guest share: guest.c (its life and
 * what others ask of it), faults.c (the thread that serves faults) and upkeep.c
 * (the thread that works ahead).
 */
#ifndef BALLAST_AGENT_GUEST_STATE_H
#define BALLAST_AGENT_GUEST_STATE_H

#include "agent/guest.h"
#include "agent/history.h"
#include "base/histogram.h"
#include "base/lock.h"
#include "host/linux_host.h"

#include <pthread.h>
#include <stdatomic.h>

struct guest_state {
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
    bool low_noted, covered_noted, reached_noted; /* events that stand until undone */
    bool upkeep_idle;                             /* upkeep.c waits for work... */
    bool upkeep_calm;                             /* ...and for superpages to recover */
    pthread_cond_t upkeep;

    /* Written by guest_build before `exists`; constant from then on. */
    struct guest_options options;
    struct linux_host host;
    void *metadata;
    int kick_fd; /* an eventfd: waiting faults may have a page now */
    atomic_bool exists;
};

extern struct guest_state guest;

/* Under the lock: makes an event. Neither waits nor allocates. */
void guest_note(enum guest_event_kind kind);

/* Under the lock, after anything that moved pages: makes the events that the
 * new counts call for, and wakes the upkeep if there is work for it. */
void guest_settled(void);

/* Waiting faults may have a page now. */
void guest_kick(void);

/*
 * Under the lock, after each operation on the domain: keeps it for a report, and
 * sees whether the sums of the equations hold still. If not, or if the error is
 * -EIO, the process ends. Returns the error.
 */
int guest_did(const char *operation, gfn_t at, pages_t pages, int err);

/* Under the lock: sees whether all equations hold, which takes a pass over the
 * metadata. If not, the process ends. */
void guest_check(const char *when);

/* Ends the process: the domain ran out. Any thread; it need not hold the lock. */
__attribute__((noreturn)) void guest_stop_exhausted(gfn_t at);

/*
 * Ends the process: the domain's state is wrong, or cannot be got at. The guest
 * is frozen at once: its memory can no longer be vouched for. Then a report is
 * left (see postmortem.h) and printed, after a line that says where it is. Any
 * thread; it need not hold the lock, for nobody else may use the domain again.
 */
__attribute__((noreturn)) void guest_stop_broken(const char *operation, gfn_t at);

/* Start a thread of ours: detached, deaf to signals, with a small stack. */
int guest_start_thread(const char *name, void *(*function)(void *));

/* The threads. */
void *faults_thread(void *unused);
void *upkeep_thread(void *unused);
void *watch_thread(void *unused);

#endif
