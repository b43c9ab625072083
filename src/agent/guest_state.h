/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the agent that serve the guest share: guest.c (its life and
 * what others ask of it), faults.c (the thread that serves faults) and upkeep.c
 * (the thread that works ahead).
 */
#ifndef BALLAST_AGENT_GUEST_STATE_H
#define BALLAST_AGENT_GUEST_STATE_H

#include "agent/guest.h"
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

/* End the process: the domain ran out, or its state is wrong. Any thread; it
 * need not hold the lock, for nobody else will use the domain again. */
__attribute__((noreturn)) void guest_stop_exhausted(gfn_t at);
__attribute__((noreturn)) void guest_stop_broken(const char *operation, gfn_t at);

/* Start a thread of ours: detached, deaf to signals, with a small stack. */
int guest_start_thread(const char *name, void *(*function)(void *));

/* The threads. */
void *faults_thread(void *unused);
void *upkeep_thread(void *unused);

#endif
