/* SPDX-License-Identifier: MIT */
/*
 * A guest: its domain, its host, and the threads that serve it. What the agent
 * and libballast have in common: it knows neither QEMU nor a control socket, ends
 * no process and prints nothing.
 *
 * Any thread may call these functions, but guest_build and guest_end, which begin
 * and end its life. Its threads run from the one to the other, or to the end of
 * the process.
 */
#ifndef BALLAST_GUEST_GUEST_H
#define BALLAST_GUEST_GUEST_H

#include "engine/domain.h"
#include "host/blocks.h"
#include "host/memory.h"

/* Defined in guest/state.h. */
struct guest;

enum guest_event_kind {
    GUEST_BUILT,          /* the target is there; the guest may run */
    GUEST_LOW_CACHE,      /* not covered, and few pages are left: see guest.c */
    GUEST_EXHAUSTED,      /* somebody waits for a page that cannot be had */
    GUEST_RESUMED,        /* nobody does any more */
    GUEST_TARGET_CHANGED, /* by an operator */
    GUEST_TARGET_REACHED, /* total has come down to it, or gone up */
    GUEST_COVERED,        /* the domain can no longer run out */
    GUEST_DYING,
};

struct guest_options {
    /* What guest RAM may grow to, by guest_plug (plug.h); 0: no more than there is. */
    uint64_t span_bytes;
    bool reserve; /* keep a reserve of cached superpages */
    void *owner;  /* passed to what follows */
    /* Called, under the domain's lock, when there is a new event: must neither
     * wait nor call back. May be NULL. */
    void (*on_event)(void *owner, enum guest_event_kind kind);
    /* Called without locks while the domain is built, on the thread that builds
     * it: the host has given that much of the target. May be NULL. */
    void (*on_building)(void *owner, uint64_t ready_bytes, uint64_t bytes);
    /* Called without locks on a thread of ours: the guest has begun to use memory that it
     * was given while it ran (plug.h). May be NULL. */
    void (*on_taken)(void *owner);
    /* Called without locks on the thread that serves faults: somebody touched `at`
     * and cannot go on. -ENOSPC: the domain is exhausted; -EAGAIN: for ten seconds the
     * host could not place a page there. If it returns, whoever it is waits, and is
     * tried again when there may be pages, and now and then: then it is called again. */
    void (*on_unserved)(void *owner, gfn_t at, int err);
    /*
     * Called on any thread, under the domain's lock or not: the domain's state is
     * wrong, or cannot be got at. The guest's memory can no longer be vouched for: it
     * must call guest_freeze(), and nothing else of this file. If it returns, what was
     * under way fails with -EIO, and so does all else but guest_end. May be called
     * more than once, by several threads.
     */
    void (*on_broken)(void *owner, const char *operation, gfn_t at);
};

struct guest_event {
    enum guest_event_kind kind;
    uint64_t realtime_ns; /* since 1970 */
    pages_t target_pages, total_pages, cache_pages, pod_entries_pages;
};

/* Events that are kept for a reader who is slow. */
#define GUEST_EVENTS_KEPT 64

/* A snapshot of everything that can be counted. */
struct guest_report {
    enum domain_state state;
    pages_t max_pages, target_pages, total_pages;
    pages_t populated_pages, cache_pages, pod_entries_pages, out_pages;
    pages_t given_pages;      /* of out_pages and of cache_pages: not collected yet */
    pages_t cache_superpages; /* in superpages, not pages */
    bool covered, shrinking;
    pages_t growing_pages;       /* that the build or a larger target is bringing, */
    pages_t growing_ready_pages; /* of them those that are there */
    struct domain_counters counters;
    pages_t refilled_pages; /* that the kernel took back unasked, and that were brought back */
    uint64_t fault_p50_ns, fault_p99_ns, fault_max_ns;
    haddr_t cache;
    uint64_t cache_bytes;
    unsigned blocks; /* of guest RAM; never 0 once there is a domain */
    struct host_block ram[BLOCKS_MAX];
};

/* Why a build failed: the step, and for memory what could be had. */
enum guest_failure {
    GUEST_FAILED_UFFD,     /* no userfaultfd */
    GUEST_FAILED_REGISTER, /* guest RAM or cache could not be registered */
    GUEST_FAILED_METADATA, /* no address space for our own books */
    GUEST_FAILED_MEMORY,   /* the host does not have the target */
    GUEST_FAILED_THREAD,   /* no thread, or no descriptor */
};

struct guest_problem {
    enum guest_failure failure;
    uint64_t available_bytes;
    enum memory_limit limit;
};

/*
 * Builds the domain: on return the target is in its cache, all of it, or as much as
 * this RAM may hold if more may follow (span_bytes), and
 * whoever touches guest RAM waits for the fault thread. RAM must be untouched.
 * `guest` is as GUEST_INITIALIZER makes it. On error the guest must not run, and
 * guest_end undoes what was done.
 */
int guest_build(struct guest *guest, haddr_t ram, uint64_t ram_bytes, uint64_t target_bytes,
                const struct guest_options *options, struct guest_problem *problem);

/*
 * Ends its life: ends its threads, and gives back all that guest_build took. Guest
 * RAM is ordinary memory again, with what is in it; whoever waits for a page gets one
 * of zeros. No other thread may be in a function of this file, or call one later.
 */
void guest_end(struct guest *guest);

/* Whether there is a domain (built, dying or broken), and whether a range
 * has any part in its RAM. */
bool guest_exists(const struct guest *guest);
bool guest_owns(const struct guest *guest, haddr_t at, uint64_t bytes);

/* The VMM gives up the contents of part of guest RAM. Parts of pages at the ends
 * stay as they are, as does what is not guest RAM. -ESHUTDOWN if the domain is dying:
 * then pages are the host's to take. */
int guest_discard(struct guest *guest, haddr_t at, uint64_t bytes);

/* The guest's balloon gives up part of guest RAM, or takes it back; else as above. */
int guest_give_up(struct guest *guest, haddr_t at, uint64_t bytes);
int guest_take_back(struct guest *guest, haddr_t at, uint64_t bytes);

/* Calls a function for all that is OUT, run by run, with the domain's lock held:
 * until it returns, nobody can touch these pages or take them back. */
void guest_for_each_out(struct guest *guest, void (*function)(haddr_t at, uint64_t bytes));

/*
 * The guest starts anew: it has given up nothing, and all of its RAM but the first
 * `kept_bytes` is POD, as when it was started first. If what it held were kept it would need
 * pages for that and for what it uses now: a second boot takes other pages than the first.
 */
int guest_restart(struct guest *guest, uint64_t kept_bytes);

/*
 * Changes the target. -EINVAL if it is below one superpage or above max,
 * -ENOMEM if the host has not what it lacks (problem->available_bytes and
 * limit say what there is), -EAGAIN if the host cannot move it in just now,
 * -ESHUTDOWN if the domain is dying, -EBUSY while it is being built, or if
 * another change is under way: in each case nothing has changed.
 *
 * If *more is set, memory must first be brought from the host: nothing has
 * changed yet, and guest_set_target_step is to be called until it clears *more,
 * or fails as this does.
 */
int guest_set_target(struct guest *guest, uint64_t target_bytes, bool *more,
                     struct guest_problem *problem);
int guest_set_target_step(struct guest *guest, bool *more, struct guest_problem *problem);

/* The domain begins to die: its cache goes back to the host, and whoever
 * touches a missing page waits for guest_end, or the end of the process. */
void guest_die(struct guest *guest);

/* Takes guest RAM from the guest, all of it, for good: whoever touches it waits, for
 * guest_end or the end of the process. Takes no lock. */
void guest_freeze(const struct guest *guest);

/* Zeros, in state DOMAIN_BUILDING, before there is a domain. */
void guest_describe(struct guest *guest, struct guest_report *report);

/* Copies the oldest event from number *next on and moves *next past it. If
 * events from *next on were dropped, it starts with the oldest that is kept.
 * False if there is none. */
bool guest_next_event(struct guest *guest, uint64_t *next, struct guest_event *event);

#endif
